"""Vector instructions for the compiled CPU engine: three register-blocked inner loops, written in LLVM's vectors.

Numba vectorises plain loops, but keeps no block of accumulators in registers over a loop; these intrinsics do. A
vector has :data:`LANES` float32, as many as fit a register here; LLVM turns it into the instructions that there are.
Memory is given by addresses in bytes, which need not be aligned. Nothing here checks a bound: the callers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


def _lanes_and_registers() -> tuple[int, int]:
    """float32 per vector register, and how many such registers there are."""
    features = (config.CPU_FEATURES or get_host_cpu_features()).split(",")  # those that Numba compiles for
    if "+avx512f" in features:
        return 16, 32
    if "+avx" in features:
        return 8, 16
    return 4, 32 if binding.get_process_triple().startswith(("aarch64", "arm64")) else 16


LANES, REGISTERS = _lanes_and_registers()
# Sides of the blocks of inner products: all accumulators, one column of factors and one more fit the registers.
LEFT, RIGHT = (4, (5, 6)) if REGISTERS == 32 else (3, (3, 4))
EVEN_LEFT, EVEN_RIGHT = (4, 6) if REGISTERS == 32 else (4, 3)  # where the columns are a multiple of three
COPIES = 2  # of a table to which the lanes add in turn
VECTOR = ir.VectorType(FLOAT, LANES)
INDEX = ir.VectorType(INT32, LANES)


def vectors_beside(outputs: int) -> int:
    """How many vectors :func:`multiply_block` can take beside each other with all its accumulators in registers."""
    return max(1, min(4, (REGISTERS - 1) // (outputs + 1)))


def multiply_block(outputs: int, vectors: int) -> Callable[..., Any]:
    """An intrinsic that accumulates ``outputs`` x ``vectors`` registers over a list of taps.

        d[i, x] = sum_t a[t, i] s[o[t] + x],      i < outputs,  x < vectors * LANES.

    Its arguments are addresses and counts, all int64: s, the byte offsets o, a (contiguous, (taps, outputs)), the
    number of taps, d, and the distance of d's rows in bytes. The sum runs over t in order, by fused multiply-add where
    the processor has it.
    """

    @intrinsic
    def multiply(typingctx, source, offsets, factors, taps, target, pitch):
        def codegen(context, builder, signature, arguments):
            source, offsets, factors, taps, target, pitch = arguments
            zeros = [[zeros_of(VECTOR)] * vectors for _ in range(outputs)]

            def body(t, sums):
                start = builder.add(source, builder.load(pointer_at(builder, offsets, t, 8, INT64)))
                x = [load_vector(builder, start, j) for j in range(vectors)]
                row = builder.add(factors, builder.mul(t, INT64(4 * outputs)))
                for i in range(outputs):
                    a = splat(builder, builder.load(pointer_at(builder, row, INT64(i), 4, FLOAT)))
                    sums[i] = [multiply_add(builder, a, x[j], sums[i][j]) for j in range(vectors)]
                return sums

            sums = accumulate(builder, taps, zeros, body)
            for i in range(outputs):
                row = builder.add(target, builder.mul(pitch, INT64(i)))
                for j in range(vectors):
                    store_vector(builder, sums[i][j], row, j)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return multiply


def dot_block(left: int, right: int) -> Callable[..., Any]:
    """An intrinsic that accumulates ``left`` x ``right`` inner products over a row.

        d[i, j] += sum_x p[i, x] q[o[j] + x],      i < left,  j < right,  x < vectors * LANES.

    Its arguments, int64: p, the distance of p's rows in bytes, q, the address of the byte offsets o, the number of rows
    of pixels, the distances in bytes of p and q from one row of pixels to the next, the number of vectors in a row, and
    d (float64, contiguous).
    """

    @intrinsic
    def dot(typingctx, p, p_pitch, q, offsets, rows, p_row, q_row, vectors, target):
        def codegen(context, builder, signature, arguments):
            p, p_pitch, q, offsets, rows, p_row, q_row, vectors, target = arguments
            zeros = [[zeros_of(VECTOR)] * right for _ in range(left)]
            shifts = [builder.load(pointer_at(builder, offsets, INT64(j), 8, INT64)) for j in range(right)]
            p_rows = [builder.add(p, builder.mul(p_pitch, INT64(i))) for i in range(left)]
            q_rows = [builder.add(q, shift) for shift in shifts]

            def along_rows(y, sums):
                p_shift, q_shift = builder.mul(y, p_row), builder.mul(y, q_row)

                def along_columns(x, sums):
                    byte = builder.mul(x, INT64(4 * LANES))
                    p_byte, q_byte = builder.add(byte, p_shift), builder.add(byte, q_shift)
                    a = [builder.add(row, p_byte) for row in p_rows]
                    b = [builder.add(row, q_byte) for row in q_rows]
                    held = [load_vector(builder, row, 0) for row in (a if left <= right else b)]
                    for turn, row in enumerate(b if left <= right else a):
                        other = load_vector(builder, row, 0)
                        for place, value in enumerate(held):
                            i, j = (place, turn) if left <= right else (turn, place)
                            sums[i][j] = multiply_add(builder, value, other, sums[i][j])
                    return sums

                return accumulate(builder, vectors, sums, along_columns)

            sums = accumulate(builder, rows, zeros, along_rows)
            for number, totals in enumerate(_totals(builder, [value for row in sums for value in row])):
                kind = ir.VectorType(ir.DoubleType(), totals.type.count)
                cell = pointer_at(builder, target, INT64(number * LANES), 8, kind)
                found = builder.fadd(builder.load(cell, align=8), builder.fpext(totals, kind))
                builder.store(found, cell, align=8)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), codegen

    return dot


@intrinsic
def copy_floats(typingctx, source, target, count):
    """``count`` float32 from one address to another; they do not overlap."""

    def codegen(context, builder, signature, arguments):
        source, target, count = arguments
        places = (builder.inttoptr(place, FLOAT.as_pointer()) for place in (target, source))
        cgutils.raw_memcpy(builder, *places, count, 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def influence_block(typingctx, z, table, slope, offset, last, factor):
    """z <- factor T(slope z + offset) on one vector in memory, in place.

    T is linear between its samples and constant beyond them; ``table`` holds, for each of them, T and the rise to the
    next as two float32 in one word, so that one load fetches both. A NaN stays one, and reads nothing out of bounds.
    """

    def codegen(context, builder, signature, arguments):
        z, table, slope, offset, last, factor = arguments
        _, _, t, left, rise = _look_up(builder, load_vector(builder, z, 0), table, slope, offset, last)
        value = multiply_add(builder, t, rise, left)
        store_vector(builder, builder.fmul(value, splat(builder, factor)), z, 0)
        return context.get_dummy_value()

    numbers = [types.float32] * 4
    return types.void(types.int64, types.int64, *numbers), codegen


@intrinsic
def influence_gradient_block(typingctx, z, w, table, slope, offset, last, factor, first, stop, cells, pitch, sums):
    """What the backward pass needs of one vector of responses z and of w = K g; position = slope z + offset.

    In place: z <- factor T, w <- factor slope T' w, with T' the rise to the next sample, 0 where the position is
    clamped. Lanes from ``first`` on, before ``stop``, are summed: factor w (1 - t) and factor w t are added to the
    sample's pair in the table at ``cells``, of which :data:`COPIES`, ``pitch`` bytes apart, take turns, since an
    addition waits for the one before it to the same place; two vectors at ``sums`` take w T and w T' z.
    """

    def codegen(context, builder, signature, arguments):
        z_address, w_address, table, slope, offset, last, factor, first, stop, cells, pitch, sums = arguments
        z, w = load_vector(builder, z_address, 0), load_vector(builder, w_address, 0)
        inside, numbers, t, left, rise = _look_up(builder, z, table, slope, offset, last)
        value = multiply_add(builder, t, rise, left)
        bend = builder.select(inside, rise, zeros_of(VECTOR))
        scale = splat(builder, factor)
        store_vector(builder, builder.fmul(value, scale), z_address, 0)
        growth = builder.fmul(builder.fmul(w, bend), builder.fmul(scale, splat(builder, slope)))
        store_vector(builder, growth, w_address, 0)
        lane = ir.Constant(INDEX, list(range(LANES)))
        owned = builder.and_(
            builder.icmp_signed(">=", lane, splat(builder, builder.trunc(first, INT32))),
            builder.icmp_signed("<", lane, splat(builder, builder.trunc(stop, INT32))),
        )
        w = builder.select(owned, w, zeros_of(VECTOR))
        for number, term in enumerate((value, builder.fmul(bend, z))):
            term = builder.fmul(w, builder.select(owned, term, zeros_of(VECTOR)))
            store_vector(builder, builder.fadd(load_vector(builder, sums, number), term), sums, number)
        weight = builder.fmul(w, scale)
        above = builder.fmul(weight, builder.select(owned, t, zeros_of(VECTOR)))
        _scatter(builder, numbers, builder.fsub(weight, above), above, cells, pitch)
        return context.get_dummy_value()

    numbers = [types.float32] * 4
    return types.void(*[types.int64] * 3, *numbers, *[types.int64] * 5), codegen


def _scatter(builder: Any, numbers: list[Any], left: Any, right: Any, cells: Any, pitch: Any) -> None:
    """Add pairs (left, right) to the cells of these numbers, lane by lane."""
    pair = ir.VectorType(FLOAT, 2)
    for lane in range(LANES):
        cell = builder.add(cells, builder.mul(pitch, INT64(lane % COPIES)))
        place = pointer_at(builder, cell, numbers[lane], 8, pair)
        term = ir.Constant(pair, ir.Undefined)
        for half, values in enumerate((left, right)):
            term = builder.insert_element(term, builder.extract_element(values, INT32(lane)), INT32(half))
        builder.store(builder.fadd(builder.load(place, align=4), term), place, align=4)


def _look_up(
    builder: Any, z: Any, table: Any, slope: Any, offset: Any, last: Any
) -> tuple[Any, list[Any], Any, Any, Any]:
    """Whether the position is inside the table, its samples, the remainder, and T and its rise there."""
    raw = multiply_add(builder, z, splat(builder, slope), splat(builder, offset))
    top = splat(builder, last)
    # Ordered comparisons: a NaN looks up the first sample, and is put back into the remainder.
    low = builder.select(builder.fcmp_ordered(">", raw, zeros_of(VECTOR)), raw, zeros_of(VECTOR))
    position = builder.select(builder.fcmp_ordered("<", low, top), low, top)
    whole = builder.fptosi(position, INDEX)
    highest = builder.sub(builder.fptosi(top, INDEX), ir.Constant(INDEX, [1] * LANES))
    i = builder.select(builder.icmp_signed("<", whole, highest), whole, highest)
    remainder = builder.fsub(position, builder.sitofp(i, VECTOR))
    t = builder.select(builder.fcmp_unordered("uno", raw, raw), raw, remainder)
    inside = builder.fcmp_ordered("==", position, raw)
    # One 64-bit load a lane is faster than the gather instructions of current processors; words arrive in the order in
    # which one instruction each tells samples and rises apart.
    numbers = _by_memory(builder, i)
    words = [ir.Constant(ir.VectorType(INT64, LANES // 2), ir.Undefined)] * 2
    for lane, number in enumerate(numbers):
        pair, half = divmod(lane, 2)
        word = builder.load(pointer_at(builder, table, number, 8, INT64))
        words[pair % 2] = builder.insert_element(words[pair % 2], word, INT32(pair // 2 * 2 + half))
    first, second = (builder.bitcast(word, VECTOR) for word in words)
    blocks = range(0, LANES, 4)
    left, rise = (
        builder.shuffle_vector(
            first,
            second,
            ir.Constant(INDEX, [start + block + place for block in blocks for place in (0, 2, LANES, LANES + 2)]),
        )
        for start in (0, 1)
    )
    return inside, numbers, t, left, rise


def _by_memory(builder: Any, integers: Any) -> list[Any]:
    """The lanes of a vector of int32 as int64, each loaded from where the vector was stored.

    A load takes less than an instruction that moves a lane from one register file to the other, which LLVM would use
    instead, did not an instruction of nothing stand between: for all it knows, that changes the memory.
    """
    memory = cgutils.alloca_once(builder, integers.type)
    builder.store(integers, memory)
    nothing = ir.FunctionType(ir.VoidType(), [memory.type])
    builder.asm(nothing, "", "r,~{memory}", [memory], True)
    first = builder.bitcast(memory, INT32.as_pointer())
    return [builder.zext(builder.load(builder.gep(first, [INT32(lane)])), INT64) for lane in range(LANES)]


def accumulate(builder: Any, count: Any, initial: list[list[Any]], body: Callable[..., Any]) -> list[list[Any]]:
    """A loop of ``count`` >= 0 turns over a table of values that stay in registers."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    t = builder.phi(INT64)
    t.add_incoming(INT64(0), before)
    values = [[builder.phi(value.type) for value in row] for row in initial]
    for row, starts in zip(values, initial, strict=True):
        for phi, start in zip(row, starts, strict=True):
            phi.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", t, count), inside, after)
    builder.position_at_end(inside)
    results = body(t, [list(row) for row in values])
    t.add_incoming(builder.add(t, INT64(1)), builder.block)
    for row, news in zip(values, results, strict=True):
        for phi, new in zip(row, news, strict=True):
            phi.add_incoming(new, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def _totals(builder: Any, vectors: list[Any]) -> list[Any]:
    """The sums over the lanes of each vector, in order, as many to a vector as it has lanes; the last may be shorter.

    Two vectors at a time are folded into one, until a lane holds a total.
    """
    count, groups = len(vectors), 1  # groups of lanes of one vector, a group for each of those folded into it
    while groups < LANES:
        width, half = LANES // groups, LANES // groups // 2
        places = [which * LANES + group * width for which in (0, 1) for group in range(groups)]
        low, high = (
            ir.Constant(INDEX, [place + start + lane for place in places for lane in range(half)])
            for start in (0, half)
        )
        vectors = [*vectors, vectors[-1]] if len(vectors) % 2 else vectors
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [
            builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)) for a, b in pairs
        ]
        groups *= 2
    left = count % LANES
    if left:
        some = ir.Constant(ir.VectorType(INT32, left), list(range(left)))
        vectors[-1] = builder.shuffle_vector(vectors[-1], vectors[-1], some)
    return vectors


def pointer_at(builder: Any, address: Any, number: Any, size: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, builder.mul(number, INT64(size))), kind.as_pointer())


def load_vector(builder: Any, address: Any, number: int) -> Any:
    return builder.load(pointer_at(builder, address, INT64(number), 4 * LANES, VECTOR), align=4)


def store_vector(builder: Any, value: Any, address: Any, number: int) -> None:
    builder.store(value, pointer_at(builder, address, INT64(number), 4 * LANES, VECTOR), align=4)


def splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(first, undefined, zeros_of(ir.VectorType(INT32, lanes)))


def zeros_of(kind: Any) -> Any:
    return ir.Constant(kind, [0 if kind.element == INT32 else 0.0] * kind.count)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = a.type
    return builder.call(_function(builder, f"llvm.fmuladd.v{kind.count}f32", kind, [kind] * 3), [a, b, c])


def _function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)

"""Settings: frozen dataclasses that are read from TOML or JSON, each value of the type that its field names."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
NAMES = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string"}


def build(cls: type[T], values: Any, called: str) -> T:
    """A dataclass from plain values, a table of TOML or JSON.

    Args:
        cls: The dataclass.
        values: By the names of its fields.
        called: What they are the settings of, for an error.

    Raises:
        ValueError: It is no table, or a key is unknown or missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"The {called} settings must be a table, got {values!r}.")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    known = {field.name for field in fields}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"Unknown {called} setting {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise ValueError(f"There is no {called} setting {', '.join(missing)}.")
    return cls(**values)


def check_types(settings: Any) -> None:
    """Compare the values of a dataclass with the types of its fields, and make tuples of its lists; in __post_init__.

    Raises:
        ValueError: A value is of another type, or a number is not finite; the sentence names the field.
    """
    for name, kind in typing.get_type_hints(type(settings)).items():
        object.__setattr__(settings, name, _checked(name, getattr(settings, name), kind))


def _checked(name: str, value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _checked(name, value, arguments[0])
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{name} must be a list, got {value!r}.")
        if arguments[-1] is ...:
            arguments = arguments[:1] * len(value)
        if len(value) != len(arguments):
            raise ValueError(f"{name} must have {len(arguments)} values, got {value!r}.")
        return tuple(_checked(name, item, own) for item, own in zip(value, arguments, strict=True))
    fits = isinstance(value, (int, float) if kind is float else kind)
    if fits and kind in (int, float):
        fits = not isinstance(value, bool) and (kind is int or abs(value) <= sys.float_info.max)
    if not fits:
        raise ValueError(f"{name} must be {NAMES.get(kind, f'a {kind.__name__}')}, got {value!r}.")
    return value

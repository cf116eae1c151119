"""Finding the pictures that a batch is to work off: in folders, by patterns, from lists.

What is found is held in flat arrays of bytes: a path takes its letters and 12 bytes, and while the names of a single
folder are being sorted some 150 bytes more. The memory of a run hardly tells how many files there are.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tnrd.image_io import ImageError, output_format
from tnrd.inference.batch.errors import BatchInputError

A_FOLDER = "it is a folder, not a picture."
_NO_FILE = "it is a device or a pipe, not a picture."
# Names may end in anything; the count by their ends is for a person to read.
_MOST_ENDS, _LONGEST_END, _OTHERS = 20, 8, "others"
_Chain = tuple[tuple[int, int], "_Chain | None"]


class Paths:
    """A sequence of (path, name), the name being the end of the path that is mirrored below the output folder."""

    def __init__(self) -> None:
        self._letters, self._ends, self._cuts = bytearray(), array("Q", [0]), array("I")

    def __len__(self) -> int:
        return len(self._cuts)

    def __getitem__(self, index: int) -> tuple[str, str]:
        path = bytes(self._letters[self._ends[index] : self._ends[index + 1]])
        return os.fsdecode(path), os.fsdecode(path[self._cuts[index] :])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return (self[index] for index in range(len(self)))

    def append(self, path: str, name: str) -> None:
        """Add a path that ends in ``name``."""
        letters = os.fsencode(path)
        self._letters += letters
        self._ends.append(len(self._letters))
        self._cuts.append(len(letters) - len(os.fsencode(name)))


@dataclass
class Found:
    """What there is to do.

    Attributes:
        paths: All pictures, and whatever pretends to be one, in the order of work.
        faults: By index, why one of them cannot be read, where that is known without opening it.
        trees: The input folders.
        left_out: Files that are hidden, or whose names are not those of pictures, counted by the ends of the names.
        folders_left_out: Folders that were not gone into, since ``recursive`` was not asked for.
        remarks: Sentences for the user.
    """

    paths: Paths = field(default_factory=Paths)
    faults: dict[int, str] = field(default_factory=dict)
    trees: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    folders_left_out: int = 0
    remarks: list[str] = field(default_factory=list)

    def add(self, path: str, name: str, fault: str | None = None) -> None:
        """Note a picture, or why it is none."""
        if fault is not None:
            self.faults[len(self.paths)] = fault
        self.paths.append(path, name)

    def leave_out(self, name: str) -> None:
        """Note that a file was left out."""
        end = os.path.splitext(name)[1].lower() or name
        known = end in self.left_out or (len(self.left_out) < _MOST_ENDS and len(end) <= _LONGEST_END)
        self.left_out[end if known and not name.startswith(".") else _OTHERS] += 1


def find(
    inputs: Sequence[str], files: Iterable[str], output: str, *, root: str | None = None, recursive: bool = False
) -> Found:
    """Find the pictures. Links to folders are followed, except back to a folder above them or into the output.

    Args:
        inputs: Folders, files and patterns (``scans/**/*.png``). The tree below a folder, or below the part of a
            pattern without wildcards, is mirrored; of a file only its own name is.
        files: Paths of a list. One that is missing is a fault of its own and does not stop the others.
        output: The output folder, which holds no inputs even where it lies within an input folder.
        root: Files are mirrored by their path relative to this folder.
        recursive: Go into the folders within folders.

    Returns:
        Everything found, in an order that only depends on the names.

    Raises:
        BatchInputError: One of ``inputs`` does not exist, or a pattern matches nothing.
    """
    found = Found()
    walker = _Walker(found, output, recursive)
    for place in inputs:
        if os.path.isdir(place):
            found.trees.append(place)
            walker.walk(place, os.path.join(place, ""))
        elif os.path.lexists(place):
            _add_file(found, place, root)
        elif glob.has_magic(place):
            _add_matches(found, walker, place)
        else:
            raise BatchInputError(f"{place}: there is no such file or folder.")
    for path in files:
        _add_file(found, path, root)
    return found


def is_picture_name(name: str) -> bool:
    """Whether a name ends as those of pictures do."""
    try:
        output_format(name)
    except ImageError:
        return False
    return True


def contains(folder: str, path: str) -> bool:
    """Whether a real path is that of a folder or lies below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def _add_file(found: Found, path: str, root: str | None) -> None:
    fault = _fault_of(path)
    if root is None:
        found.add(path, os.path.basename(path), fault)
        return
    whole, base = os.path.abspath(path), os.path.join(os.path.abspath(root), "")
    if whole.startswith(base):
        found.add(whole, whole[len(base) :], fault)
    else:
        found.add(path, os.path.basename(path), f"it lies outside the root {root}.")


def _add_matches(found: Found, walker: _Walker, pattern: str) -> None:
    """What a pattern matches, mirrored below the folder before its first wildcard."""
    # As in what is found: there, separators that follow one another are one, unless they begin the path.
    pattern = pattern[:1] + os.sep.join(re.split(f"{re.escape(os.sep)}+", pattern[1:]))
    parts = pattern.split(os.sep)
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    root = os.sep.join([*parts[:fixed], ""])
    found.trees.append(root or os.curdir)
    before = len(found.paths)
    for path in sorted(glob.iglob(pattern, recursive=True)):
        if walker.is_output(path, root):
            continue
        if not os.path.isdir(path):
            walker.add(path, root)
        elif walker.recursive and "**" not in parts:
            walker.walk(path, root)
        elif is_picture_name(path):
            found.add(path, path[len(root) :], A_FOLDER)
    if len(found.paths) == before:
        raise BatchInputError(f"{pattern}: the pattern matches no pictures.")


class _Walker:
    """Goes through folders in the order of names, and notes what it finds."""

    def __init__(self, found: Found, output: str, recursive: bool) -> None:
        self.found, self.recursive = found, recursive
        self.output, self.real_output = _identity(output), os.path.realpath(output)

    def walk(self, top: str, root: str) -> None:
        """The pictures in ``top``, named relative to ``root``."""
        waiting: list[tuple[str, _Chain | None]] = [(top, None)]
        while waiting:
            folder, above = waiting.pop()
            identity = _identity(folder)
            if identity is not None and (identity == self.output and above is not None):
                continue
            if identity is not None and _contains(above, identity):
                self.found.remarks.append(f"{folder} leads back to a folder above it, and was left out.")
                continue
            folders = self._look_into(folder, root)
            chain = above if identity is None else (identity, above)
            waiting += [(path, chain) for path in reversed(folders)]

    def is_output(self, path: str, root: str) -> bool:
        """Whether a path below ``root`` lies in the output folder, where that is a folder below ``root`` itself."""
        if not contains(os.path.realpath(root), self.real_output) or _identity(root or os.curdir) == self.output:
            return False
        return contains(self.real_output, os.path.realpath(path))

    def add(self, path: str, root: str, *, is_plain: bool = False) -> None:
        """Note a path that is no folder, if its name is that of a picture; ``is_plain``: it is known to be a file."""
        name = os.path.basename(path)
        if name.startswith(".") or not is_picture_name(name):
            self.found.leave_out(name)
        else:
            self.found.add(path, path[len(root) :], None if is_plain else _fault_of(path))

    def _look_into(self, folder: str, root: str) -> list[str]:
        """Note the pictures of a folder; the folders in it that are to be gone into."""
        before, folders = len(self.found.paths), []
        try:
            with os.scandir(folder) as entries:
                # What the folder itself tells of its files saves asking for each of them.
                content = sorted((e.name, _is_folder(e), e.is_file(follow_symlinks=False)) for e in entries)
        except OSError as error:
            self.found.add(folder, folder[len(root) :], f"the folder cannot be read ({error.strerror}).")
            return []
        for name, is_folder, is_plain in content:
            path = os.path.join(folder, name)
            if not is_folder:
                self.add(path, root, is_plain=is_plain)
            elif name.startswith("."):
                self.found.folders_left_out += 1
            elif self.recursive:
                folders.append(path)
            elif is_picture_name(name):
                self.found.add(path, path[len(root) :], A_FOLDER)
            else:
                self.found.folders_left_out += 1
        # Gone into like any other folder, this one would otherwise pass for a picture that was never looked at.
        if is_picture_name(folder) and len(folder) > len(root) and len(self.found.paths) == before and not folders:
            self.found.add(folder, folder[len(root) :], A_FOLDER)
        return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _fault_of(path: str) -> str | None:
    """Why a path cannot be a picture, as far as its directory entry tells; a pipe would keep a reader waiting."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            return f"it is a link that leads nowhere ({error.strerror})."
        return f"it cannot be read ({error.strerror})."
    if stat.S_ISDIR(mode):
        return A_FOLDER
    return None if stat.S_ISREG(mode) else _NO_FILE


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _contains(chain: _Chain | None, identity: tuple[int, int]) -> bool:
    while chain is not None:
        if chain[0] == identity:
            return True
        chain = chain[1]
    return False

"""Paths as people write them -> fields on disk, one at a time, in the order given.

An input that cannot be used does not stop the others: it yields an item that carries the reason.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from allsub_edge.errors import FieldError

IMAGE_SUFFIXES: Final[frozenset[str]] = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
)
"""What counts as an image inside a folder, in lower case. A file given by name may be called
anything: its bytes decide."""

_DIGITS: Final = re.compile(r"([0-9]+)")

_ANYWHERE: Final = re.compile(r"(?:^|(?<=/))(\*\*)(?:/|$)")
"""``**`` as a whole part of a pattern."""


@dataclass(frozen=True)
class Item:
    """One input: either a file to read or the reason why there is none.

    Attributes:
        source: how records and messages name the input.
        path: the file, or None if there is an error.
        error: why the input cannot be used, or None.
    """

    source: str
    path: Path | None
    error: FieldError | None


def expand(paths: Sequence[str], *, recursive: bool = True) -> Iterator[Item]:
    """Yield the image files behind ``paths``: files, folders and globs.

    A file is taken as it is. A folder gives its images (IMAGE_SUFFIXES in any case) in natural
    order (``f2`` before ``f10``), subfolders among them by name; hidden entries are skipped and
    links to folders are not followed, so a loop cannot occur. A glob, ``**`` included, is expanded
    if no file has that very name. Lazy: only the names of the folder at hand are in memory.

    Args:
        paths: what the user wrote.
        recursive: also look into the subfolders of folders.

    Yields:
        Items in the order given. Error codes: ``missing`` (also a glob without a match),
        ``unreadable``, ``no_fields`` (a folder without images).
    """
    for text in paths:
        yield from _expand_one(text, recursive)


def natural_key(name: str) -> str:
    """Sort key that takes runs of digits as numbers and ignores case.

    One text: a tuple of numbers and texts takes five times the memory, which a folder of ten
    thousand fields would show. A number becomes its count of digits and its digits, so that texts
    compare as numbers do; NUL, which no name holds, ends each part.
    """
    parts = _DIGITS.split(name)
    parts[::2] = [text.casefold() for text in parts[::2]]
    parts[1::2] = [f"{len(bare):04d}{bare}" for bare in (d.lstrip("0") for d in parts[1::2])]
    return "\0".join(parts)


def natural_order(names: list[str]) -> None:
    """Sort names in place: ``f2`` before ``f10``; names that differ only in case by themselves."""
    names.sort()
    names.sort(key=natural_key)


def _expand_one(text: str, recursive: bool, *, literal: bool = False) -> Iterator[Item]:
    if not text:
        yield _failed(text, "missing", "an empty path was given; name a file or a folder")
        return
    try:
        mode = Path(text).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if glob.has_magic(text) and not literal:
            yield from _expand_glob(text, recursive)
        else:
            yield _failed(text, "missing", "there is no such file or folder; check the path")
        return
    except (OSError, ValueError) as error:
        yield _failed(text, "unreadable", f"cannot be read ({_reason(error)})")
        return
    if not stat.S_ISDIR(mode):
        if os.access(text, os.R_OK):
            yield Item(text, Path(text), None)
        else:
            yield _failed(text, "unreadable", "may not be read; check its permissions")
        return
    empty = True
    for item in _walk(text, recursive):
        empty = False
        yield item
    if empty:
        kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        where = "the folder and its subfolders have" if recursive else "the folder has"
        yield _failed(text, "no_fields", f"{where} no images ({kinds}); check the path")


def _expand_glob(pattern: str, recursive: bool) -> Iterator[Item]:
    matches = list(dict.fromkeys(_matches(pattern)))
    natural_order(matches)
    if not matches:
        yield _failed(pattern, "missing", "no file matches this pattern; check it")
        return
    empty = True
    for match in matches:
        # With ** a folder matches beside each of its files: those would come twice.
        if not ("**" in pattern and os.path.isdir(match)):  # noqa: PTH112 - False if not let in
            empty = False
            # A link to nothing may have a name that is a pattern, which it matches again.
            yield from _expand_one(match, recursive, literal=True)
    if empty:
        yield _failed(pattern, "no_fields", "this pattern matches folders only; name the files")


def _matches(pattern: str) -> Iterator[str]:
    """What a glob matches, some of it twice; ``**`` does not follow links to folders.

    Python's own ``**`` follows them, and two links to the folder above make 2**40 names of it.
    pathlib's does not, but cannot start from an absolute pattern and drops a leading "./".
    """
    anywhere = _ANYWHERE.search(pattern)
    if anywhere is None:
        yield from glob.iglob(pattern)  # noqa: PTH207
        return
    start, rest = pattern[: anywhere.start(1)], pattern[anywhere.end() :]
    for base in glob.iglob(start) if glob.has_magic(start) else [start]:  # noqa: PTH207
        for folder in _folders(base):
            if rest:
                yield from _matches(glob.escape(folder) + rest)
            else:
                yield from (folder, *glob.iglob(glob.escape(folder) + "*"))  # noqa: PTH207


def _folders(folder: str) -> Iterator[str]:
    """A folder ("" is the one at hand) and all below it, with a slash at the end of each."""
    waiting = [folder]  # folders nest deeper than calls may
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(at or ".") as entries:
                waiting += [
                    os.path.join(at, entry.name, "")  # noqa: PTH118
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
                ]
        except OSError:
            continue  # there is none, or it may not be listed: nothing in it matches
        yield at


def _walk(folder: str, recursive: bool) -> Iterator[Item]:
    # One for each folder on the way: they nest deeper than calls may.
    levels: list[Iterator[tuple[str, bool]]] = [iter([(folder, True)])]
    while levels:
        path, is_folder = next(levels[-1], ("", False))
        if not path:
            levels.pop()
        elif is_folder:
            if recursive or path is folder:
                try:
                    levels.append(_entries(path))
                except OSError as error:
                    reason = f"the folder cannot be read ({_reason(error)})"
                    yield _failed(path, "unreadable", reason)
        # A link to a folder may be named like an image. Path.is_dir would raise where the folder
        # may be listed and not entered, and end the run instead of being that field's error.
        elif not os.path.isdir(path):  # noqa: PTH112
            yield Item(path, Path(path), None)


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """The images and folders in a folder, in natural order: path, and whether it is a folder.

    Raises:
        OSError: it cannot be listed.
    """
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(entry.name)
            elif not _is_image(entry.name):
                continue
            names.append(entry.name)
    natural_order(names)
    # Path would drop the "./" people wrote.
    return ((os.path.join(folder, name), name in folders) for name in names)  # noqa: PTH118


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - for every name


def _failed(source: str, code: str, message: str) -> Item:
    return Item(source, None, FieldError(code, f"{source or 'input'}: {message}"))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

"""Tensors of a PyTorch checkpoint, read without PyTorch and without running its pickle.

A checkpoint is a pickle, and a pickle is a program: reading one the usual way runs whatever it
names. Here only four kinds of name are known (the ordered dictionary, the rebuilding of a tensor
or of a parameter, and the storage types), each stands for an inert object of this module, and any
other name ends the reading. Element data lies outside the pickle and is decoded by numpy.

Both layouts of ``torch.save`` are read (torch/serialization.py, BSD-3-Clause):

- legacy, before PyTorch 1.6: five pickles one after the other (magic number, protocol version,
  byte order and sizes, the object, keys of the storages), then for each key the number of
  elements as little-endian int64 and the elements;
- zip: ``NAME/data.pkl`` with the object, ``NAME/data/KEY`` with the elements of one storage, and
  since PyTorch 2.1 ``NAME/byteorder``.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from allsub_edge.errors import DataError

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_MAX_DIMENSIONS: Final = 8
# The object of a state dictionary is names and shapes: tens of kilobytes for the networks here.
_MAX_PICKLE: Final = 16 * 2**20

_STORAGES: Final[Mapping[str, str]] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
"""Storage class of module ``torch`` -> numpy type, little-endian. bfloat16 has none in numpy."""


class _Refused(Exception):
    """The content is not what a checkpoint of plain tensors holds; the text says what."""


class _Inert:
    """Base of every object that a pickle can get hold of: it cannot change them.

    The BUILD instruction writes to ``__dict__`` past a frozen dataclass, and a frozen dataclass
    with slots brings a ``__setstate__`` that does the same. Bounds checked when a tensor is
    rebuilt must still hold when it is read, so this one refuses.
    """

    def __setstate__(self, state: object) -> None:
        """Refuse."""
        raise _Refused("an attempt to change what a name stands for")


@dataclass(frozen=True)
class _StorageType(_Inert):
    """Stands for a storage class."""

    dtype: str


@dataclass(frozen=True)
class _Storage(_Inert):
    """Elements that lie elsewhere in the file."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class _Tensor(_Inert):
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Function(_Inert):
    """Stands for a function, which itself would have attributes to write to."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


class _Mapping(dict[Any, Any]):
    """Stands for ``collections.OrderedDict``; drops the attributes that a pickle attaches."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignore ``_metadata``, which versions modules and says nothing about tensors."""


def _new_mapping(*arguments: object) -> _Mapping:
    if arguments:
        raise _Refused("a dictionary made from arguments")
    return _Mapping()


def _whole(values: object) -> tuple[int, ...]:
    """``values`` if they are a tuple of whole numbers from 0 up."""
    if not isinstance(values, tuple) or len(values) > _MAX_DIMENSIONS:
        raise _Refused(f"shape or strides {values!r}")
    if any(type(value) is not int or value < 0 for value in values):
        raise _Refused(f"shape or strides {values!r}")
    return values


def _rebuild_tensor(
    storage: object, offset: object, shape: object, strides: object, *_rest: object
) -> _Tensor:
    """What ``torch._utils._rebuild_tensor_v2`` is called with; gradient flag and hooks ignored."""
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without a storage")
    (start,), size, steps = _whole((offset,)), _whole(shape), _whole(strides)
    if len(size) != len(steps):
        raise _Refused(f"shape {size} with strides {steps}")
    count = math.prod(size)
    last = start + sum((n - 1) * step for n, step in zip(size, steps, strict=True))
    # The second bound keeps strides of 0 from blowing a small storage up.
    if count and (last >= storage.elements or count > storage.elements):
        raise _Refused(f"a tensor of shape {size} beyond its storage of {storage.elements}")
    return _Tensor(storage, start, size, steps)


def _rebuild_parameter(tensor: object, *_rest: object) -> _Tensor:
    """What ``torch._utils._rebuild_parameter`` is called with: the tensor and its gradient flag."""
    if not isinstance(tensor, _Tensor):
        raise _Refused("a parameter without a tensor")
    return tensor


_KNOWN: Final[Mapping[tuple[str, str], object]] = {
    ("collections", "OrderedDict"): _Function(_new_mapping),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of :data:`_KNOWN` and no other, so nothing outside this module is called."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; never imports anything."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _Refused(f"the name {f'{module}.{name}'!r}, which no tensor needs") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """``("storage", type, key, device, elements)``, in legacy files with a view at the end."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise _Refused(f"the reference {pid!r}")
        kind, key, elements = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise _Refused(f"the reference {pid!r}")
        if pid[5:] not in ((), (None,)):
            raise _Refused(f"storage {key} is a view of another")
        return _Storage(key, kind.dtype, _whole((elements,))[0])


class _NoNames(_Unpickler):
    """For the pickles around the object: numbers, words and lists only."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse."""
        raise _Refused(f"the name {f'{module}.{name}'!r} outside the object")


def read_tensors(content: bytes, source: str) -> dict[str, npt.NDArray[Any]]:
    """Read a checkpoint that holds one dictionary of tensors.

    Args:
        content: the whole file, as ``torch.save`` wrote it.
        source: what to call it in messages.

    Returns:
        Name -> array in PyTorch's axis order and element type (numpy's equivalent). Entries that
        are not tensors are left out. Every array owns its memory.

    Raises:
        DataError: ``bad_weights`` for anything that is not a little-endian checkpoint of dense
            tensors, above all for a pickle that names something else; nothing of it was run.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            return _read_zip(content)
        return _read_legacy(content)
    except (_Refused, zipfile.BadZipFile) as error:
        reason = str(error)
    except Exception as error:  # a damaged pickle may fail in any way while it is parsed
        reason = f"{type(error).__name__}: {error}"
    raise DataError(
        "bad_weights",
        f"{source}: not a PyTorch checkpoint of plain tensors ({reason[:200]}); nothing of it "
        "was run; give a file from a source you trust",
    )


def _read_zip(content: bytes) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        objects = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(objects) != 1:
            raise _Refused("no single data.pkl in the archive")
        root = objects[0].removesuffix("data.pkl")
        if entries[objects[0]].file_size > _MAX_PICKLE:
            raise _Refused("data.pkl is too large")
        order = f"{root}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise _Refused("not little-endian")
        tensors = _tensors_of(_Unpickler(io.BytesIO(archive.read(objects[0]))).load())
        elements: dict[str, npt.NDArray[Any]] = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            entry = entries.get(f"{root}data/{storage.key}")
            if entry is None:
                raise _Refused(f"storage {storage.key} is missing")
            # Checked before reading, so that a small archive cannot unpack into a huge one.
            if entry.file_size != storage.elements * np.dtype(storage.dtype).itemsize:
                raise _Refused(f"storage {storage.key} has another size than stated")
            elements[storage.key] = np.frombuffer(archive.read(entry), dtype=storage.dtype)
    return {name: _view(tensor, elements) for name, tensor in tensors.items()}


def _read_legacy(content: bytes) -> dict[str, npt.NDArray[Any]]:
    stream = io.BytesIO(content)
    if _NoNames(stream).load() != _MAGIC:
        raise _Refused("no magic number")
    if _NoNames(stream).load() != _PROTOCOL:
        raise _Refused("unknown protocol version")
    if _NoNames(stream).load().get("little_endian") is not True:
        raise _Refused("not little-endian")
    tensors = _tensors_of(_Unpickler(stream).load())
    keys = _NoNames(stream).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    elements: dict[str, npt.NDArray[Any]] = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise _Refused(f"storage {key} belongs to no tensor")
        if int.from_bytes(stream.read(8), "little") != storage.elements:
            raise _Refused(f"storage {key} has another size than stated")
        size = storage.elements * np.dtype(storage.dtype).itemsize
        data = stream.read(size)
        if len(data) != size:
            raise _Refused("the file ends too early")
        elements[key] = np.frombuffer(data, dtype=storage.dtype)
    if len(elements) != len(storages):
        raise _Refused("a storage is missing")
    return {name: _view(tensor, elements) for name, tensor in tensors.items()}


def _tensors_of(found: object) -> dict[str, _Tensor]:
    if not isinstance(found, dict):
        raise _Refused("the object is not a dictionary")
    return {str(name): value for name, value in found.items() if isinstance(value, _Tensor)}


def _view(tensor: _Tensor, elements: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Copy one tensor out of its storage; bounds were checked when it was rebuilt."""
    data = elements[tensor.storage.key]
    # Two references to one key may state different sizes; what was read decides.
    if data.size != tensor.storage.elements or data.dtype != tensor.storage.dtype:
        raise _Refused(f"storage {tensor.storage.key} is stated in two ways")
    strides = [step * data.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides)
    return np.array(view, order="C")

"""PyTorch's files, without PyTorch: the zip form, and the form before version 1.6 (several pickles in a row)."""

from __future__ import annotations

import io
import math
import mmap
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.errors import WeightsError
from cyclemlp.text import counted
from cyclemlp.weights.records import (
    LazyTensor,
    as_tuple,
    check_shape,
    constructors,
    from_bfloat16,
    native,
    no_call,
)
from cyclemlp.weights.state_dict import Loaded, load_state_dict
from cyclemlp.weights.unpickle import WAY_OUT, Record, printable, read_pickle

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MEBIBYTE = 2**20
#: Most bytes of a zip's list of files (100 a tensor) and of its pickle (200 a tensor).
_MAX_DIRECTORY = 4 * _MEBIBYTE
_MAX_PICKLE = 64 * _MEBIBYTE

_BFLOAT16 = "torch.BFloat16Storage"
_STORAGE_DTYPES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    _BFLOAT16: "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


@dataclass(frozen=True)
class Storage:
    """A block of numbers that one or several tensors are views of."""

    home: Storages
    key: str
    dtype: np.dtype[Any]
    length: int  # in numbers
    is_bfloat16: bool

    @property
    def nbytes(self) -> int:
        return self.length * self.dtype.itemsize


class Storages(ABC):
    """The storages of one file: describes them while the pickle is read, reads each at most once afterwards."""

    def __init__(self, big_endian: bool) -> None:
        self.big_endian = big_endian
        self.known: dict[str, Storage] = {}
        self._read: dict[str, np.ndarray] = {}

    def persistent_load(self, identity: Any) -> Storage:
        """The storage that a persistent id `('storage', class, key, device, length[, view])` means."""
        try:
            kind, class_, key, _device, length, *view = identity
            name = class_.name
        except (TypeError, ValueError, AttributeError):
            kind = name = None
        if kind != "storage" or name not in _STORAGE_DTYPES or not isinstance(key, str):
            raise WeightsError(f"refers to an object outside its pickle that is no storage; {WAY_OUT}")
        if any(part is not None for part in view):
            raise WeightsError(
                "holds views of storages as PyTorch 0.3 wrote them; load and save it again with a later PyTorch"
            )
        (length,) = check_shape((length,))
        dtype = np.dtype(_STORAGE_DTYPES[name]).newbyteorder(">" if self.big_endian else "<")
        storage = Storage(self, key, dtype, length, name == _BFLOAT16)
        if self.known.setdefault(key, storage) != storage:
            raise WeightsError(f"is damaged: it describes storage {printable(key)} in two ways")
        return storage

    def numbers(self, storage: Storage) -> np.ndarray:
        """All numbers of a storage, `[length]`."""
        if storage.key not in self._read:
            self._read[storage.key] = np.frombuffer(self.read(storage), storage.dtype)
        return self._read[storage.key]

    @abstractmethod
    def read(self, storage: Storage) -> bytes | bytearray:
        """Its bytes, `storage.nbytes` of them."""


class TorchTensor(LazyTensor, Record):
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` describes it."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        if not isinstance(storage, Storage):
            raise WeightsError("is damaged: a tensor has no storage")
        self.shape, self.strides, (self.offset,) = map(check_shape, (shape, strides, (offset,)))
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if count > storage.length or (count and last >= storage.length):
            raise WeightsError(
                f"is damaged: a tensor of shape {self.shape} reaches out of its storage of "
                f"{counted(storage.length, 'number')}"
            )
        self.storage = storage
        self.is_bfloat16 = storage.is_bfloat16
        self.nbytes = count * (4 if self.is_bfloat16 else storage.dtype.itemsize)

    def set_state(self, state: Any) -> None:
        """Take Python attributes of a tensor: nothing we need."""

    def load(self) -> np.ndarray:
        itemsize = self.storage.dtype.itemsize
        numbers = self.storage.home.numbers(self.storage)[self.offset :]
        view = np.lib.stride_tricks.as_strided(  # `__init__` made sure that it stays within
            numbers, self.shape, [step * itemsize for step in self.strides], writeable=False
        )
        return from_bfloat16(view) if self.is_bfloat16 else native(view)


_CONSTRUCTORS = constructors(
    {
        "torch._utils._rebuild_tensor": TorchTensor,
        "torch._utils._rebuild_tensor_v2": TorchTensor,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch.Size": as_tuple,
        "torch.device": lambda kind, *_: kind,
        **{name: no_call(name) for name in _STORAGE_DTYPES},
    }
)


# ---- the zip form: data.pkl describes the tensors, data/KEY holds a storage


class _BoundedFile(io.FileIO):
    """A file that refuses to be read in large pieces: a zip's directory is as long as the zip says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > _MAX_DIRECTORY:
            raise WeightsError(f"is a zip with a list of files of {size} bytes, which no weight file has")
        return super().read(size) or b""


class _ZipStorages(Storages):
    def __init__(self, archive: zipfile.ZipFile, folder: str, big_endian: bool) -> None:
        super().__init__(big_endian)
        self.archive, self.folder = archive, folder

    def read(self, storage: Storage) -> bytes | bytearray:
        return _read_entry(self.archive, f"{self.folder}data/{storage.key}", storage.nbytes)


def read_torch_zip(path: Path) -> Loaded:
    """Tensors and notes of a file of `torch.save`, from PyTorch 1.6 on.

    Raises:
        WeightsError: the file is damaged, is no such file, or asks for more than data.
    """
    file_size = path.stat().st_size
    try:
        with _BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
            folder = _check_archive(archive, file_size)
            big_endian = f"{folder}byteorder" in archive.namelist() and (
                _read_entry(archive, f"{folder}byteorder") == b"big"
            )
            storages = _ZipStorages(archive, folder, big_endian)
            pickle = io.BytesIO(_read_entry(archive, f"{folder}data.pkl"))
            return load_state_dict(read_pickle(pickle, _CONSTRUCTORS, storages.persistent_load), file_size)
    except WeightsError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise WeightsError(f"is a damaged or cut off zip ({error}); fetch or copy it again") from error


def _check_archive(archive: zipfile.ZipFile, file_size: int) -> str:
    """The folder inside the zip that holds data.pkl."""
    entries = archive.infolist()
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise WeightsError(
            f"is a zip whose {printable(packed[0])} is compressed: PyTorch never does that, and it is how zip "
            "bombs are made; unpack it and pack it again with `zip -0 -r`"
        )
    if (claimed := sum(entry.file_size for entry in entries)) > file_size:
        raise WeightsError(
            f"is a zip that claims to hold {claimed} bytes in a file of {file_size}; "
            "fetch or copy it again, if you trust its origin"
        )
    folders = [
        e.filename.removesuffix("data.pkl") for e in entries if e.filename.split("/")[-1] == "data.pkl"
    ]
    if len(folders) != 1:
        names = ", ".join(printable(entry.filename) for entry in entries[:5]) or "nothing"
        raise WeightsError(
            f"is a zip, but none of PyTorch: it has {len(folders)} data.pkl, not one (it holds {names}); "
            "NumPy's .npz and other archives are not read"
        )
    return folders[0]


def _read_entry(archive: zipfile.ZipFile, name: str, size: int | None = None) -> bytearray:
    """An entry's bytes; it must have exactly `size` of them, if given."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise WeightsError(f"is damaged: its zip has no {printable(name)}") from None
    if size is None and entry.file_size > _MAX_PICKLE:
        raise WeightsError(
            f"has a {printable(name)} of {entry.file_size} bytes; no weight file needs so many"
        )
    if size is not None and entry.file_size != size:
        raise WeightsError(f"is damaged: its {printable(name)} has {entry.file_size} bytes instead of {size}")
    content = bytearray(entry.file_size)
    with memoryview(content) as view, archive.open(entry) as stream:
        done = 0
        while piece := stream.read(min(_MEBIBYTE, len(content) - done)):
            view[done : done + len(piece)] = piece
            done += len(piece)
    if done < len(content):
        raise WeightsError(f"is cut off in its {printable(name)}; fetch or copy it again")
    return content


# ---- the form before 1.6: magic number, protocol, machine, pickle, keys, then the storages


class _LegacyStorages(Storages):
    def __init__(self, content: mmap.mmap, big_endian: bool) -> None:
        super().__init__(big_endian)
        self.content = content
        self.starts: dict[str, int] = {}

    def locate(self, keys: Any) -> None:
        """Find the storages, which follow in the order of `keys`: each its length in numbers, and the numbers."""
        position = self.content.tell()
        for key in keys:
            storage = self.known.get(key)
            if storage is None:
                raise WeightsError("is damaged: it lists a storage that no tensor uses")
            length = int.from_bytes(self.content[position : position + 8], "little", signed=True)
            end = position + 8 + storage.nbytes
            if length != storage.length or end > len(self.content):
                raise WeightsError(
                    f"is damaged or cut off in storage {printable(key)}; fetch or copy it again"
                )
            self.starts[key] = position + 8
            position = end

    def read(self, storage: Storage) -> bytes | bytearray:
        if storage.key not in self.starts:
            raise WeightsError(f"is damaged: storage {printable(storage.key)} is missing")
        start = self.starts[storage.key]
        return self.content[start : start + storage.nbytes]


def read_torch_legacy(path: Path) -> Loaded:
    """Tensors and notes of a file of `torch.save` before PyTorch 1.6.

    Raises:
        WeightsError: the file is damaged, or asks for more than data.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _magic, protocol, machine = (read_pickle(content, {}) for _ in range(3))
        if protocol != 1001 or not isinstance(machine, dict):
            raise WeightsError(
                "is a PyTorch file of an unknown protocol; load and save it again with PyTorch"
            )
        storages = _LegacyStorages(content, big_endian=not machine.get("little_endian", True))
        tree = read_pickle(content, _CONSTRUCTORS, storages.persistent_load)
        keys = read_pickle(content, {})
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise WeightsError("is damaged: its list of storages is no list of names")
        storages.locate(keys)
        return load_state_dict(tree, len(content))

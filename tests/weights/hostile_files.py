"""Weight files made to harm, and damaged ones: each a function that gives the bytes, and what must be said of it.

`runs_a_command` gives programs that really do run one when Python's own `pickle.load` reads them; the test checks that
too. `HARMFUL` want memory, time or a crash. `DAMAGED` are accidents.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from weights_fixtures import content

Build = Callable[[], bytes]

# ---- pieces of pickles

PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"
NOTHING = b"N"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + several(*arguments) + b"R"


def dictionary(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def array(
    shape: bytes | None = None,
    dtype: str = "f4",
    data: bytes = bytes(8),
    order: bytes = b"\x89",
    count: int = 2,
) -> bytes:
    """A NumPy array, by default of two float32 zeros."""
    made = call(
        name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), several(b"K\x00"), b"C\x01b"
    )
    kind = call(name("numpy", "dtype"), text(dtype), b"\x89", b"\x88")
    kind += several(b"K\x03", text("<"), NOTHING, NOTHING, NOTHING, integer(-1), integer(-1), b"K\x00") + b"b"
    held = b"B" + struct.pack("<I", len(data)) + data
    return made + several(b"K\x01", shape or several(integer(count)), kind, order, held) + b"b"


# ---- containers of pickles


def bare(program: bytes) -> bytes:
    return PROTO2 + program + b"."


def torch_zip(
    program: bytes, storages: dict[str, bytes] | None = None, packing: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("archive/data.pkl", PROTO2 + program + b".")
        for key, numbers in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def torch_legacy(program: bytes, keys: bytes = b"]", after: bytes = b"") -> bytes:
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + PROTO2 + b"M\xe9\x03." + PROTO2 + b"}."
    return head + PROTO2 + program + b"." + PROTO2 + keys + b"." + after


def storage(key: str = "0", length: int = 2, kind: str = "FloatStorage") -> bytes:
    return several(text("storage"), name("torch", kind), text(key), text("cpu"), integer(length)) + b"Q"


def tensor(
    shape: tuple[int, ...] = (2,), strides: tuple[int, ...] = (1,), offset: int = 0, held: bytes | None = None
) -> bytes:
    sizes, steps = (several(*map(integer, values)) for values in (shape, strides))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, held or storage(), integer(offset), sizes, steps, b"\x89", b"}")


def safetensors(header: Any, data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def one_tensor(w: bytes, **others: bytes) -> bytes:
    """A checkpoint with the tensor `w`, by default over a storage of two numbers."""
    return torch_zip(dictionary(model=dictionary(w=w), **others), {"0": bytes(8)})


# ---- programs that run a command, by every instruction that can

SYSTEM = name("os", "system")


def runs_a_command(command: str) -> dict[str, tuple[bytes, str]]:
    """Name of the case → (file, what it must be refused for)."""
    given = text(command)
    system = several(given)
    # NEWOBJ calls a class's __new__; tuple(map(os.system, [command])) runs it by these alone.
    mapped = several(SYSTEM, b"](" + given + b"e")
    by_reduce = call(SYSTEM, given)
    instance = name("argparse", "Namespace") + b")\x81"
    evil_array = array(dtype="O8").replace(b"B" + struct.pack("<I", 8) + bytes(8), b"](" + by_reduce + b"e")
    getattr_ = name("builtins", "getattr")
    asks = "asks for os.system;"
    return {
        "REDUCE": (bare(by_reduce), asks),
        "STACK_GLOBAL": (PROTO4 + text("os") + text("system") + b"\x93" + system + b"R.", asks),
        "SHORT_BINUNICODE": (PROTO4 + b"\x8c\x02os\x8c\x06system\x93" + system + b"R.", asks),
        "BINSTRING": (PROTO4 + b"U\x02osT\x06\x00\x00\x00system\x93" + system + b"R.", asks),
        "memo": (bare(SYSTEM + b"q\x000h\x00" + system + b"R"), asks),
        "INST": (bare(b"(" + given + b"ios\nsystem\n"), asks),
        "OBJ": (bare(b"(" + SYSTEM + given + b"o"), asks),
        "NEWOBJ": (
            bare(name("builtins", "tuple") + several(name("builtins", "map") + mapped + b"\x81") + b"\x81"),
            "asks for builtins.map;",
        ),
        "NEWOBJ_EX": (
            PROTO4
            + name("builtins", "tuple")
            + several(name("builtins", "map") + mapped + b"}\x92")
            + b"}\x92.",
            "asks for builtins.map;",
        ),
        "BUILD": (bare(instance + b"}" + text("__setstate__") + SYSTEM + b"sb" + given + b"b"), asks),
        "EXT1": (bare(b"\x82\x07" + system + b"R"), "asks for extension code 7;"),
        "EXT2": (bare(b"\x83\x07\x00" + system + b"R"), "asks for extension code 7;"),
        "EXT4": (bare(b"\x84\x07\x00\x00\x00" + system + b"R"), "asks for extension code 7;"),
        "FRAME": (PROTO4 + b"\x95" + struct.pack("<Q", len(by_reduce) + 1) + by_reduce + b".", asks),
        "dotted name": (
            PROTO4 + text("argparse") + text("_os.system") + b"\x93" + system + b"R.",
            "asks for argparse._os.system;",
        ),
        "getattr": (
            bare(call(call(getattr_, call(getattr_, name("os", "path"), text("os")), text("system")), given)),
            "asks for builtins.getattr;",
        ),
        "eval": (
            bare(call(name("builtins", "eval"), text(f"__import__('os').system({command!r})"))),
            r"asks for builtins.eval of __import__\('os'\)",
        ),
        "eval, Python 2's name": (
            bare(call(name("__builtin__", "eval"), text(f"__import__('os').system({command!r})"))),
            r"asks for builtins.eval of __import__\('os'\)",
        ),
        "exec": (
            bare(call(name("builtins", "exec"), text(f"import os; os.system({command!r})"))),
            "asks for builtins.exec;",
        ),
        "numpy": (
            bare(
                call(name("numpy.f2py.crackfortran", "myeval"), text(f"__import__('os').system({command!r})"))
            ),
            "asks for numpy.f2py.crackfortran.myeval;",
        ),
        "Popen": (
            bare(call(name("subprocess", "Popen"), b"](" + b"".join(map(text, command.split())) + b"e")),
            "asks for subprocess.Popen;",
        ),
        "object array": (bare(evil_array), "holds a NumPy array that is not of numbers"),
        "protocol 0": (f"cos\nsystem\n(V{command}\ntR.".encode(), "is no weight file"),
        "protocol 0, INST": (f"(V{command}\nios\nsystem\n.".encode(), "is no weight file"),
        "beside a tensor": (bare(dictionary(weight=array(), other=by_reduce)), asks),
        "as a key": (bare(b"}" + by_reduce + NOTHING + b"s"), asks),
    }


def runs_in_a_container(command: str) -> dict[str, tuple[bytes, str]]:
    """The same, where PyTorch's reader would run it."""
    program = call(SYSTEM, text(command))
    asks = "asks for os.system;"
    return {
        "zip": (torch_zip(program), asks),
        "zip, among tensors": (one_tensor(tensor(), args=program), asks),
        "zip, in a persistent id": (torch_zip(several(text("storage"), program) + b"Q"), asks),
        "zip, _load_from_bytes": (
            torch_zip(call(name("torch.storage", "_load_from_bytes"), b"B\x01\x00\x00\x00x")),
            "asks for torch.storage._load_from_bytes;",
        ),
        "zip, a storage called": (
            torch_zip(call(name("torch", "FloatStorage"), text(command))),
            "calls torch.FloatStorage;",
        ),
        "zip, TorchScript": (torch_zip(name("__torch__", "Model") + b")\x81"), "asks for __torch__.Model;"),
        "legacy, magic": (PROTO2 + program + b"." + torch_legacy(b"}"), asks),
        "legacy, machine": (torch_legacy(b"}").replace(PROTO2 + b"}.", PROTO2 + program + b".", 1), asks),
        "legacy, pickle": (torch_legacy(program), asks),
        "legacy, keys": (torch_legacy(b"}", program), asks),
    }


# ---- files that want memory, time or a crash

MANY = 3_000_000
LAUGHS = b"X\x01\x00\x00\x00a" + 100 * b"2\x86"  # a pair of the same pair of the same pair …: 2¹⁰⁰ leaves
NEST = 400_000


def zip_with_claim(size: int) -> bytes:
    """A zip whose directory says that data.pkl has `size` bytes."""
    made = bytearray(torch_zip(b"}"))
    directory = made.index(b"PK\x01\x02")
    struct.pack_into("<II", made, directory + 20, size, size)
    return bytes(made)


def zip_with_directory(size: int, present: bool) -> bytes:
    """A zip whose list of files has `size` bytes, or says so."""
    made = bytearray(torch_zip(b"}"))
    end = made.rindex(b"PK\x05\x06")
    start = made.index(b"PK\x01\x02")
    if present:
        entry = bytes(made[start : made.index(b"PK\x01\x02", start + 4)])
        filler = entry * (size // len(entry))
        made[end:end] = filler
        end += len(filler)
    struct.pack_into("<II", made, end + 12, end - start if present else size, start)
    return bytes(made)


def zip_overlapping(copies: int) -> bytes:
    """Many names of one entry's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", bare(b"}"))
        archive.writestr("archive/data/0", bytes(2**20))
        archive.filelist += [archive.filelist[1]] * copies
    return buffer.getvalue()


def shared_storage(names: int, megabytes: int) -> bytes:
    length = megabytes * 2**18
    held = dictionary(**{f"w{i}": tensor((length,), held=storage(length=length)) for i in range(names)})
    return torch_zip(held, {"0": bytes(length * 4)})


HARMFUL: dict[str, tuple[Build, str]] = {
    # pickles
    "bytes of 2⁶² claimed": (
        lambda: PROTO4 + b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "is damaged or cut off",
    ),
    "bytearray of 2⁴⁰ claimed": (
        lambda: PROTO4 + b"\x96" + struct.pack("<Q", 2**40) + b"x.",
        "is damaged or cut off",
    ),
    "text of 2⁴⁰ claimed": (
        lambda: PROTO4 + b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
        "is damaged or cut off",
    ),
    "bytes of 4 GiB claimed": (lambda: PROTO4 + b"B\xff\xff\xff\xffx.", "is damaged or cut off"),
    "text of 4 GiB claimed": (lambda: PROTO2 + b"X\xff\xff\xff\xffx.", "is damaged or cut off"),
    "string of negative length": (lambda: PROTO2 + b"T\xff\xff\xff\xffx.", "is damaged or cut off"),
    "integer of 2 GiB claimed": (lambda: PROTO2 + b"\x8b\xff\xff\xff\x7fx.", "is damaged or cut off"),
    "integer of a megabyte": (
        lambda: bare(b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20),
        "instruction LONG4",
    ),
    "frame of 2⁶² claimed": (
        lambda: PROTO4 + b"\x95" + struct.pack("<Q", 2**62) + b"}.",
        "holds no state dict",
    ),
    "memo index of 2³²": (lambda: bare(b"}r\xff\xff\xff\xff"), "holds no state dict"),
    "memo index of 10¹⁸, as text": (lambda: bare(b"}p1000000000000000000\n"), "holds no state dict"),
    "a memo of holes": (
        lambda: bare(b"}" + b"".join(b"r" + struct.pack("<I", i << 20) for i in range(4096))),
        "holds no state dict",
    ),
    "one text encoded a thousand times": (
        lambda: bare(
            text("x" * 2**20)
            + b"r\x00\x00\x00\x000]("
            + call(name("_codecs", "encode"), b"j\x00\x00\x00\x00", text("latin1")) * 1000
            + b"e"
        ),
        "copies the same data over and over",
    ),
    "one list made a dict ten thousand times": (
        lambda: bare(
            b"]("
            + b"".join(several(integer(i), NOTHING) for i in range(20_000))
            + b"er\x00\x00\x00\x000]("
            + call(name("collections", "OrderedDict"), b"j\x00\x00\x00\x00") * 10_000
            + b"e"
        ),
        "copies the same data over and over",
    ),
    "one state for ten thousand namespaces": (
        lambda: bare(
            b"}("
            + b"".join(integer(i) + NOTHING for i in range(20_000))
            + b"ur\x00\x00\x00\x000]("
            + (call(name("argparse", "Namespace")) + b"j\x00\x00\x00\x00b") * 10_000
            + b"e"
        ),
        "copies the same data over and over",
    ),
    "millions of dicts": (lambda: bare(b"(" + b"}" * MANY + b"t"), "more than 1000000 pickle instructions"),
    "millions of memos": (
        lambda: PROTO4 + b"]" + b"\x94" * MANY + b".",
        "more than 1000000 pickle instructions",
    ),
    "millions of marks": (lambda: bare(b"(" * MANY), "more than 1000000 pickle instructions"),
    "deep tuples": (lambda: bare(b")" + b"\x85" * NEST), "holds a tuple, not a state dict"),
    "deep lists": (lambda: bare(b"]" * NEST + b"a" * (NEST - 1)), "holds a list, not a state dict"),
    "deep dicts": (lambda: bare(b"}" + b"N}" * (NEST // 2) + b"s" * (NEST // 2)), "holds no state dict"),
    "a deep dict named model": (
        lambda: bare(b"}" + (text("model") + b"}") * (NEST // 2) + b"s" * (NEST // 2)),
        "holds no state dict",
    ),
    "a billion laughs": (lambda: bare(LAUGHS), "holds a tuple, not a state dict"),
    "… as a key": (lambda: bare(b"}" + LAUGHS + b"Ns"), "a key of type tuple"),
    "… as a key of OrderedDict": (
        lambda: bare(call(name("collections", "OrderedDict"), b"](" + several(LAUGHS, NOTHING) + b"e")),
        "a key of type tuple",
    ),
    "… as a value": (lambda: bare(dictionary(weight=LAUGHS)), "holds no state dict"),
    "… as a name": (lambda: PROTO4 + LAUGHS + text("x") + b"\x93.", "a name in it is not a string"),
    "… as an expression": (
        lambda: bare(call(name("builtins", "eval"), LAUGHS)),
        "asks for builtins.eval of tuple",
    ),
    "… as an encoding": (
        lambda: bare(call(name("_codecs", "encode"), text("x"), LAUGHS)),
        "asks for _codecs.encode",
    ),
    "… as a data type": (
        lambda: bare(call(name("numpy", "dtype"), LAUGHS)),
        r"not of numbers \(type tuple\)",
    ),
    "… as a shape": (lambda: bare(dictionary(weight=array(LAUGHS))), "shape is not of whole numbers"),
    "… as a state": (
        lambda: bare(name("argparse", "Namespace") + b")\x81" + LAUGHS + b"b"),
        "state is not a dict",
    ),
    "… as a storage": (lambda: torch_zip(LAUGHS + b"Q"), "that is no storage"),
    "… as a storage's key": (
        lambda: torch_zip(
            several(text("storage"), name("torch", "FloatStorage"), LAUGHS, NOTHING, b"K\x02") + b"Q"
        ),
        "that is no storage",
    ),
    "… as a list of keys": (lambda: torch_legacy(b"}", b"](" + LAUGHS + b"e"), "is no list of names"),
    "an endless name": (lambda: PROTO2 + b"c" + b"x" * 2**20 + b"\ny\n.", r"asks for x{100}\.\.\.;"),
    "a name with terminal codes": (lambda: bare(b"cos\x1b[2Jx\nsystem\n"), r"asks for os\\x1b\[2Jx.system;"),
    # arrays
    "an array of 2⁴⁰ claimed": (
        lambda: bare(dictionary(w=array(count=2**40))),
        "needs 4398046511104 bytes and has 8",
    ),
    "an array of huge dimensions": (
        lambda: bare(dictionary(w=array(several(*[integer(2**2000)] * 32)))),
        "shape is not of whole numbers",
    ),
    "an array of a thousand dimensions": (
        lambda: bare(dictionary(w=array(several(*[integer(1)] * 1000)))),
        "shape is not a short tuple",
    ),
    "an array of negative size": (
        lambda: bare(dictionary(w=array(count=-2))),
        "shape is not of whole numbers",
    ),
    "an array of objects": (
        lambda: bare(dictionary(w=array(dtype="O8"))),
        r"not of numbers \(type code 'O8'\)",
    ),
    "an array of void": (lambda: bare(dictionary(w=array(dtype="V4"))), r"not of numbers \(type code 'V4'\)"),
    "an array without state": (
        lambda: bare(dictionary(w=array()[: array().index(b"(K\x01")])),
        "an array has no data",
    ),
    "one array under many names": (
        lambda: bare(
            dictionary(
                w=array(count=2**18, data=bytes(2**20)) + b"q\x07", **{f"w{i}": b"h\x07" for i in range(99)}
            )
        ),
        "the same data under many names",
    ),
    # zips
    "a deflated zip bomb": (
        lambda: torch_zip(b"}" + b"N0" * 2**24, packing=zipfile.ZIP_DEFLATED),
        "archive/data.pkl is compressed",
    ),
    "an LZMA zip bomb": (
        lambda: torch_zip(dictionary(w=tensor()), {"0": bytes(2**26)}, packing=zipfile.ZIP_LZMA),
        "is compressed",
    ),
    "an entry of 4 GB claimed": (
        lambda: zip_with_claim(0xFFFFFFF0),
        r"claims to hold 429496\d+ bytes in a file of",
    ),
    "a directory of 2 GB claimed": (
        lambda: zip_with_directory(2**31, False),
        "is a damaged or cut off zip|list of files",
    ),
    "a directory of 8 MiB": (lambda: zip_with_directory(2**23, True), r"a list of files of 8\d+ bytes"),
    "entries that overlap": (
        lambda: zip_overlapping(2000),
        r"claims to hold 2098200580 bytes in a file of",
    ),
    "a pickle of 65 MiB": (
        lambda: torch_zip(b"}" + b"N0" * (65 * 2**19)),
        r"data.pkl of \d+ bytes; no weight file",
    ),
    # tensors
    "a storage of 2⁴⁰ claimed": (
        lambda: one_tensor(tensor((2**40,), held=storage(length=2**40))),
        "claims tensors of 4398046511104 bytes in a file of",
    ),
    "a tensor beyond its storage": (lambda: one_tensor(tensor((3,))), "reaches out of its storage"),
    "an offset beyond its storage": (
        lambda: one_tensor(tensor(offset=1)),
        "reaches out of its storage",
    ),
    "a negative offset": (lambda: one_tensor(tensor(offset=-1)), "is damaged"),
    "strides beyond its storage": (
        lambda: one_tensor(tensor(strides=(2**40,))),
        "reaches out of its storage",
    ),
    "negative strides": (lambda: one_tensor(tensor(strides=(-1,))), "is damaged"),
    "strides of zero": (
        lambda: one_tensor(tensor((2**20, 2**20), (0, 0))),
        "reaches out of its storage",
    ),
    "fewer strides than dimensions": (lambda: one_tensor(tensor((1, 1), (1,))), "damaged"),
    "one storage under many names": (lambda: shared_storage(200, 4), "the same data under many names"),
    "one storage in two ways": (
        lambda: torch_zip(
            dictionary(a=tensor(), b=tensor(held=storage(kind="HalfStorage"))), {"0": bytes(8)}
        ),
        "describes storage 0 in two ways",
    ),
    "a storage out of the folder": (
        lambda: one_tensor(tensor(held=storage(key="../../../../etc/passwd"))),
        "its zip has no archive/data/../../../../etc/passwd",
    ),
    "a legacy storage of 2⁴⁰": (
        lambda: torch_legacy(
            dictionary(w=tensor((2**40,), held=storage(length=2**40))),
            b"]" + text("0") + b"a",
            struct.pack("<q", 2**40) + bytes(8),
        ),
        "cut off in storage 0",
    ),
    # safetensors
    "a header of 2⁶² claimed": (
        lambda: struct.pack("<Q", 2**62) + b'{"a":1}',
        "header of 4611686018427387904 bytes",
    ),
    "a header of 64 MiB": (lambda: safetensors(b"{" + b" " * 2**26 + b"}"), "header of 67108866 bytes"),
    "a deep header": (
        lambda: safetensors(b'{"a":' * 10**5 + b"1" + b"}" * 10**5),
        "damaged or cut off safetensors",
    ),
    "a tensor of 2⁶⁰ claimed": (
        lambda: safetensors({"w": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}}, bytes(8)),
        "damaged or cut off safetensors",
    ),
    "a shape that is larger than its data": (
        lambda: safetensors({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}, bytes(8)),
        "damaged or cut off safetensors",
    ),
    "tensors that overlap": (
        lambda: safetensors(
            {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "abc"}, bytes(8)
        ),
        "damaged or cut off safetensors",
    ),
    "deep metadata": (
        lambda: safetensors(
            {
                "__metadata__": {"cyclemlp": "[" * 10**5},
                "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            },
            bytes(8),
        ),
        "damaged metadata in its header",
    ),
}


# ---- accidents


def image(format: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.zeros(2))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    return buffer.getvalue()


def cut(name: str, share: float = 0.0, last: int = 0) -> Build:
    return lambda: content(name)[: int(len(content(name)) * share) or -last]


def one_bit_changed() -> bytes:
    changed = bytearray(content("authors_release.pth"))
    changed[500_000] ^= 1
    return bytes(changed)


def small_safetensors() -> bytes:
    return safetensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))


DAMAGED: dict[str, tuple[Build, str]] = {
    "empty": (lambda: b"", "is empty"),
    "one byte": (lambda: b"\x80", "it is a file that starts with"),
    "a JPEG": (lambda: image("JPEG"), "it is a JPEG image"),
    "a PNG": (lambda: image("PNG"), "it is a PNG image"),
    "a text": (lambda: b"hello, world\n", "it is a text that starts with hello, world"),
    "noise": (lambda: np.random.default_rng(1).bytes(4096), "it is a file that starts with"),
    "a page": (lambda: b"\n<!DOCTYPE html><html>Not Found</html>", "an HTML or XML page"),
    "a Git LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
    "a gzip": (lambda: gzip.compress(b"weights"), "a gzip archive; unpack it first"),
    "a tar": (tar, "a tar archive; unpack it first"),
    "an .npz": (npz, "a zip, but none of PyTorch.*weight.npy"),
    "a list": (lambda: pickle.dumps([1, 2]), "holds a list, not a state dict"),
    "an empty dict": (lambda: pickle.dumps({}), "holds no state dict.*found: nothing"),
    "a dict of numbers": (lambda: pickle.dumps({"epoch": 3}), "holds no state dict.*found: epoch"),
    "a set": (lambda: pickle.dumps({"a": {1, 2}}, protocol=4), "instruction EMPTY_SET"),
    "a datetime": (
        lambda: pickle.dumps({"when": __import__("datetime").date(2020, 1, 1)}),
        "asks for datetime.date;",
    ),
    **{
        f"{name}, cut at {share:.0%}": (cut(name, share), "cut off")
        for name in ("authors_release.pth", "authors_legacy_format.pth", "seed.pdparams")
        for share in (0.01, 0.5)
    },
    **{
        f"{name}, last byte lost": (cut(name, last=1), "cut off")
        for name in ("authors_release.pth", "authors_legacy_format.pth", "seed.pdparams")
    },
    "safetensors, cut in its header": (lambda: small_safetensors()[:20], "cut off safetensors"),
    "safetensors, last byte lost": (lambda: small_safetensors()[:-1], "cut off safetensors"),
    "safetensors, a byte more": (lambda: small_safetensors() + b"x", "damaged or cut off safetensors"),
    "safetensors, of float8": (
        lambda: safetensors({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, bytes(2)),
        "holds w as F8_E4M3, which is not read",
    ),
    "one bit changed": (one_bit_changed, "Bad CRC-32 for file 'authors_release/data/"),
    "no storage in the zip": (lambda: torch_zip(dictionary(w=tensor())), "its zip has no archive/data/0"),
    "two pickles in the zip": (
        lambda: torch_zip(b"}", {"x/data.pkl": b""}),
        "it has 2 data.pkl, not one",
    ),
    "views of PyTorch 0.3": (
        lambda: torch_zip(storage().replace(b"tQ", several(text("1"), b"K\x00", b"K\x01") + b"tQ")),
        "views of storages as PyTorch 0.3",
    ),
    "a legacy file of another protocol": (
        lambda: torch_legacy(b"}").replace(b"M\xe9\x03", b"M\xe8\x03"),
        "unknown protocol",
    ),
    "a table that does not fit": (
        lambda: bare(
            dictionary(**{"w": array(), "UnpackBigParamInfor@@": dictionary(w=dictionary(slices=b"]"))})
        ),
        "its table UnpackBigParamInfor@@ does not fit",
    ),
}

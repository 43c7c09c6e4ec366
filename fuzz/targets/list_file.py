"""List files, class maps and files of class names, by `cyclemlp.data`."""

import contextlib

from scratch import FOLDER, written

from cyclemlp.data import ListFile, read_class_map, read_class_names
from cyclemlp.errors import CycleMLPError


def seeds():
    yield b"tcat/1.jpg 0\ndog/ 7.png 1\n\n"
    yield b"t\xef\xbb\xbfcat/1.jpg 0\r\ncat/1.jpg 1\r\n"
    yield b'vimage,label\ncat/1.jpg,cat\n"a,b.png",dog\n'
    yield b"sa name of an image.png\n"
    yield b"m" + b"n01440764 0\nn01443537 1\n"
    yield b"n0 tench\n1 gold fish\n"


def check(data):
    kind, path = data[:1], written(data[1:], "list.csv" if data[:1] == b"v" else "list.txt")
    if kind == b"m":
        read_class_map(path)
    elif kind == b"n":
        read_class_names(path)
    else:
        mode = {b"v": "val", b"s": "test"}.get(kind, "train")
        source = ListFile(FOLDER, path, mode=mode)
        for index in range(min(len(source), 3)):
            source.name(index), source.label(index), source.location(index)
            with contextlib.suppress(CycleMLPError):
                source[index]

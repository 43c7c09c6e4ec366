"""Tars of images, and tars of tars, by `cyclemlp.data`."""

import contextlib
import io
import tarfile

from hostile_files import image
from scratch import FOLDER, written

from cyclemlp.data import TarFolders, TarImages
from cyclemlp.errors import CycleMLPError


def made(files, form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def seeds():
    png = image("PNG")
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        files = {"cat/1.png": png, "d" * 90 + "/" + "x" * 80 + ".png": png}
        yield made(files if form == tarfile.USTAR_FORMAT else {**files, "é" * 90 + ".png": png}, form)
        yield made({"n01440764.tar": made({"1.JPEG": png}, form)}, form)


def check(data):
    path = written(data, "a.tar")
    for open_tar in (TarFolders, TarImages):
        for kept in FOLDER.glob("cache/tars/*"):
            kept.unlink()
        source = open_tar(path)
        for index in range(min(len(source), 3)):
            with contextlib.suppress(CycleMLPError):
                source[index]

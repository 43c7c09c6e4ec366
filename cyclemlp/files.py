"""Files and folders that are written whole or not at all, and the digest of a file.

What is being written lies beside its place under a hidden name and is renamed once it is whole: no reader meets half a
file, and after an error what was there before is still there. An error of the disk is an OSError that names the place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial(\.[^.]+)?")


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Within it, the name of a file to write, which takes the place of `path` at the end.

    The name has the suffix of `path`, by which libraries choose a format. On any error the new file is removed.

    Args:
        path: in a folder that exists.
        durable: to the disk before it is renamed, so that a power cut leaves the old file or the new one.

    Raises:
        OSError: it names `path`; a file that was there is untouched.
    """
    part = _beside(path, path.stem, path.suffix)
    with _named_by(path, part):
        try:
            yield part
            if durable:
                _flush(part)
            part.replace(path)
            if durable:
                _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Within it, a new empty folder, which takes the place of `path` with all that is in it then.

    A folder that is there is renamed aside for the moment between; if the process ends just there, `recover_folder`
    puts it back.

    Args:
        path: the folders above it are made.
        durable: its files to the disk before it is renamed.

    Raises:
        OSError: it names the file below `path`; a folder that was there is untouched.
    """
    part, aside = _beside(path, path.name), _aside(path)
    with _named_by(path, part):
        try:
            part.mkdir(parents=True)
            yield part
            if durable:
                for entry in (*part.rglob("*"), part):
                    _flush(entry)
            there = path.exists()
            if there:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            try:
                part.rename(path)
            except BaseException:
                if there:
                    aside.rename(path)
                raise
            if durable:
                _flush(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Put back the folder that `replacing_folder` had moved aside when its process was killed."""
    if _aside(path).is_dir() and not path.exists():
        _aside(path).rename(path)


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write a file in UTF-8 as `replacing` does.

    Args:
        errors: what becomes of characters that UTF-8 has not, as for `str.encode`.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors=errors)


def is_partial(path: Path) -> bool:
    """Whether a file or folder is what a process that was killed left half written."""
    return _PARTIAL.fullmatch(path.name) is not None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal. Raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _beside(path: Path, stem: str, suffix: str = "") -> Path:
    return path.with_name(f".{stem}.{secrets.token_hex(4)}.partial{suffix}")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


@contextlib.contextmanager
def _named_by(path: Path, part: Path) -> Iterator[None]:
    """Within it, errors of the disk that name no file, or the hidden one, name its place."""
    try:
        yield
    except OSError as error:
        name = str(part) if error.filename is None else str(error.filename)
        if error.errno is None or not name.startswith(str(part)):
            raise
        raise OSError(error.errno, error.strerror, f"{path}{name[len(str(part)) :]}") from error


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Event files, read back by what they are meant for."""

from __future__ import annotations

import struct
import sys

import pytest

from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.report import open_writer

POINTS = [({"train_loss": 2.5, "val_top1": None, "lr": 1e-3}, 1), ({"train_loss": 1.25, "val_top1": 50.0}, 2)]
CURVES = {"train_loss": {1: 2.5, 2: 1.25}, "lr": {1: 1e-3}, "val_top1": {2: 50.0}}


def read_tensorboard(folder):
    """The scalars of all event files below a folder, as TensorBoard reads them, checksums verified."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def check(content, masked):
        crc = crc32c(content)
        assert ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == masked

    curves = {}
    for path in sorted(folder.rglob("events.*")):
        data = path.read_bytes()
        while data:
            length, crc = struct.unpack("<QI", data[:12])
            check(data[:8], crc)
            content, (crc,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
            check(content, crc)
            event = Event.FromString(content)
            for value in event.summary.value:
                curves.setdefault(value.tag, {})[event.step] = value.simple_value
            data = data[16 + length :]
    return curves


def read_visualdl(folder):
    from visualdl import LogReader

    curves = {}
    for path in sorted(folder.rglob("vdlrecords.*")):
        reader = LogReader(file_path=str(path))
        for tag in reader.get_tags().get("scalar", ()):
            points = {point.id: point.value for point in reader.get_data("scalar", tag)}
            curves.setdefault(tag, {}).update(points)
    return curves


READERS = {"tensorboard": read_tensorboard, "visualdl": read_visualdl}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_written_can_be_read_while_the_run_goes_on_and_after(kind, tmp_path):
    writer = open_writer(kind, tmp_path / "logs")
    for figures, step in POINTS:
        writer.scalars(figures, step)
    during = READERS[kind](tmp_path)
    writer.close()
    writer.close()
    assert during == READERS[kind](tmp_path)
    assert set(during) == set(CURVES)
    for name, points in CURVES.items():
        assert during[name] == pytest.approx(points, rel=1e-6)
    with pytest.raises(ValueError, match="closed"):
        writer.scalars({"lr": 1}, 3)


@pytest.mark.parametrize("kind", READERS)
def test_a_second_start_keeps_the_first_ones_points(kind, tmp_path):
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0)):  # all within one second
        writer = open_writer(kind, tmp_path)
        writer.scalars({"loss": loss}, step)
        writer.close()
    assert READERS[kind](tmp_path) == {"loss": {1: 3.0, 2: 2.0, 3: 1.0}}


def test_visualdl_finds_each_start(tmp_path):
    """It shows one file a folder: the newest."""
    from visualdl import LogReader

    for step in (1, 2, 3):
        writer = open_writer("visualdl", tmp_path)
        writer.scalars({"loss": 1.0}, step)
        writer.close()
    shown = LogReader(logdir=str(tmp_path)).logs(update=True)
    assert sorted(shown) == [str(tmp_path), str(tmp_path / "start-2"), str(tmp_path / "start-3")]


@pytest.mark.parametrize("kind", READERS)
def test_no_connection_is_opened(kind, tmp_path, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    writer = open_writer(kind, tmp_path)
    writer.scalars({"loss": 1.0}, 1)
    writer.close()
    assert READERS[kind](tmp_path) == {"loss": {1: 1.0}}


@pytest.mark.parametrize(("kind", "library"), [("tensorboard", "tensorboardX"), ("visualdl", "visualdl")])
def test_a_missing_library_is_named_with_its_remedy(kind, library, tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf'{library}.*pip install "paddle-cyclemlp\[{kind}\]"'):
        open_writer(kind, tmp_path)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'wandb'; the possible ones are tensorboard, visualdl"):
        open_writer("wandb", tmp_path)

"""Checkpoints: whole or absent, and recognised when they are neither."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from cyclemlp.run import (
    BrokenCheckpointError,
    RunFolder,
    is_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_state,
    write_checkpoint,
)

CONTENT = {"model.bin": b"weights" * 50, "optimizer.bin": b"moments" * 90}


def write(run: Path, name: str, *, keep: int = 9, **state: object) -> Path:
    def files(folder: Path) -> None:
        for file, content in CONTENT.items():
            (folder / file).write_bytes(content)

    return write_checkpoint(run, name, files, state, keep=keep)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_checkpoint_gives_back_its_state_and_files(tmp_path):
    path = write(tmp_path, "checkpoint_0003_step000120", epoch=3, seconds=1.25, classes=["a", "ä"], best=None)
    assert path == tmp_path / "checkpoints/checkpoint_0003_step000120"
    assert read_state(path) == {"epoch": 3, "seconds": 1.25, "classes": ["a", "ä"], "best": None}
    assert {file: (path / file).read_bytes() for file in CONTENT} == CONTENT
    assert sorted(p.name for p in path.iterdir()) == [*CONTENT, "state.json"]


def test_only_the_newest_are_kept(tmp_path):
    for name in ("0001", "0001_step000005", "0002", "0009", "0010", "10000"):
        write(tmp_path, f"checkpoint_{name}", keep=3)
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "checkpoint_0009",
        "checkpoint_0010",
        "checkpoint_10000",
    ]
    assert len(names(tmp_path)) == 3


def test_one_of_the_same_name_is_replaced(tmp_path):
    for loss in (1.0, 2.0):
        path = write(tmp_path, "checkpoint_0001", loss=loss)
    assert read_state(path) == {"loss": 2.0}
    assert names(tmp_path) == ["checkpoint_0001"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: cut(p / "model.bin"), "model.bin was truncated or changed: .* bytes, written were"),
        (lambda p: flip(p / "optimizer.bin"), "optimizer.bin was .*the content differs"),
        (lambda p: (p / "optimizer.bin").unlink(), "not a complete checkpoint"),
        (lambda p: (p / "state.json").unlink(), "not a complete checkpoint"),
        (lambda p: cut(p / "state.json"), "state.json is damaged"),
        (lambda p: change(p / "state.json", '"epoch": 2', '"epoch": 3'), "state.json was changed"),
        (lambda p: (p / "state.json").write_text("[]"), "state.json is damaged"),
        (lambda p: (p / "state.json").write_bytes(b"\xff"), "state.json is damaged"),
        (lambda p: (p / "state.json").write_text('{"state": {}, "files": {}}'), "state.json is damaged"),
        (lambda p: shutil.rmtree(p) or p.mkdir(), "not a complete checkpoint"),
    ],
)
def test_a_broken_one_is_recognised_and_the_one_before_it_taken(tmp_path, harm, message):
    for epoch in (1, 2):
        write(tmp_path, f"checkpoint_{epoch:04d}", epoch=epoch)
    harm(tmp_path / "checkpoints/checkpoint_0002")
    with pytest.raises(BrokenCheckpointError, match=message):
        read_state(tmp_path / "checkpoints/checkpoint_0002")
    with pytest.warns(UserWarning, match=rf"{message}.*trying the checkpoint before it"):
        assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/checkpoint_0001"


def test_one_of_a_later_format_is_refused(tmp_path):
    path = write(tmp_path, "checkpoint_0001") / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(BrokenCheckpointError, match="another version"):
        read_state(path.parent)


def test_a_full_disk_leaves_the_earlier_one_and_no_rest(tmp_path):
    write(tmp_path, "checkpoint_0001")

    def full(folder: Path) -> None:
        (folder / "model.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left.*checkpoint_0002"):
        write_checkpoint(tmp_path, "checkpoint_0002", full, {}, keep=1)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/checkpoint_0001"
    assert names(tmp_path) == ["checkpoint_0001"]


def test_rests_of_a_killed_run_are_in_nobodys_way(tmp_path):
    for rest in (".checkpoint_0001.0a1b2c3d.partial", ".checkpoint_0000.removed"):
        (tmp_path / "checkpoints" / rest).mkdir(parents=True)
        (tmp_path / "checkpoints" / rest / "model.bin").write_bytes(b"half")
    assert newest_checkpoint(tmp_path) is None
    write(tmp_path, "checkpoint_0001")
    assert names(tmp_path) == ["checkpoint_0001"]


@pytest.mark.parametrize("moment", ["before the new one is in place", "after it"])
def test_killed_while_one_is_replaced(tmp_path, moment):
    target = write(tmp_path, "checkpoint_0001", loss=1.0)
    aside = target.with_name(".checkpoint_0001.replaced")
    if moment == "after it":
        shutil.copytree(target, aside)
    else:
        target.rename(aside)
    with RunFolder(tmp_path, resume="auto") as folder:
        assert folder.checkpoint == target
        assert read_state(target) == {"loss": 1.0}
        write(tmp_path, "checkpoint_0001", loss=2.0)
    assert read_state(target) == {"loss": 2.0}
    assert names(tmp_path) == ["checkpoint_0001"]


def test_names_of_checkpoints():
    for name in ("checkpoint_0003", "checkpoint_000200", "run/checkpoint_0003_step000120"):
        assert is_checkpoint(Path(name))
    for name in ("checkpoint_3", "checkpoint_mine", "checkpoints", ".checkpoint_0003.removed"):
        assert not is_checkpoint(Path(name))

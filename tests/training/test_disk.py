"""A disk that takes no more, and a folder that may not be written: said clearly, and nothing that was there is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_run import Some, same_weights, tiny_recipe, tiny_train

from cyclemlp.cli.main import main
from cyclemlp.data import Digits
from cyclemlp.run import newest_checkpoint

ROOT = Path(__file__).parents[2]


def words(*given: object) -> list[str]:
    return [*map(str, given), "--no-progress", "--workers", "0"]


def cli(*given: object, largest_file: int) -> subprocess.CompletedProcess[str]:
    """`cyclemlp train`; the system refuses to write more than `largest_file` bytes into any file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "cyclemlp", "train", *words(*given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A quick one, for the command line: the digits in six steps an epoch."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    tiny_recipe(data__batch_size=256).save(path)
    return path


@pytest.mark.parametrize(
    ("largest_file", "names"),
    [
        pytest.param(30_000, "best.safetensors", marks=pytest.mark.heavy),  # the first after an epoch
        pytest.param(90_000, "optimizer.safetensors", marks=pytest.mark.heavy),  # twice the model
    ],
)
def test_a_full_disk_ends_the_run_and_it_goes_on_where_it_was(tmp_path, recipe, largest_file, names):
    output = tmp_path / "run"
    assert main(["train", *words("--config", recipe, "--epochs", 1, "--output", output)]) == 0
    before = {path.name: path.read_bytes() for path in (output / "checkpoints/checkpoint_0001").iterdir()}
    assert len(before["optimizer.safetensors"]) > 90_000 > len(before["model.safetensors"]) > 30_000

    full = cli("--resume", output, "--epochs", 2, largest_file=largest_file)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert "cyclemlp train: failed: [Errno 27] File too large: " in full.stderr
    assert names in full.stderr
    assert "checkpoints so far are kept" in full.stderr
    assert newest_checkpoint(output) == output / "checkpoints/checkpoint_0001"
    assert {
        path.name: path.read_bytes() for path in (output / "checkpoints/checkpoint_0001").iterdir()
    } == before
    assert [path.name for path in output.iterdir() if path.name.startswith(".")] == []

    assert main(["train", *words("--resume", output, "--epochs", 2)]) == 0
    assert newest_checkpoint(output) == output / "checkpoints/checkpoint_0002"


class Locked:
    """A folder that may be made read-only, for root too: root is nobody for as long."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lock(self) -> None:
        Digits("train")  # nobody may not read the library that it comes with
        self.path.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)

    def unlock(self) -> None:
        if os.getuid() == 0:
            os.seteuid(0)
        self.path.chmod(0o755)


@pytest.fixture
def locked():
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)  # nobody may pass
    found = Locked(parent / "run")
    found.path.mkdir()
    yield found
    found.unlock()
    shutil.rmtree(parent)


def test_a_folder_that_becomes_read_only(locked, tmp_path):
    output = locked.path
    # 32 images are read an epoch: the 50th is read in the second.
    with pytest.raises(PermissionError, match=rf"{output}/\S+"):
        tiny_train(output, train_source=Some("train", 34, {50: locked.lock}))
    assert newest_checkpoint(output) == output / "checkpoints/checkpoint_0001"
    with pytest.raises(PermissionError, match=rf"{output}/\S+"):
        tiny_train(output, resume="auto")
    locked.unlock()
    tiny_train(output, resume="auto")
    whole = tiny_train(tmp_path / "whole")
    assert same_weights(output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003")


def test_a_folder_that_is_read_only_from_the_start(locked):
    locked.lock()
    with pytest.raises(PermissionError, match=rf"{locked.path}/\S+"):
        tiny_train(locked.path)
    assert list(locked.path.iterdir()) == []

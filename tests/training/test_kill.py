"""Killed by SIGKILL at any moment, a run that goes on ends with the bits of one that was left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import same_weights

WORK = Path(__file__).with_name("killable_run.py")
SECONDS = 120  # no run here takes so long, also on a machine that is busy


def start(output: Path, *words: object) -> subprocess.Popen[str]:
    with output.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-W", "ignore", str(WORK), str(output), *map(str, words)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)


def finish(output: Path, epochs: int) -> None:
    assert start(output, epochs).wait(SECONDS) == 0, output.with_suffix(".log").read_text()


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """From a number of epochs to the folder of a run that nobody killed."""
    made: dict[int, Path] = {}

    def run(epochs: int) -> Path:
        if epochs not in made:
            made[epochs] = tmp_path_factory.mktemp("whole") / "run"
            finish(made[epochs], epochs)
        return made[epochs]

    return run


def check_the_same(output: Path, whole: Path, epochs: int) -> None:
    last = f"checkpoints/checkpoint_{epochs:04d}"
    assert same_weights(output / last, whole / last)
    for name in ("best.safetensors", "best_ema.safetensors"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()
    rests = [path.name for path in output.iterdir() if path.name.startswith(".")]
    assert rests == []


def is_writing(output: Path) -> bool:
    """Whether a checkpoint is being written, or was when the run was killed."""
    try:
        return any(output.glob("checkpoints/.checkpoint_*.partial"))
    except FileNotFoundError:  # a run that was killed before its first checkpoint begins with a new folder
        return False


def kill_while_writing(process: subprocess.Popen[str], output: Path, draw: random.Random) -> bool:
    """Kill it somewhere in a checkpoint's writing; whether it was still being written then."""
    until = time.monotonic() + SECONDS
    begun = draw.randint(1, 3)  # which of the checkpoints that come
    while begun and process.poll() is None and time.monotonic() < until:
        if is_writing(output):
            begun -= 1
            if begun == 0:
                time.sleep(draw.uniform(0, 0.004))
                break
            while is_writing(output):
                pass
    process.kill()
    process.wait()
    return is_writing(output)


def kill_any_time(process: subprocess.Popen[str], output: Path, draw: random.Random) -> None:
    """Kill it some time within three epochs of where it goes on."""
    log, until = output.with_suffix(".log"), time.monotonic() + SECONDS
    sign, times = ("teacher ", 1) if draw.random() < 0.5 else ("\nepoch ", draw.randint(1, 2))
    seen = log.read_text().count(sign)
    while log.read_text().count(sign) < seen + times and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.15))
    process.kill()
    process.wait()


def kill_and_go_on(output: Path, whole: Path, epochs: int, *, while_writing: int, any_time: int) -> None:
    draw = random.Random(epochs)
    hits = tries = 0
    while hits < while_writing:
        tries += 1
        assert tries < 5 * while_writing, "no kill fell into a checkpoint's writing"
        hits += kill_while_writing(start(output, epochs), output, draw)
    for _ in range(any_time):
        kill_any_time(start(output, epochs), output, draw)
    assert not (output / f"checkpoints/checkpoint_{epochs:04d}").exists(), (
        "the last kills came after the run's end"
    )
    finish(output, epochs)
    check_the_same(output, whole, epochs)


@pytest.mark.heavy
def test_killed_twice(tmp_path, left_alone):
    kill_and_go_on(tmp_path / "run", left_alone(10), 10, while_writing=1, any_time=1)


@pytest.mark.heavy
def test_killed_twenty_times(tmp_path, left_alone):
    kill_and_go_on(tmp_path / "run", left_alone(90), 90, while_writing=10, any_time=10)


def killed_at_changes(folder: Path, whole: Path, first: int, stride: int) -> int:
    folder.mkdir()
    process = start(folder, 2, first, stride)
    assert process.wait(10 * SECONDS) == 0, folder.with_suffix(".log").read_text()
    runs = list(folder.iterdir())
    for run in runs:
        check_the_same(run, whole, 2)
    return len(runs)


@pytest.mark.heavy
def test_killed_at_some_changes_of_the_file_system(tmp_path, left_alone):
    assert killed_at_changes(tmp_path / "runs", left_alone(2), 5, 41) >= 2


@pytest.mark.heavy
def test_killed_at_every_change_of_the_file_system(tmp_path, left_alone):
    assert killed_at_changes(tmp_path / "runs", left_alone(2), 0, 1) > 50


@pytest.mark.heavy
def test_a_killed_run_leaves_neither_workers_nor_shared_memory(tmp_path):
    process = start(tmp_path / "run", 500, "--workers", 2)
    (tmp_path / "run.log").touch()
    while "epoch   1/" not in (tmp_path / "run.log").read_text():
        assert process.poll() is None, (tmp_path / "run.log").read_text()
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) >= 2
    process.kill()
    process.wait()
    until = time.monotonic() + SECONDS
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until, "a worker lives on"
        time.sleep(0.1)
    rests = [path for worker in workers for path in Path("/dev/shm").glob(f"paddle_{worker}_*")]
    assert rests == []

"""Several processes on this machine, started by Paddle's own launcher, are one run."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import PLAIN, Some, same_weights, tiny_recipe

import cyclemlp
from cyclemlp.data import View, build_loader, evaluation_transform
from cyclemlp.errors import ConfigError
from cyclemlp.evaluation import as_callable, evaluate, evaluate_multilabel
from cyclemlp.run import list_checkpoints, newest_checkpoint
from cyclemlp.training import distributed
from cyclemlp.training.distributed import ALONE, World, faults_told_apart, join
from cyclemlp.training.schedule import Schedule

WORK = Path(__file__).with_name("launched.py")
SECONDS = 120  # in which any of these jobs has ended, also on a machine that is busy


class Job:
    """One launcher, the machine of a job, and the processes that it starts."""

    def __init__(self, output: Path, ranks: int, *options: str, name: str = "launcher", **asked: Any) -> None:
        self.output, self.log = output, output.with_name(f"{output.name}.{name}.log")
        words = ["--nproc_per_node", str(ranks), "--log_dir", f"{output}.{name}", *options]
        command = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", *words]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, str(WORK), str(output), json.dumps(asked)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={k: v for k, v in os.environ.items() if not k.startswith(("PADDLE_", "FLAGS_"))},
            )

    def ended(self) -> int:
        """Its exit code; fails if it goes on."""
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait()
            pytest.fail(f"still running after {SECONDS} s:\n{self.said}")

    @property
    def said(self) -> str:
        """What the launcher shows."""
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Until the launcher shows it."""
        until = time.monotonic() + SECONDS
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.05)


def parameters(output: Path, rank: int, when: str = "end") -> dict[str, np.ndarray]:
    with np.load(f"{output}.{when}{rank}.npz") as arrays:
        return dict(arrays)


def told(output: Path, rank: int) -> dict[str, Any]:
    return json.loads(Path(f"{output}.rank{rank}.json").read_text())


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Largest difference of any parameter; infinite where one is no number."""
    assert a.keys() == b.keys()
    worst = max(float(np.abs(a[name] - b[name]).max()) for name in a)
    return worst if np.isfinite(worst) else np.inf


# Ten steps of 16 images. The rate is that of 512 images: it is scaled to 16 whether 2 × 8 or 1 × 16 they are.
TEN = {
    **PLAIN,
    "run__epochs": 1,
    "optimizer__lr": 0.16,
    "optimizer__lr_for_batch": 512,
    "schedule__warmup_epochs": 0,
}


#: The same, of which the first five with one trained stage, and the others with two.
THAWING = {
    "run__epochs": 2,
    "model__freeze_stages": 3,
    "model__unfreeze_epochs": [1],
    "schedule__cosine_epochs": 2,
}


def ten_steps(**options: Any) -> dict[str, Any]:
    return {"recipe": {**TEN, "data__batch_size": 8}, "images": 160, **options}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Callable[[str], dict[str, np.ndarray]]:
    """The same steps by one process with the double batch: from dtype to its parameters."""
    folder = tmp_path_factory.mktemp("alone")

    @functools.cache
    def compute(dtype, thawing=False):
        output = folder / f"{dtype}{thawing}"
        recipe = {**TEN, **(THAWING if thawing else {}), "data__batch_size": 16}
        asked = {**ten_steps(float64=dtype == "float64"), "recipe": recipe}
        command = [sys.executable, "-W", "ignore", str(WORK), str(output), json.dumps(asked)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = parameters(output, 0)
        assert all(array.dtype == dtype for array in found.values())
        assert distance(found, parameters(output, 0, "begin")) > 0.01  # something was learnt
        return found

    return compute


def check_ten_steps(output: Path, ranks: int, alone: dict[str, np.ndarray], bound: float) -> None:
    assert told(output, 0)["epochs"][0]["lr"] < 0.16 * 16 / 512 * 1.001
    first = parameters(output, 0)
    for rank in range(1, ranks):
        assert distance(parameters(output, rank), first) == 0
    assert distance(first, alone) < bound


def check_evaluation(output: Path, ranks: int, images: int) -> None:
    read = [told(output, rank)["read"] for rank in range(ranks)]
    assert sorted(i for part in read for i in part) == sorted(
        [*range(images)] * 2
    )  # the weights, their average
    model = cyclemlp.load_model(output / "checkpoints/checkpoint_0001")
    transform = evaluation_transform(model.metadata.preprocessing)
    loader = build_loader(Some("val", images), transform, batch_size=images)
    expected = evaluate(as_callable(model), loader, progress=False)
    for rank in range(ranks):
        (epoch,) = told(output, rank)["epochs"]
        assert epoch["val_top1"] == expected.top1
        assert epoch["val_top5"] == expected.top5
        assert epoch["val_loss"] == pytest.approx(expected.loss, rel=1e-6)


def check_who_writes(output: Path, ranks: int) -> None:
    assert len(told(output, 0)["written"]) > 10  # that is how it would be noticed
    for rank in range(1, ranks):
        assert told(output, rank)["written"] == []
    starts = [line for line in (output / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert len(starts) == 1


def test_two_processes_are_one_run(tmp_path, alone):
    output = tmp_path / "run"
    job = Job(output, 2, **ten_steps(val=19))
    assert job.ended() == 0, job.said
    check_ten_steps(output, 2, alone("float32"), 1e-4)
    check_evaluation(output, 2, 19)
    check_who_writes(output, 2)
    assert "batch 8 on each of 2 devices" in (output / "README.md").read_text()
    assert job.said.count("epoch 1/1") == 1


@pytest.mark.heavy
def test_two_processes_are_one_run_in_float64(tmp_path, alone):
    job = Job(tmp_path / "run", 2, **ten_steps(float64=True))
    assert job.ended() == 0, job.said
    check_ten_steps(tmp_path / "run", 2, alone("float64"), 1e-10)


@pytest.mark.heavy
def test_two_processes_unfreeze_stages_as_one_does(tmp_path, alone):
    asked = ten_steps(float64=True)
    asked["recipe"] |= THAWING
    job = Job(tmp_path / "run", 2, **asked)
    assert job.ended() == 0, job.said
    check_ten_steps(tmp_path / "run", 2, alone("float64", thawing=True), 1e-10)


@pytest.mark.heavy
@pytest.mark.parametrize("recompute", [False, True])
def test_two_machines_are_one_run(tmp_path, alone, recompute):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{free.getsockname()[1]}"
    output, asked = tmp_path / "run", ten_steps(float64=True)
    overrides = {**asked["recipe"]["model__overrides"], "recompute": recompute}
    asked["recipe"] = {**asked["recipe"], "model__overrides": overrides}
    jobs = [Job(output, 1, "--nnodes", "2", "--master", master, name=f"machine{i}", **asked) for i in (0, 1)]
    assert [job.ended() for job in jobs] == [0, 0], "\n".join(job.said for job in jobs)
    check_ten_steps(output, 2, alone("float64"), 1e-10)
    check_who_writes(output, 2)


@pytest.mark.heavy
@pytest.mark.parametrize("images", [19, 1])
def test_two_processes_find_the_figures_of_labels_that_one_finds(tmp_path, images):
    output = tmp_path / "run"
    job = Job(output, 2, val=images, recipe={"run__epochs": 1, "data__labels": "multi"})
    assert job.ended() == 0, job.said
    model = cyclemlp.load_model(output / "checkpoints/checkpoint_0001")
    source = View(Some("val", images), multi_label=True)
    loader = build_loader(source, evaluation_transform(model.metadata.preprocessing), batch_size=images)
    expected = evaluate_multilabel(as_callable(model), loader, progress=False)
    for rank in range(2):
        (epoch,) = told(output, rank)["epochs"]
        assert epoch["val_map"] == pytest.approx(expected.map)
        assert epoch["val_loss"] == pytest.approx(expected.loss, rel=1e-6)
    thresholds = cyclemlp.load_model(output).metadata.thresholds
    assert thresholds == pytest.approx(expected.best_thresholds.tolist(), rel=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize(("ranks", "images"), [(1, 19), (3, 19), (3, 2)])
def test_every_image_counts_once(tmp_path, ranks, images):
    output = tmp_path / "run"
    job = Job(output, ranks, val=images, recipe={"run__epochs": 1})
    assert job.ended() == 0, job.said
    check_evaluation(output, ranks, images)
    check_who_writes(output, ranks)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("error", "DataError: digits/0007.png: this image is broken"),
        ("bug", "ZeroDivisionError: a mistake in the program"),
        ("nan", "the loss is nan at epoch 2, step 2 of 2"),
        ("kill", None),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_dies_ends_the_job_and_its_error_is_shown(tmp_path, what, error, rank):
    output = tmp_path / "run"
    # 16 images a rank and epoch: the 25th is read for the second step of the second epoch.
    job = Job(output, 2, recipe={"run__epochs": 9}, harm={"rank": rank, "read": 24, "what": what})
    assert job.ended() != 0
    if error is not None:
        assert error in job.said
        assert "lost the connection" not in job.said
    # Without a number, the weights before the step are saved, unless the first process's are no numbers themselves. An
    # image that cannot be read is an error of one process: the first saves what it has.
    saved = (what == "nan" and rank != 0) or (what == "error" and rank == 0)
    assert (" is kept in " in job.said) == (what == "error" and rank == 0)
    assert newest_checkpoint(output).name == ("checkpoint_0001_step000001" if saved else "checkpoint_0001")


@pytest.mark.heavy
def test_one_that_dies_ends_the_job_on_the_other_machine_too(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{free.getsockname()[1]}"
    asked = {"recipe": {"run__epochs": 9}, "harm": {"rank": 1, "read": 24, "what": "error"}}
    options = ("--nnodes", "2", "--master", master)
    first, second = (
        Job(tmp_path / "run", 1, *options, "--rank", str(i), name=f"machine{i}", **asked) for i in (0, 1)
    )
    assert first.ended() != 0
    assert second.ended() != 0
    assert "this image is broken" in second.said


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGTERM, 2), (signal.SIGINT, 2)]
)
def test_stopped_and_resumed_is_bit_identical(tmp_path, number, workers):
    # Long enough to be under way when the launcher, which looks up every few seconds, has passed the signal on.
    epochs = 12 if workers else 100
    asked = {"recipe": {"run__epochs": epochs}, "workers": workers}
    whole = Job(tmp_path / "whole", 2, **asked)
    assert whole.ended() == 0, whole.said

    output = tmp_path / "run"
    job = Job(output, 2, **asked)
    job.wait_for(f"2/{epochs}  loss")
    job.process.send_signal(number)
    assert job.ended() == number
    stopped = list_checkpoints(output)[-1]
    assert f"stopped; saved as {stopped}" in Path(f"{output}.launcher/workerlog.0").read_text()
    again = Job(output, 2, name="again", resume="auto", **asked)
    assert again.ended() == 0, again.said
    assert f"resuming from {stopped}" in again.said
    last = f"checkpoints/checkpoint_{epochs:04d}"
    assert same_weights(output / last, tmp_path / "whole" / last)


# ---- without other processes


def test_alone_everything_is_as_it_was(monkeypatch):
    monkeypatch.delenv("PADDLE_TRAINERS_NUM", raising=False)
    assert join() is ALONE
    assert ALONE.is_first
    assert ALONE.sum([1, 0.5]).tolist() == [1, 0.5]
    assert ALONE.any(True) is True
    assert ALONE.any(False) is False
    assert ALONE.from_first("a") == ALONE.first_given("a") == "a"
    layer = cyclemlp.create_model("cyclemlp_nano")
    assert ALONE.wrap(layer) is layer
    with distributed.gradients_stay_here(layer):
        pass
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "1")
    assert join() is ALONE


def test_one_gpu_for_all_is_refused(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(ConfigError, match="--devices 0,1"):
        join("gpu:0")


def test_the_rate_counts_devices():
    recipe = tiny_recipe(optimizer__lr=5e-4, optimizer__lr_for_batch=512, data__batch_size=128)
    assert Schedule.from_recipe(recipe, 8).base_lr == 1e-3
    assert Schedule.from_recipe(recipe).base_lr == 5e-4 / 4


def test_a_lost_connection_is_told_from_a_fault(monkeypatch):
    broken = RuntimeError("[gloo/transport/tcp/pair.cc:584] Connection closed by peer")

    @faults_told_apart(agreed=(ZeroDivisionError,))
    def fail(error):
        raise error

    with pytest.raises(RuntimeError, match=r"pair\.cc"):  # alone there is nobody to lose
        fail(broken)
    monkeypatch.setattr(distributed, "NOTICE_SECONDS", 0)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    monkeypatch.setenv("PADDLE_LOG_DIR", "here/log")
    with pytest.raises(ConnectionError, match=r"process 1 of 2 lost .*here/log/workerlog.N .*closed by peer"):
        fail(broken)
    for error in (ZeroDivisionError(), ValueError("gloo")):
        with pytest.raises(type(error)):
            fail(error)
    assert World(1, 2).is_first is False

"""Each check passes here, and fails where what it looks at is broken; what it raises is its verdict."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle.autograd import PyLayer

from cyclemlp.data.images import EncodedImage
from cyclemlp.doctor import checks, golden, ranks
from cyclemlp.doctor.checks import CHECKS, LIMITS, Failed, NotRun, run_check, run_checks
from cyclemlp.doctor.golden import CASES, FILE
from cyclemlp.errors import ConfigError
from cyclemlp.kernels.fused import functions
from cyclemlp.network.cyclemlp import CycleShift

WORK = dict(CHECKS)
GOLDEN, PLAIN = "golden results, float32", "plain against chosen layers, float64"


def check(name: str, device: str = "cpu") -> checks.Check:
    return run_check(name, WORK[name], device)


@pytest.fixture
def wrong_block(monkeypatch):
    """A layer of ours that is wrong: its plain equal is not."""
    run = functions.Block.run
    monkeypatch.setattr(functions.Block, "run", lambda *a: run(*a) * 1.01)


# ---- here


def test_on_a_processor_what_can_be_checked_is_right():
    found = {check.name: check for check in run_checks("cpu")}
    verdicts = {name: check.verdict for name, check in found.items()}
    assert verdicts == {
        "golden results, float64": "ok",
        "golden results, float32": "ok",
        "golden results, TF32": "not run",
        "plain against chosen layers, float64": "ok",
        "plain against chosen layers, float32": "ok",
        "mixed precision, float16": "not run",
        "mixed precision, bfloat16": "not run",
        "two processes on two devices": "not run",
        "JPEG decoding": "ok",
    }
    assert str(found["two processes on two devices"]) == "two processes on two devices: not run: one device"
    assert "GPUs only, and this is the CPU" in found["mixed precision, float16"].why
    assert "3 networks" in found[GOLDEN].why
    assert all(check.seconds >= 0 for check in found.values())


# ---- verdicts


def test_what_a_check_raises_is_its_verdict_and_the_others_run():
    def broken(device):
        raise RuntimeError(
            "\n\n--------\nC++ Traceback (most recent call last):\n--------\n"
            "0  phi::Kernel\n\nError Message Summary:\n--------\n"
            "OutOfMemoryError: no memory \x1b[2J on GPU 0.\n  [Hint: x]\n"
        )

    def fails(device):
        raise Failed("logits differ by 1")

    def has_none(device):
        raise NotRun("no device")

    works = [("a", broken), ("b", fails), ("c", has_none), ("d", lambda device: f"on {device}")]
    said = [str(check) for check in run_checks("gpu:3", works)]
    assert said[0].startswith("a: FAILED: RuntimeError: OutOfMemoryError: no memory ")
    assert "\x1b" not in said[0]
    assert "\n" not in said[0]
    assert said[1:] == ["b: FAILED: logits differ by 1", "c: not run: no device", "d: ok (on gpu:3)"]


def test_an_error_without_a_message_has_its_name():
    def broken(device):
        raise MemoryError

    assert str(run_check("a", broken, "cpu")) == "a: FAILED: MemoryError: no message"


# ---- broken things


def test_a_wrong_kernel_fails_both_comparisons(wrong_block):
    for name in (GOLDEN, PLAIN):
        found = check(name)
        assert found.verdict == "failed", found
        assert "nano: logits differ by 0.0" in found.why
        assert "limit" in found.why


def test_a_wrong_kernel_that_is_not_chosen_does_no_harm(wrong_block, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")
    assert check(GOLDEN).verdict == "ok"
    assert check(PLAIN).why.endswith("CYCLEMLP_KERNELS=plain is set")


def test_a_wrong_gradient_alone_fails(monkeypatch):
    gradients = functions.Block.gradients
    monkeypatch.setattr(functions.Block, "gradients", lambda *a: [1.01 * g for g in gradients(*a)])
    found = check(GOLDEN)
    assert found.verdict == "failed"
    assert "the gradient of " in found.why
    assert "logits" not in found.why


def test_a_broken_layer_of_the_network_fails_by_the_stored_results_alone(monkeypatch):
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")
    monkeypatch.setattr(CycleShift, "shift", lambda self, x: x)
    assert check(GOLDEN).verdict == "failed"


def test_a_changed_file_fails(tmp_path, monkeypatch):
    arrays = dict(np.load(FILE))
    arrays["nano/logits"] = arrays["nano/logits"] + 1e-3
    path = tmp_path / "golden.npz"
    np.savez(path, **arrays)
    monkeypatch.setattr(golden, "FILE", path)
    assert "nano: logits differ by 0.0006" in check(GOLDEN).why
    arrays["nano/products"] = arrays["nano/products"][1:]
    np.savez(path, **arrays)
    assert "golden.npz does not fit the network nano" in check(GOLDEN).why
    path.write_bytes(b"no archive")
    assert check(GOLDEN).verdict == "failed"


def test_nan_fails(monkeypatch):
    run = functions.Block.run
    monkeypatch.setattr(functions.Block, "run", lambda *a: run(*a) * float("nan"))
    assert "logits differ by inf" in check(GOLDEN).why


# ---- what only a GPU has, as far as a processor can show it


class Rounded(PyLayer):
    """A tensor rounded to a shorter type, and its gradient too."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.astype(dtype).astype(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad.astype(ctx.dtype).astype(grad.dtype)


class RoundedProducts:
    """Stands for `MixedPrecision` on a GPU: operands and results of products are rounded."""

    def __init__(self, config):
        self.dtype = config.dtype

    @contextlib.contextmanager
    def autocast(self):
        linear, conv2d = F.linear, F.conv2d

        def short(x):
            return x if x is None else Rounded.apply(x, self.dtype)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CYCLEMLP_KERNELS", "plain")
            patch.setattr(
                F,
                "linear",
                lambda x, weight, bias=None, name=None: short(linear(short(x), short(weight), bias)),
            )
            patch.setattr(
                F, "conv2d", lambda x, w, b=None, *a, **k: short(conv2d(short(x), short(w), b, *a, **k))
            )
            yield


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_products_are_within_the_limits(dtype, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")
    monkeypatch.setattr(checks, "MixedPrecision", RoundedProducts)
    name = f"mixed precision, {dtype}"
    assert check(name, "gpu:0").verdict == "ok"
    monkeypatch.setitem(LIMITS, dtype, tuple(limit / 16 for limit in LIMITS[dtype]))
    assert check(name, "gpu:0").verdict == "failed"  # the limits are not far off


def test_bfloat16_is_not_taken_for_float16(monkeypatch):
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")

    class Wrong(RoundedProducts):
        def __init__(self, config):
            self.dtype = config.dtype

        def autocast(self):
            return RoundedProducts(dataclasses.make_dataclass("C", ["dtype"])("bfloat16")).autocast()

    monkeypatch.setattr(checks, "MixedPrecision", Wrong)
    assert check("mixed precision, float16", "gpu:0").verdict == "failed"


def test_mixed_precision_that_does_nothing_fails(monkeypatch):
    class Nothing(RoundedProducts):
        def autocast(self):
            return contextlib.nullcontext()

    monkeypatch.setattr(checks, "MixedPrecision", Nothing)
    assert "so nothing was computed in float16" in check("mixed precision, float16", "gpu:0").why


def test_a_type_that_the_gpu_does_not_have_is_not_run(monkeypatch):
    def refuse(config):
        raise ConfigError("amp.dtype is bfloat16, which this GPU does not have")

    monkeypatch.setattr(checks, "MixedPrecision", refuse)
    found = check("mixed precision, bfloat16", "gpu:0")
    assert (found.verdict, "does not have" in found.why) == ("not run", True)


def test_tf32_is_off_within_the_strict_checks_only(monkeypatch):
    core = paddle.base.core
    state = {"cublas": True, "cudnn": True}
    for name in state:
        monkeypatch.setattr(core, f"get_{name}_switch", lambda name=name: state[name])
        monkeypatch.setattr(core, f"set_{name}_switch", lambda on, name=name: state.update({name: on}))
    seen = []
    compute = golden.compute
    monkeypatch.setattr(
        checks, "compute", lambda *args, **more: seen.append(golden.tf32_is_on()) or compute(*args, **more)
    )
    monkeypatch.setattr(checks, "CASES", CASES[:1])
    for name, on in ((GOLDEN, False), ("golden results, TF32", True), (PLAIN, False)):
        seen.clear()
        assert check(name, "gpu:0").verdict == "ok"
        assert set(seen) == {on}, name
        assert all(state.values())
    state.update(cublas=False, cudnn=False)
    assert check("golden results, TF32", "gpu:0").why == "Paddle has it turned off"


def test_errors_of_the_size_of_tf32_are_told(monkeypatch):
    case = (CASES[0].name, golden.Distance(logits=1e-3, gradients=3e-3, worst="head.weight"))
    with pytest.raises(Failed, match="NVIDIA_TF32_OVERRIDE=0"):
        checks._judged([case], "float32", "gpu:0")
    with pytest.raises(Failed, match=r"limit 5e-05$"):
        checks._judged([case], "float32", "cpu")
    assert "1 network" in checks._judged([case], "TF32", "gpu:0")


# ---- two processes


def test_two_processes_have_the_gradients_of_one():
    said = checks.compare_processes(["--nproc_per_node", "2"], "cpu")
    assert said.startswith("largest relative error of logits ")


def test_the_error_of_a_process_is_told(monkeypatch, tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text("raise ZeroDivisionError('a mistake in the program')\n")
    monkeypatch.setattr(ranks, "__file__", str(program))
    with pytest.raises(Failed, match=r"ended with \d+: ZeroDivisionError: a mistake in the program"):
        checks.compare_processes(["--nproc_per_node", "2"], "cpu")


@pytest.mark.heavy
def test_processes_that_do_not_end_are_ended(monkeypatch, tmp_path):
    program = tmp_path / "ranks.py"
    program.write_text(
        f"import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, f'pid{{os.getpid()}}').touch()\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(ranks, "__file__", str(program))
    monkeypatch.setattr(checks, "RANKS_SECONDS", 25)
    with pytest.raises(Failed, match="had not ended after 25 s"):
        checks.compare_processes(["--nproc_per_node", "2"], "cpu")
    pids = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
    assert len(pids) == 2
    assert [pid for pid in pids if _goes_on(pid)] == []


def _goes_on(pid: int) -> bool:
    """Whether there is such a process that nobody has ended; an ended one may wait for its parent (Z)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def stand_in_processes(monkeypatch):
    """Two processes without processes, whose results a test may change."""
    halves = [golden.compute(golden.build(ranks.CASE, "float32"), ranks.CASE, part=(i, 2)) for i in range(2)]
    names = [name for name in halves[0].gradients if name != golden.IMAGES]
    mean = {name: (halves[0].gradients[name] + halves[1].gradients[name]) / 2 for name in names}
    results = [dataclasses.replace(half, gradients=dict(mean)) for half in halves]
    monkeypatch.setattr(checks, "_launch", lambda options, folder, device: None)
    monkeypatch.setattr(ranks, "read", lambda folder, rank: results[rank])
    return halves, results


def test_gradients_that_were_not_averaged_fail(stand_in_processes):
    halves, results = stand_in_processes
    assert checks.compare_processes([], "cpu")
    results[1].gradients["head.bias"] = halves[1].gradients["head.bias"]
    with pytest.raises(Failed, match=r"different gradients of 1 parameter, such as head\.bias"):
        checks.compare_processes([], "cpu")
    for half, result in zip(halves, results, strict=True):
        result.gradients["head.bias"] = 2 * half.gradients["head.bias"]
    results[1].gradients["head.bias"] = results[0].gradients["head.bias"]
    with pytest.raises(Failed, match=r"the gradient of head\.bias differs by"):
        checks.compare_processes([], "cpu")


@pytest.mark.parametrize(("visible", "devices"), [(None, "0,1"), ("5,7,2", "5,7")])
def test_the_first_two_devices_that_may_be_seen_are_taken(visible, devices, monkeypatch):
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(checks, "compare_processes", lambda options, device: " ".join(options))
    assert check("two processes on two devices", "gpu:0").why == f"--devices {devices}"


# ---- images


def test_a_decoder_that_gives_other_pixels_fails(monkeypatch):
    part = EncodedImage.part
    monkeypatch.setattr(EncodedImage, "part", lambda self, box, channels: part(self, box, channels) + 2)
    assert "differ from Pillow's by up to " in check("JPEG decoding").why
    monkeypatch.setattr(checks, "is_fast", lambda: False)
    assert "the fast decoder is not installed" in check("JPEG decoding").why


def test_pillow_that_decodes_wrongly_fails(monkeypatch):
    as_array = checks.as_array
    monkeypatch.setattr(checks, "as_array", lambda image: as_array(image)[::-1])
    assert "Pillow's pixels differ from the image's by" in check("JPEG decoding").why

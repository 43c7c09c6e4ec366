"""What is verified of a device: each check compares figures with what they should be, and ends with a verdict."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle
from PIL import Image

from cyclemlp.data.images import EncodedImage, pil_open, to_channels
from cyclemlp.data.resampling import as_array, is_fast
from cyclemlp.doctor import ranks
from cyclemlp.doctor.golden import (
    CASES,
    Distance,
    Result,
    build,
    compute,
    distance,
    distance_from_golden,
    tf32_is_on,
    without_tf32,
)
from cyclemlp.errors import ConfigError
from cyclemlp.kernels import chosen_kernels
from cyclemlp.text import counted, printable, shortened
from cyclemlp.training.amp import AmpConfig, MixedPrecision

#: Largest errors of logits and of gradients by the type of the products, see `golden.Distance`. Those of float32 are
#: about twenty times what was measured on a CPU, of float64 far more. Those of the shorter types are 8 and 32 times the
#: unit roundoff (2⁻¹¹ of float16 and TF32, 2⁻⁸ of bfloat16): about four times what rounding every operand and result of
#: the products on a CPU gives.
LIMITS = {
    "float64": (1e-9, 1e-9),
    "float32": (2e-5, 5e-5),
    "TF32": (8 * 2.0**-11, 32 * 2.0**-11),
    "float16": (8 * 2.0**-11, 32 * 2.0**-11),
    "bfloat16": (8 * 2.0**-8, 32 * 2.0**-8),
}
#: Smaller errors than this are those of float32: no product was computed in a shorter type.
LEAST_OF_HALF = 2e-5
#: The scale of a float16 loss: the gradients of `CASES` neither vanish nor overflow.
LOSS_SCALE = 1024.0
#: In which two processes have ended.
RANKS_SECONDS = 240
#: In which the launcher has ended them; it gives them 30 s.
LAUNCHER_SECONDS = 45
#: Levels, of 255, by which a smooth image may differ on average after JPEG.
JPEG_LEVELS = 4.0
LONGEST_ERROR = 300

Verdict = Literal["ok", "failed", "not run"]


@dataclass(frozen=True)
class Check:
    """What came of a check.

    Attributes:
        why: what was found, by how much it is wrong, or why it was not run.
        seconds: how long it took.
    """

    name: str
    verdict: Verdict
    why: str
    seconds: float

    def __str__(self) -> str:
        if self.verdict == "ok":
            return f"{self.name}: ok ({self.why})"
        return f"{self.name}: {'FAILED' if self.verdict == 'failed' else self.verdict}: {self.why}"


class NotRun(Exception):
    """A check that says nothing here; the message says why."""


class Failed(Exception):
    """What is wrong, and by how much."""


#: From the device's name to what was found.
Work = Callable[[str], str]


def run_check(name: str, work: Work, device: str) -> Check:
    """Do the work of a check; whatever it raises is its verdict."""
    begun = time.perf_counter()
    verdict: Verdict = "ok"
    try:
        why = work(device)
    except NotRun as reason:
        verdict, why = "not run", str(reason)
    except Failed as fault:
        verdict, why = "failed", str(fault)
    except Exception as error:  # of Paddle, of any kind
        verdict, why = "failed", f"{type(error).__name__}: {_line(error)}"
    return Check(name, verdict, why, time.perf_counter() - begun)


def run_checks(device: str, checks: Sequence[tuple[str, Work]] | None = None) -> Iterator[Check]:
    """All checks, one after another, each as soon as it is done.

    Args:
        device: Paddle's, as `paddle.get_device()` has it.
        checks: name and work of each; None for `CHECKS`.
    """
    for name, work in CHECKS if checks is None else checks:
        yield run_check(name, work, device)


# ---- against the stored results


def golden_results(precision: str, device: str) -> str:
    """Logits and gradients of small networks, as `create_model` makes them, against the stored ones."""
    if precision == "TF32":
        if not device.startswith("gpu"):
            raise NotRun("only GPUs have TF32")
        if not tf32_is_on():
            raise NotRun("Paddle has it turned off")
    dtype = "float64" if precision == "float64" else "float32"
    found = []
    with contextlib.nullcontext() if precision == "TF32" else without_tf32():
        for case in CASES:
            found.append((case.name, distance_from_golden(compute(_built(case, dtype), case), case)))
    return _judged(found, precision, device)


def plain_and_chosen(dtype: str, device: str) -> str:
    """The same networks with the plain layers and with those that are chosen for the device."""
    if chosen_kernels() == "plain":
        raise NotRun("the plain layers are the chosen ones: CYCLEMLP_KERNELS=plain is set")
    found = []
    with without_tf32():
        for case in CASES:
            chosen, plain = (compute(_built(case, dtype, kernels), case) for kernels in ("auto", "plain"))
            found.append((case.name, distance(chosen, plain)))
    return _judged(found, dtype, device)


def _built(case: Any, dtype: str, kernels: str | None = None) -> Any:
    try:
        return build(case, dtype, kernels)
    except (RuntimeError, NotImplementedError) as error:
        if dtype == "float64" and "not support" in str(error).lower():
            raise NotRun(f"the device has no float64: {_line(error)}") from error
        raise


def _judged(found: Sequence[tuple[str, Distance]], precision: str, device: str) -> str:
    """The errors in words, of the networks together.

    Raises:
        Failed: they are above the limits of the precision.
    """
    most_logits, most_gradients = LIMITS[precision]
    faults = []
    for name, error in found:
        if error.logits > most_logits:
            faults.append(f"{name}: logits differ by {error.logits:.2g}, limit {most_logits:.2g}")
        if error.gradients > most_gradients:
            faults.append(
                f"{name}: the gradient of {error.worst} differs by {error.gradients:.2g}, limit {most_gradients:.2g}"
            )
    if faults:
        worst = max(error.most for _, error in found)
        hint = (
            "; errors of this size are TF32's: try NVIDIA_TF32_OVERRIDE=0"
            if device.startswith("gpu") and precision == "float32" and worst < LIMITS["TF32"][1]
            else ""
        )
        raise Failed("; ".join(faults) + hint)
    logits, gradients = (max(getattr(error, what) for _, error in found) for what in ("logits", "gradients"))
    networks = counted(len(found), "network")
    return f"largest relative error of logits {logits:.2g}, of gradients {gradients:.2g}; {networks}"


# ---- mixed precision


def mixed_precision(dtype: Literal["float16", "bfloat16"], device: str) -> str:
    """The same networks as `cyclemlp train --amp` computes them, against the stored results."""
    if device == "cpu":
        raise NotRun(f"Paddle computes {dtype} on GPUs only, and this is the CPU")
    try:
        amp = MixedPrecision(AmpConfig(dtype=dtype))
    except ConfigError as error:
        raise NotRun(str(error)) from error
    if amp.dtype != dtype:
        raise Failed(f"mixed precision was asked for in {dtype} and is {amp.dtype or 'off'}")
    scale = LOSS_SCALE if dtype == "float16" else 1.0
    found = []
    for case in CASES:
        result = compute(_built(case, "float32"), case, autocast=amp.autocast(), scale=scale)
        found.append((case.name, distance_from_golden(result, case)))
        if found[-1][1].logits < LEAST_OF_HALF:
            raise Failed(
                f"{case.name}: logits differ by {found[-1][1].logits:.2g} only, so nothing was computed in {dtype}"
            )
    return _judged(found, dtype, device)


# ---- two processes


def two_processes(device: str) -> str:
    """Two devices with half of a batch each, their gradients averaged, against one with the whole batch."""
    count = paddle.device.cuda.device_count() if device.startswith("gpu") else 1
    if count < 2:
        raise NotRun("one device")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or "0,1"
    return compare_processes(["--devices", ",".join(visible.split(",")[:2])], device)


def compare_processes(options: Sequence[str], device: str) -> str:
    """Start two processes by Paddle's launcher, as for `cyclemlp train`, and compare their gradients.

    Args:
        options: the launcher's: which devices, or how many processes.
        device: of this process, which computes the whole batch.

    Raises:
        Failed: the processes ended with an error or in no time, or their gradients are others.
    """
    with tempfile.TemporaryDirectory(prefix="cyclemlp-doctor-") as folder:
        _launch(options, Path(folder), "cpu" if device == "cpu" else "gpu")
        results = [ranks.read(Path(folder), rank) for rank in range(2)]
    first, second = results
    unequal = [n for n in first.gradients if not np.array_equal(first.gradients[n], second.gradients[n])]
    if unequal:
        raise Failed(
            f"after the average the processes have different gradients of {counted(len(unequal), 'parameter')}, "
            f"such as {unequal[0]}"
        )
    with without_tf32():
        whole = compute(_built(ranks.CASE, "float32"), ranks.CASE)
    both = Result(np.concatenate([first.logits, second.logits]), first.gradients)
    wanted = Result(whole.logits, {name: whole.gradients[name] for name in first.gradients})
    return _judged([(ranks.CASE.name, distance(both, wanted))], "float32", device)


def _launch(options: Sequence[str], folder: Path, device: str) -> None:
    package = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PADDLE_")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(package), environment.get("PYTHONPATH", "")))
    )
    command = [
        *(sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", *options),
        *("--log_dir", str(folder / "log"), str(Path(ranks.__file__)), str(folder), device),
    ]
    with (folder / "launcher.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            code = process.wait(RANKS_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"two processes had not ended after {RANKS_SECONDS} s{_last_line(folder)}") from None
        finally:
            _end(process)
    if code:
        raise Failed(f"the launcher of two processes ended with {code}{_last_line(folder)}")


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End a launcher that goes on. Its processes are in sessions of their own, so it has to end them itself."""
    if launcher.poll() is None:
        launcher.terminate()
        try:
            launcher.wait(LAUNCHER_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


def _last_line(folder: Path) -> str:
    """The last error in the processes' logs, else in the launcher's."""
    logs = [*sorted((folder / "log").glob("workerlog.*")), folder / "launcher.log"]
    for path in logs:
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        errors = [line.strip() for line in lines if "Error" in line]
        if errors:
            return f": {shortened(printable(errors[-1], lines=False), LONGEST_ERROR)}"
    return ""


# ---- images


def jpeg_decoding(device: str) -> str:
    """A small JPEG, made here, read as training reads it; by the fast decoder to the same pixels as by Pillow."""
    y, x = np.mgrid[:40, :56]
    pixels = np.stack([4 * x, 5 * y, 120 + 60 * np.sin((x + y) / 9)], axis=2).round().astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=90)
    with pil_open(io.BytesIO(content.getvalue()), ["JPEG"]) as image:
        by_pillow = as_array(to_channels(image, 3))
    if by_pillow.shape != pixels.shape:
        raise Failed(f"Pillow decodes an image of {pixels.shape} to {by_pillow.shape}")
    error = float(np.abs(by_pillow.astype(float) - pixels).mean())
    if error > JPEG_LEVELS:
        raise Failed(
            f"Pillow's pixels differ from the image's by {error:.2g} of 255 on average, limit {JPEG_LEVELS:g}"
        )
    if not is_fast():
        return f"Pillow, mean error {error:.2g} of 255; the fast decoder is not installed"
    encoded = EncodedImage(Path("doctor.jpg"), "cyclemlp doctor", content.getvalue())
    height, width, _ = pixels.shape
    fast = encoded.part((0, 0, width, height), 3)
    apart = int(np.abs(fast.astype(int) - by_pillow).max())
    if apart:
        raise Failed(f"the fast decoder's pixels differ from Pillow's by up to {apart} of 255, limit 0")
    return f"mean error {error:.2g} of 255; the fast decoder gives Pillow's pixels"


def _line(error: Exception) -> str:
    """The line of an error that says what is wrong: Paddle's come with a C++ stack and a frame of dashes."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line.strip("-= ") and "Traceback" not in line]
    telling = [line for line in lines if "Error:" in line or line.startswith("(")]
    text = (telling or lines or ["no message"])[0]
    return shortened(printable(text, lines=False), LONGEST_ERROR)


CHECKS: tuple[tuple[str, Work], ...] = (
    ("golden results, float64", partial(golden_results, "float64")),
    ("golden results, float32", partial(golden_results, "float32")),
    ("golden results, TF32", partial(golden_results, "TF32")),
    ("plain against chosen layers, float64", partial(plain_and_chosen, "float64")),
    ("plain against chosen layers, float32", partial(plain_and_chosen, "float32")),
    ("mixed precision, float16", partial(mixed_precision, "float16")),
    ("mixed precision, bfloat16", partial(mixed_precision, "bfloat16")),
    ("two processes on two devices", two_processes),
    ("JPEG decoding", jpeg_decoding),
)

"""Which form of the Cycle FC's shift is fastest on a GPU? Measured in PyTorch and Triton; needs no PaddlePaddle.

    python benchmarks/gpu_shift.py --json shift.json        about four minutes on one GPU
    python benchmarks/gpu_shift.py --device cpu --batch 2   to see that it works

Prints milliseconds, medians, of the shifts of both branches and of a block of each stage of B1 at 224², forward and
with the gradient, and images/s of B1's training step. Each form is first compared with a shift written as a loop over
channels. Shapes: B batch, H height, W width, C channels; step size 3; maps are `[B, H, W, C]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None
try:
    from torchvision.ops import deform_conv2d
except ImportError:
    deform_conv2d = None

STAGES = [(56, 64, 2), (28, 128, 2), (14, 320, 4), (7, 512, 2)]  # side, channels, blocks
MODES = {"bfloat16": torch.bfloat16, "TF32": None, "float32": None}
Maps = tuple[torch.Tensor, torch.Tensor]


def offsets(channels: int) -> torch.Tensor:
    """δ(c): −1, 0 or 1."""
    return (torch.arange(channels) + 1) % 3 - 1


def by_loop(x: torch.Tensor, sign: int = 1) -> Maps:
    """Both shifts, channel by channel; with sign −1 their gradients' moves."""
    results = []
    for axis in (2, 1):
        y = torch.zeros_like(x)
        for c, d in enumerate((sign * offsets(x.shape[3])).tolist()):
            n = x.shape[axis] - abs(d)
            source = x[..., c].narrow(axis, max(d, 0), n)
            y[..., c].narrow(axis, max(-d, 0), n).copy_(source)
        results.append(y)
    return results[0], results[1]


# ---- the forms: each a function of x and of `constants`


def constants(side: int, channels: int, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Kernels, rows of 0 and 1, masks and indices."""
    tap = F.one_hot(offsets(channels) + 1, 3).to(dtype)
    place, delta = torch.arange(side)[:, None], torch.arange(3)[None] - 1
    inside = ((place + delta >= 0) & (place + delta < side)).to(dtype)
    mask = inside[:, None, :] * tap[None]  # [side, C, tap]
    index = torch.arange(side)[:, None] + 1 + offsets(channels)[None]
    made = {"tap": tap, "mask": mask, "index": index}
    return {name: value.to(device) for name, value in made.items()}


def one_hot(x: torch.Tensor, k: dict[str, torch.Tensor], last: bool = False) -> Maps:
    y, channels = x.permute(0, 3, 1, 2), x.shape[3]
    y = y if last else y.contiguous()
    w = F.conv2d(y, k["tap"].reshape(channels, 1, 1, 3), padding=(0, 1), groups=channels)
    h = F.conv2d(y, k["tap"].reshape(channels, 1, 3, 1), padding=(1, 0), groups=channels)
    return w.permute(0, 2, 3, 1), h.permute(0, 2, 3, 1)


def rolled(x: torch.Tensor, k: dict[str, torch.Tensor]) -> Maps:
    mask = k["mask"]
    w = sum(x.roll(1 - t, 2) * mask[None, None, :, :, t] for t in range(3))
    h = sum(x.roll(1 - t, 1) * mask[None, :, None, :, t] for t in range(3))
    return w, h


def moved(x: torch.Tensor, k: dict[str, torch.Tensor]) -> Maps:
    w, h = F.pad(x, (0, 0, 1, 1)), F.pad(x, (0, 0, 0, 0, 1, 1))
    rows = [k["tap"][:, t] for t in range(3)]
    return (
        sum(w.narrow(2, t, x.shape[2]) * rows[t] for t in range(3)),
        sum(h.narrow(1, t, x.shape[1]) * rows[t] for t in range(3)),
    )


def gathered(x: torch.Tensor, k: dict[str, torch.Tensor]) -> Maps:
    index = k["index"]
    w = F.pad(x, (0, 0, 1, 1)).gather(2, index[None, None].expand(*x.shape))
    h = F.pad(x, (0, 0, 0, 0, 1, 1)).gather(1, index[None, :, None].expand(*x.shape))
    return w, h


def _slices(x: torch.Tensor, axis: int, sign: int) -> torch.Tensor:
    """Every third channel copied at its offset."""
    y, n = torch.empty_like(x), x.shape[axis]
    for first, d in enumerate((sign * offsets(3)).tolist()):
        source, target = x[..., first::3], y[..., first::3]
        if d:
            target.select(axis, n - 1 if d > 0 else 0).zero_()
        target.narrow(axis, max(-d, 0), n - abs(d)).copy_(source.narrow(axis, max(d, 0), n - abs(d)))
    return y


class Slices(torch.autograd.Function):
    """With the gradient by hand: the slices moved back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> Maps:
        return _slices(x, 2, 1), _slices(x, 1, 1)

    @staticmethod
    def backward(ctx: Any, dw: torch.Tensor, dh: torch.Tensor) -> torch.Tensor:
        return _slices(dw, 2, -1).add_(_slices(dh, 1, -1))


if triton is not None:

    @triton.jit
    def both_shifts(x, w, h, n, height, width, channels, BACK: tl.constexpr, BLOCK: tl.constexpr):
        """x → w, h; with BACK from their gradients in x and w to that of x, in h."""
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        row = at // channels
        j, i, d = row % width, (row // width) % height, (at % channels + 1) % 3 - 1
        if BACK:
            right = (at < n) & (j - d >= 0) & (j - d < width)
            down = (at < n) & (i - d >= 0) & (i - d < height)
            total = tl.load(x + at - d * channels, mask=right, other=0.0).to(tl.float32)
            total += tl.load(w + at - d * width * channels, mask=down, other=0.0).to(tl.float32)
            tl.store(h + at, total, mask=at < n)
        else:
            right = (at < n) & (j + d >= 0) & (j + d < width)
            down = (at < n) & (i + d >= 0) & (i + d < height)
            tl.store(w + at, tl.load(x + at + d * channels, mask=right, other=0.0), mask=at < n)
            tl.store(h + at, tl.load(x + at + d * width * channels, mask=down, other=0.0), mask=at < n)


class InOnePass(torch.autograd.Function):
    """A Triton kernel for both branches."""

    @staticmethod
    def launch(x: torch.Tensor, w: torch.Tensor, h: torch.Tensor, back: bool) -> None:
        grid = (triton.cdiv(x.numel(), 1024),)
        both_shifts[grid](x, w, h, x.numel(), *x.shape[1:], back, 1024)

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> Maps:
        x = x.contiguous()
        w, h = torch.empty_like(x), torch.empty_like(x)
        InOnePass.launch(x, w, h, False)
        return w, h

    @staticmethod
    def backward(ctx: Any, dw: torch.Tensor, dh: torch.Tensor) -> torch.Tensor:
        dx = torch.empty_like(dw, memory_format=torch.contiguous_format)
        InOnePass.launch(dw.contiguous(), dh.contiguous(), dx, True)
        return dx


SHIFTS: dict[str, Callable[..., Maps]] = {
    "one-hot depthwise, channels first": one_hot,
    "one-hot depthwise, channels last": lambda x, k: one_hot(x, k, last=True),
    "roll and mask": rolled,
    "moved maps times 0 and 1": moved,
    "gather": gathered,
    "slices, gradient by hand": lambda x, k: Slices.apply(x),
    "one Triton kernel": lambda x, k: InOnePass.apply(x),
}
#: Shift and FC in one operator: `mix` computes them otherwise.
DENSE, DEFORM = "dense convolution, two thirds zeros", "deformable convolution"


class Mixer(nn.Module):
    def __init__(self, c: int, side: int, form: str, device: str) -> None:
        super().__init__()
        self.w, self.h, self.proj = (nn.Linear(c, c) for _ in range(3))
        self.c = nn.Linear(c, c, bias=False)
        self.gate = nn.Sequential(nn.Linear(c, c // 4), nn.GELU(), nn.Linear(c // 4, 3 * c))
        self.form, self.side, self.device = form, side, device
        self.made: dict[torch.dtype, dict[str, torch.Tensor]] = {}

    def branches(self, x: torch.Tensor) -> Maps:
        """The two Cycle FCs."""
        if x.dtype not in self.made:
            self.made[x.dtype] = constants(self.side, x.shape[3], self.device, x.dtype)
        k = self.made[x.dtype]
        if self.form in SHIFTS:
            w, h = SHIFTS[self.form](x, k)
            return self.w(w), self.h(h)
        y, results = x.permute(0, 3, 1, 2), []
        for layer, turned in ((self.w, False), (self.h, True)):
            if self.form == DENSE:
                kernel = (layer.weight[:, :, None] * k["tap"][None]).unsqueeze(3 if turned else 2)
                out = F.conv2d(y, kernel, layer.bias, padding=(1, 0) if turned else (0, 1))
            else:
                zero, delta = (
                    torch.zeros(x.shape[3], device=x.device),
                    offsets(x.shape[3]).to(x.device).float(),
                )
                pairs = torch.stack([delta, zero] if turned else [zero, delta], 1).reshape(1, -1, 1, 1)
                where = pairs.expand(x.shape[0], -1, *x.shape[1:3]).contiguous()
                out = deform_conv2d(y.float().contiguous(), where, layer.weight[:, :, None, None], layer.bias)
            results.append(out.permute(0, 2, 3, 1).to(x.dtype))
        return results[0], results[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled():
            x = x.to(torch.get_autocast_dtype(self.device))
        (w, h), c = self.branches(x), self.c(x)
        a = self.gate((w + h + c).mean((1, 2))).reshape(x.shape[0], 1, 1, -1, 3).softmax(-1).to(c.dtype)
        return self.proj(w * a[..., 0] + h * a[..., 1] + c * a[..., 2])


class Block(nn.Module):
    def __init__(self, c: int, side: int, form: str, device: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.mixer = Mixer(c, side, form, device)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Network(nn.Module):
    """B1."""

    def __init__(self, form: str, device: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        before = 3
        for side, c, blocks in STAGES:
            self.layers.append(nn.Conv2d(before, c, *((7, 4, 2) if before == 3 else (3, 2, 1))))
            self.layers.append(nn.Sequential(*[Block(c, side, form, device) for _ in range(blocks)]))
            before = c
        self.norm, self.head = nn.LayerNorm(before), nn.Linear(before, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(self.norm(x.permute(0, 2, 3, 1)).mean((1, 2)))


# ---- the measurement


def milliseconds(work: Callable[[], Any], device: str, repeats: int) -> float:
    """The median of some runs after three unmeasured ones."""
    times = []
    for i in range(repeats + 3):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        if i >= 3:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def check(form: str, device: str) -> float:
    """Largest difference from the loop, forward and gradient."""
    x = torch.randn(2, 6, 6, 10, device=device, requires_grad=True)
    grads = torch.randn_like(x), torch.randn_like(x)
    maps = SHIFTS[form](x, constants(6, 10, device, x.dtype))
    (dx,) = torch.autograd.grad(maps, [x], grads)
    expected = by_loop(grads[0], -1)[0] + by_loop(grads[1], -1)[1]
    pairs = [*zip(maps, by_loop(x.detach()), strict=True), (dx, expected)]
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


def training_step(form: str, device: str, batch: int, cast: Any) -> Callable[[], None]:
    """A training step of B1."""
    network = Network(form, device).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    images = torch.randn(batch, 3, 224, 224, device=device)
    labels = torch.randint(0, 1000, (batch,), device=device)

    def step() -> None:
        with cast:
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, too")
    args = parser.parse_args()
    device, repeats, batch = args.device, args.repeats, args.batch
    forms = [form for form in SHIFTS if (triton is not None and device == "cuda") or "Triton" not in form]
    whole = [*forms, DENSE, *([DEFORM] if deform_conv2d else [])]
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "batch": batch}
    print(f"{name}, PyTorch {torch.__version__}, batch {batch}")

    def report(what: str, form: str, mode: str, figures: list[float]) -> None:
        found.setdefault(what, {}).setdefault(mode, {})[form] = figures
        print(f"{what:9} {mode:9} {form:38}" + "".join(f"{figure:10.3f}" for figure in figures), flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))

    for form in forms:
        difference = check(form, device)
        print(f"{form}: largest difference {difference:.1e}")
        if difference > 1e-5:
            raise SystemExit("not the shift")
    for mode, dtype in MODES.items():
        strict = mode == "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not strict
        cast = torch.autocast(device, dtype=torch.bfloat16, enabled=dtype is not None)
        for form in forms if mode != "TF32" else []:
            figures = []
            for side, c, _ in STAGES:
                x = torch.randn(batch, side, side, c, device=device, dtype=dtype, requires_grad=True)
                g, k = torch.randn_like(x), constants(side, c, device, x.dtype)

                def shifts(form: str = form, x: Any = x, g: Any = g, k: Any = k) -> None:
                    torch.autograd.grad(SHIFTS[form](x, k), [x], [g, g])

                figures.append(milliseconds(shifts, device, repeats))
            report("shifts", form, mode, figures)
        for form in whole:
            figures = []
            for side, c, _ in STAGES:
                x = torch.randn(batch, side, side, c, device=device, requires_grad=True)
                block = Block(c, side, form, device).to(device)

                def step(block: Any = block, x: Any = x, cast: Any = cast) -> None:
                    with cast:
                        y = block(x)
                    torch.autograd.grad(y, [x, *block.parameters()], torch.ones_like(y))

                figures.append(milliseconds(step, device, repeats))
            total = sum(ms * blocks for ms, (_, _, blocks) in zip(figures, STAGES, strict=True))
            report("blocks", form, mode, [*figures, total])
        for form in whole:
            step = training_step(form, device, batch, cast)
            report("images/s", form, mode, [1000 * batch / milliseconds(step, device, repeats)])


if __name__ == "__main__":
    main()

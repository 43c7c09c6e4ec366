"""How fast is the network, against deformable convolution and against plain channel FCs?

    python benchmarks/speed.py                              B1 at 224², one image, eight, a training step; the bars
    python benchmarks/speed.py --models cyclemlp_b1 cyclemlp_b5 --sizes 224 384 512x1024
    python benchmarks/speed.py --memory                     peak resident memory of a training step
    python benchmarks/speed.py --sizes 224 512x1024 --images 2    fewer of them where memory is short: eight of
                                                            512×1024 take 9 GB a side in a training step
    python benchmarks/speed.py --clock cpu                  processor time: for a machine that is not quiet

The sides are one network, with the Cycle FC computed in different ways or replaced, each in a process of its own:

    deform         by deformable convolution, as the published code does, in Paddle as installed
    deform, tuned  the same, with memory, MKL's path and threads tuned as our commands do (docs/speed.md)
    channel FC     a channel FC in each Cycle FC's place, tuned: the paper says that a Cycle FC costs as much
    ours           what `cyclemlp.create_model` gives, tuned

All but ours are written here from the definition, in Paddle's own layers, and checked: with the same weights the
deformable network gives our logits. Every side has the same number of threads. In each round every side works once,
in turn; printed are medians over the rounds, and ratios of medians.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sides import Side, judge, work_when_told  # the program beside this one

SIDES = {"deform": False, "deform, tuned": True, "channel FC": True, "ours": True}  # name → tuned
WORK = ("one image", "eight images", "training step")


@dataclass(frozen=True)
class Bar:
    """What B1 at 224² is held to: time of `side` over ours, at least; or if `most`, ours over its time, at most."""

    work: str
    side: str
    ratio: float
    most: bool = False


BARS = [
    Bar("training step", "deform", 5.0),
    Bar("eight images", "deform", 4.5),
    Bar("one image", "deform", 4.5),
    Bar("training step", "deform, tuned", 2.1),
    Bar("eight images", "deform, tuned", 1.8),
    Bar("one image", "deform, tuned", 1.5),
    Bar("training step", "channel FC", 1.10, most=True),
    Bar("eight images", "channel FC", 1.15, most=True),
    Bar("one image", "channel FC", 1.15, most=True),
]
MEMORY_BAR = 1.25  # of the network with channel FCs
GROWTH_BAR = 1.1  # of the growth with the number of pixels that the network with channel FCs has


# ---- the sides: these functions run in their processes, where Paddle is loaded


def plain_network(name: str, deformable: bool) -> Any:
    """CycleMLP from its definition, in Paddle's layers; the Cycle FC deformable, or replaced by a channel FC."""
    import numpy as np
    import paddle
    import paddle.nn.functional as F
    from paddle import nn
    from paddle.vision.ops import deform_conv2d

    from cyclemlp.models import describe_model
    from cyclemlp.offsets import cycle_offsets

    config, _ = describe_model(name)

    class Deformable(nn.Layer):
        def __init__(self, channels: int, step_size: tuple[int, int]) -> None:
            super().__init__()
            self.weight = self.create_parameter([channels, channels, 1, 1])
            self.bias = self.create_parameter([channels], is_bias=True)
            offsets = np.stack(cycle_offsets(channels, step_size), axis=1).reshape(1, -1, 1, 1)
            self.register_buffer("offset", paddle.to_tensor(offsets.astype(np.float32)), persistable=False)

        def forward(self, x: Any) -> Any:
            x = x.transpose([0, 3, 1, 2])
            offset = self.offset.expand([x.shape[0], -1, *x.shape[2:]])
            groups = x.shape[1]
            return deform_conv2d(x, offset, self.weight, self.bias, deformable_groups=groups).transpose(
                [0, 2, 3, 1]
            )

    class Mlp(nn.Layer):
        def __init__(self, channels: int, hidden: int, out: int) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, out)

        def forward(self, x: Any) -> Any:
            return self.fc2(F.gelu(self.fc1(x)))

    class Mixer(nn.Layer):
        def __init__(self, c: int) -> None:
            super().__init__()
            self.mlp_c = nn.Linear(c, c, bias_attr=False)
            self.sfc_h = Deformable(c, (1, 3)) if deformable else nn.Linear(c, c)
            self.sfc_w = Deformable(c, (3, 1)) if deformable else nn.Linear(c, c)
            self.reweight, self.proj = Mlp(c, c // 4, 3 * c), nn.Linear(c, c)

        def forward(self, x: Any) -> Any:
            h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
            a = self.reweight((h + w + c).mean([1, 2])).reshape([x.shape[0], -1, 3])
            a = F.softmax(a.transpose([2, 0, 1]), axis=0).unsqueeze(2).unsqueeze(2)
            return self.proj(h * a[0] + w * a[1] + c * a[2])

    class Block(nn.Layer):
        def __init__(self, c: int, ratio: float) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
            self.attn, self.mlp = Mixer(c), Mlp(c, int(c * ratio), c)

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class Convolution(nn.Layer):
        def __init__(self, *arguments: int) -> None:
            super().__init__()
            self.proj = nn.Conv2D(*arguments)

        def forward(self, x: Any) -> Any:
            return self.proj(x)

    class Network(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            dims, layers = config.embed_dims, []
            self.patch_embed = Convolution(3, dims[0], 7, 4, 2)
            for i, depth in enumerate(config.depths):
                layers += [Convolution(dims[i - 1], dims[i], 3, 2, 1)] if i else []
                layers += [nn.Sequential(*(Block(dims[i], config.mlp_ratios[i]) for _ in range(depth)))]
            self.network = nn.LayerList(layers)
            self.norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], config.num_classes)

        def forward(self, x: Any) -> Any:
            x = self.patch_embed(x)
            for i, layer in enumerate(self.network):
                x = layer(x) if i % 2 else layer(x.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])
            return self.head(self.norm(x.transpose([0, 2, 3, 1])).mean([1, 2]))

    return Network()


def build(side: str, name: str) -> Any:
    """The network of a side; a deformable one has been checked against ours."""
    import paddle

    import cyclemlp

    paddle.seed(0)
    ours = cyclemlp.create_model(name)
    if side == "ours":
        return ours
    network = plain_network(name, deformable=side != "channel FC")
    if side != "channel FC":
        network.set_state_dict(ours.state_dict())
        x = paddle.randn([2, 3, 64, 96])
        with paddle.no_grad():
            difference = float((network(x) - ours(x)).abs().max() / ours(x).abs().max())
        if difference > 1e-4:
            raise SystemExit(f"the deformable network is another one: its logits differ by {difference:.1e}")
    return network


def paddle_work(network: Any, shape: list[int], train: bool) -> Callable[[], Any]:
    """A training step, or a forward pass in evaluation, of a network of 1000 classes on images of this shape."""
    import paddle

    x = paddle.randn(shape)
    if train:
        labels = paddle.randint(0, 1000, shape[:1])
        optimizer = paddle.optimizer.AdamW(1e-4, parameters=network.parameters(), weight_decay=0.05)

        def step() -> None:
            paddle.nn.functional.cross_entropy(network(x), labels).backward()
            optimizer.step()
            optimizer.clear_grad()

        return step
    network.eval()

    @paddle.no_grad()
    def forward() -> None:
        network(x)

    return forward


def worker(side: str, name: str, work: str, height: int, width: int, images: int) -> None:
    """One side's work."""
    if SIDES[side]:
        import cyclemlp

        cyclemlp.tune()

    network, batch = build(side, name), 1 if work == "one image" else images
    work_when_told(paddle_work(network, [batch, 3, height, width], work == "training step"))


# ---- the measurement


def measure(name: str, work: str, size: tuple[int, int], args: argparse.Namespace) -> dict[str, Side]:
    sides = {}
    for side in args.sides:
        sides[side] = Side(__file__, [side, name, work, *map(str, (*size, args.images))], args.threads)
    for _ in range(3 if args.memory else args.rounds):
        for side in sides.values():
            side.work()
    for side in sides.values():
        side.close()
    return sides


def print_times(name: str, work: str, size: tuple[int, int], sides: dict[str, Side], clock: str) -> None:
    ours = sides["ours"].median(clock)
    row = [f"{name} {size[0]}×{size[1]} {work}".ljust(42), f"ours {ours:8.1f} ms"]
    for side in sides:
        if side != "ours":
            time_ = sides[side].median(clock)
            row.append(f"{side} {time_:8.1f} ms ({time_ / ours:.2f}×)")
    print("   ".join(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["cyclemlp_b1"], metavar="NAME")
    parser.add_argument("--sizes", nargs="+", default=["224"], metavar="SIDE|HxW", help="in pixels")
    parser.add_argument("--work", nargs="+", default=list(WORK), choices=WORK)
    parser.add_argument(
        "--sides", nargs="+", default=list(SIDES), choices=list(SIDES), help="ours is always there"
    )
    parser.add_argument("--images", type=int, default=8, help="instead of eight; the bars are for eight")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu for a machine that is not quiet"
    )
    parser.add_argument("--memory", action="store_true", help="peak resident memory instead of time")
    args = parser.parse_args()
    args.sides = [side for side in SIDES if side in (*args.sides, "ours")]
    sizes = []
    for text in args.sizes:
        height, _, width = text.partition("x")
        sizes.append((int(height), int(width or height)))
    what = "peaks of 5 steps" if args.memory else f"medians of {args.rounds} rounds, {args.clock} clock"
    print(f"{args.threads} threads, {what}", flush=True)
    results = {}
    for name in args.models:
        for size in sizes:
            for work in ["training step"] if args.memory else args.work:
                sides = results[name, size, work] = measure(name, work, size, args)
                if args.memory:
                    print_memory(name, size, sides)
                else:
                    print_times(name, work, size, sides, args.clock)
    if not args.memory:
        print_bars(results if args.images == 8 else {}, args.clock)
        print_growth(results, args.clock)


def print_memory(name: str, size: tuple[int, int], sides: dict[str, Side]) -> None:
    for side, one in sides.items():
        print(
            f"{name} {size[0]}×{size[1]} training step, peak: {side:14} {one.samples[-1].megabytes:7.0f} MB"
        )
    if "channel FC" in sides:
        judge(
            "over channel FC",
            sides["ours"].samples[-1].megabytes / sides["channel FC"].samples[-1].megabytes,
            MEMORY_BAR,
            True,
        )


def print_bars(results: dict[tuple[str, tuple[int, int], str], dict[str, Side]], clock: str) -> None:
    for bar in BARS:
        sides = results.get(("cyclemlp_b1", (224, 224), bar.work), {})
        if "ours" in sides and bar.side in sides:
            ratio = sides[bar.side].median(clock) / sides["ours"].median(clock)
            what = f"{bar.work}: ours / {bar.side}" if bar.most else f"{bar.work}: {bar.side} / ours"
            judge(what, 1 / ratio if bar.most else ratio, bar.ratio, bar.most)


def print_growth(results: dict[tuple[str, tuple[int, int], str], dict[str, Side]], clock: str) -> None:
    for (name, size, work), sides in results.items():
        smallest = results[name, min(s for n, s, w in results if (n, w) == (name, work)), work]
        if sides is not smallest and "channel FC" in sides:
            grown = {s: sides[s].median(clock) / smallest[s].median(clock) for s in ("ours", "channel FC")}
            what = f"{name} {size[0]}×{size[1]}, {work}: growth / channel FC's"
            judge(what, grown["ours"] / grown["channel FC"], GROWTH_BAR, True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        side, name, work, *numbers = sys.argv[2:]
        worker(side, name, work, *map(int, numbers))
    else:
        main()

"""What a CycleMLP is made of: one dataclass, checked when it is made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from cyclemlp.errors import ModelError
from cyclemlp.text import shown

#: The paper's branches: Cycle FC 1×S (shifts along W), Cycle FC S×1 (along H), channel FC.
BRANCHES = ("h", "w", "c")
#: Between stages: a 3×3 convolution of stride 2, or Swin's patch merging.
DOWNSAMPLES = ("conv", "merge")
#: Bounds that no network of this kind wants to pass; beyond them a value is a slip, and would take memory without end.
MAX_CLASSES = 1_000_000
MAX_WIDTH, MAX_DEPTH, MAX_MLP_RATIO = 8192, 1024, 64
MAX_CHANNELS, MAX_PIXELS = 256, 1024  # of the input; of a patch or a step
MAX_PARAMETERS = 4_000_000_000  # of the stages, roughly
StepSize = int | Sequence[Sequence[int]]


@dataclass(frozen=True)
class CycleMLPConfig:
    """Architecture of one CycleMLP. The defaults are B1's.

    Attributes:
        num_classes: outputs of the head; 0 for no head (the network then returns pooled features).
        in_chans: channels of the image.
        embed_dims: width of each stage, C₁…C₄; each divisible by 4 (the gate's hidden width is C / 4).
        depths: blocks of each stage.
        mlp_ratios: hidden width of the channel MLP over the stage's width.
        step_size: S: `sfc_h` takes (1, S) and `sfc_w` (S, 1). Or both in full: ((1, 3), (3, 1)).
        patch_size: side of the patch embedding's kernel, in pixels.
        patch_stride: its stride, in pixels; the stages have 1, 2, 4 and 8 times this stride.
        patch_norm: a norm after the patch embedding, as Swin has it.
        downsample: between stages: "conv", a 3×3 convolution of stride 2, or "merge", Swin's patch merging.
        drop_rate: dropout in the gate's MLP, in the channel MLP and after the projection.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        features_only: return normalised feature maps instead of logits.
        out_indices: which stages' maps, 0 to 3, in rising order; only with `features_only`.
        branches: which of h (Cycle FC 1×S), w (Cycle FC S×1) and c (channel FC): the paper's ablation.
        gate: weight the branches by a gate MLP; without it they are summed.
        recompute: in training, keep no activation inside a block and compute it again for its gradient.

    Raises:
        ModelError: for a value that makes no network; it says which and what is possible.
    """

    num_classes: int = 1000
    in_chans: int = 3
    embed_dims: tuple[int, ...] = (64, 128, 320, 512)
    depths: tuple[int, ...] = (2, 2, 4, 2)
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    step_size: StepSize = 3
    patch_size: int = 7
    patch_stride: int = 4
    patch_norm: bool = False
    downsample: str = "conv"
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    features_only: bool = False
    out_indices: tuple[int, ...] = (0, 1, 2, 3)
    branches: tuple[str, ...] = BRANCHES
    gate: bool = True
    recompute: bool = False

    def __post_init__(self) -> None:
        for name in ("embed_dims", "depths", "mlp_ratios", "out_indices", "branches"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, Sequence) and len(value) <= 16, "a sequence of at most 16")
            object.__setattr__(self, name, tuple(value))
        _check(
            "num_classes",
            self.num_classes,
            _whole(self.num_classes, 0, MAX_CLASSES),
            f"a whole number from 0 (no head) to {MAX_CLASSES}",
        )
        for name, most in (
            ("in_chans", MAX_CHANNELS),
            ("patch_size", MAX_PIXELS),
            ("patch_stride", MAX_PIXELS),
        ):
            value = getattr(self, name)
            _check(name, value, _whole(value, 1, most), f"a whole number from 1 to {most}")
        _check(
            "embed_dims",
            self.embed_dims,
            len(self.embed_dims) == 4
            and all(_whole(c, 4, MAX_WIDTH) and c % 4 == 0 for c in self.embed_dims),
            f"four widths, each divisible by 4 and at most {MAX_WIDTH}",
        )
        _check(
            "depths",
            self.depths,
            len(self.depths) == 4 and all(_whole(d, 1, MAX_DEPTH) for d in self.depths),
            f"four numbers of blocks, each from 1 to {MAX_DEPTH}",
        )
        _check(
            "mlp_ratios",
            self.mlp_ratios,
            len(self.mlp_ratios) == 4
            and all(
                _number(r) and 0 < r <= MAX_MLP_RATIO and int(c * r) >= 1
                for r, c in zip(self.mlp_ratios, self.embed_dims, strict=True)
            ),
            f"four ratios above 0 and at most {MAX_MLP_RATIO}",
        )
        blocks = zip(self.depths, self.embed_dims, self.mlp_ratios, strict=True)
        parameters = self.num_classes * self.embed_dims[-1] + sum(
            depth * width**2 * (2 * ratio + 4) for depth, width, ratio in blocks
        )
        if parameters > MAX_PARAMETERS:
            raise ModelError(
                f"num_classes, embed_dims, depths and mlp_ratios give about {parameters / 1e9:,.1f} billion "
                f"parameters; at most {MAX_PARAMETERS / 1e9:g} are built"
            )
        _check(
            "patch_size",
            self.patch_size,
            self.patch_size >= self.patch_stride,
            f"at least patch_stride, {self.patch_stride}: pixels would be skipped",
        )
        for name in ("patch_norm", "gate", "features_only", "recompute"):
            _check(name, getattr(self, name), isinstance(getattr(self, name), bool), "true or false")
        _check("downsample", self.downsample, self.downsample in DOWNSAMPLES, f"one of {DOWNSAMPLES}")
        for name in ("drop_rate", "drop_path_rate"):
            value = getattr(self, name)
            _check(name, value, _number(value) and 0 <= value < 1, "a rate in [0, 1)")
        _check(
            "out_indices",
            self.out_indices,
            len(self.out_indices) > 0
            and all(_whole(i, 0, 3) for i in self.out_indices)
            and list(self.out_indices) == sorted(set(self.out_indices)),
            "stages from 0 to 3 in rising order, at least one",
        )
        if not self.features_only and self.out_indices != (0, 1, 2, 3):
            raise ModelError("out_indices chooses feature maps, so it needs features_only=True")
        ordered = tuple(b for b in BRANCHES if b in self.branches)
        _check(
            "branches",
            self.branches,
            bool(ordered) and len(ordered) == len(self.branches),
            f"some of {BRANCHES}, each once",
        )
        object.__setattr__(self, "branches", ordered)
        _check(
            "step_size",
            self.step_size,
            _whole(self.step_size, 1, MAX_PIXELS) or _is_pair_of_pairs(self.step_size),
            f"a whole number from 1 to {MAX_PIXELS}, or ((S_H, S_W), (S_H, S_W)) of sfc_h and sfc_w",
        )

    @property
    def step_sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(S_H, S_W) of `sfc_h` and of `sfc_w`."""
        if isinstance(self.step_size, int):
            return (1, self.step_size), (self.step_size, 1)
        (a, b), (c, d) = self.step_size
        return (a, b), (c, d)

    @property
    def stages(self) -> int:
        """Number of stages built: all four, or up to the last of `out_indices` in the feature form."""
        return self.out_indices[-1] + 1

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's map, in pixels."""
        return tuple(self.patch_stride * 2**i for i in range(4))

    @property
    def patch_padding(self) -> tuple[int, int]:
        """Rows of zeros, in pixels, before and after the image in each direction, for the patch embedding.

        2 and 2 for 7×7 patches of stride 4: H pixels give about H / 4 rows. Patches that do not overlap begin at the
        first pixel, and what does not fill the last one is filled up, as in Swin: ⌈H / stride⌉ rows.
        """
        if self.patch_size == self.patch_stride:
            return 0, self.patch_stride - 1
        side = (self.patch_size - self.patch_stride + 1) // 2
        return side, side

    @property
    def min_size(self) -> int:
        """Smallest height and width of an image, in pixels."""
        return self.strides[-1]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def differences(self, other: CycleMLPConfig) -> dict[str, Any]:
        """The values of this one that `other` has not, so that `other.replace(…)` of them gives this one."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {name: value for name, value in mine.items() if value != theirs[name]}

    def replace(self, overrides: Mapping[str, Any]) -> CycleMLPConfig:
        """A copy with some values changed; an unknown name is a `ModelError` that lists the known ones."""
        known = [f.name for f in fields(self)]
        for name in overrides:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ModelError(f"unknown override {name!r}{hint}; the possible ones are {', '.join(known)}")
        return type(self)(**{**{n: getattr(self, n) for n in known}, **overrides})


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """' (did you mean …?)' with the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise ModelError(f"{name}={shown(value)} is not possible: it must be {wanted}")


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair_of_pairs(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(
            isinstance(p, Sequence) and len(p) == 2 and all(_whole(s, 1, MAX_PIXELS) for s in p)
            for p in value
        )
    )

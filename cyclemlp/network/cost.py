"""Cost of a network, from its architecture alone."""

from __future__ import annotations

from dataclasses import dataclass

from cyclemlp.network.config import CycleMLPConfig


@dataclass(frozen=True)
class PartCost:
    """One part of a network.

    Attributes:
        place: "patch embedding", "stage 1", "downsampling 1–2", …, "head", or, in the feature form, "maps".
        name: what it is, within the place.
        times: how many there are of it: the stage's blocks, else 1.
        height, width, channels: of what it gives.
        parameters, macs: of all of them together.
    """

    place: str
    name: str
    times: int
    height: int
    width: int
    channels: int
    parameters: int
    macs: int


def part_costs(config: CycleMLPConfig, height: int = 224, width: int = 224) -> list[PartCost]:
    """Every part of a network with its shape, parameters and MACs, in the order of the forward.

    Args:
        config: the architecture.
        height, width: of the image, in pixels.
    """
    parts: list[PartCost] = []

    def add(place: str, name: str, c: int, parameters: int, macs: int = 0, times: int = 1) -> None:
        parts.append(PartCost(place, name, times, h, w, c, times * parameters, times * macs))

    pad = sum(config.patch_padding)
    h, w = ((n + pad - config.patch_size) // config.patch_stride + 1 for n in (height, width))
    dims, branches = config.embed_dims, config.branches
    size = config.patch_size
    weights = config.in_chans * size**2 * dims[0]
    add(
        "patch embedding",
        f"{size}×{size}, stride {config.patch_stride}",
        dims[0],
        weights + dims[0],
        h * w * weights,
    )
    if config.patch_norm:
        add("patch embedding", "norm", dims[0], 2 * dims[0])
    for i, c in enumerate(dims[: config.stages]):
        if i > 0:
            h, w = -(-h // 2), -(-w // 2)
            place, before = f"downsampling {i}–{i + 1}", dims[i - 1]
            if config.downsample == "conv":
                add(place, "3×3, stride 2", c, 9 * before * c + c, h * w * 9 * before * c)
            else:
                add(place, "norm, patch merging", c, 4 * before * (2 + c), h * w * 4 * before * c)
        place, times = f"stage {i + 1}", config.depths[i]
        hidden, squeezed = int(c * config.mlp_ratios[i]), c // 4
        biases = sum(c for branch in branches if branch != "c")  # the channel FC has none
        fcs = len(branches) * c * c
        add(place, f"branches {' '.join(branches)}", c, fcs + biases, h * w * fcs, times)
        if config.gate:
            gate = squeezed * c * (1 + len(branches))
            add(place, "gate", c, gate + squeezed + c * len(branches), gate, times)
        add(place, "projection", c, c * c + c, h * w * c * c, times)
        add(place, "channel MLP", c, 2 * c * hidden + hidden + c, h * w * 2 * c * hidden, times)
        add(place, "two norms", c, 4 * c, 0, times)
        if config.features_only and i in config.out_indices:
            add("maps", f"norm of stage {i + 1}", c, 2 * c)
    if not config.features_only:
        add("head", "norm", dims[-1], 2 * dims[-1])
        if config.num_classes:
            h = w = 1
            weights = dims[-1] * config.num_classes
            add("head", "mean and FC", config.num_classes, weights + config.num_classes, weights)
    return parts


def count_macs(config: CycleMLPConfig, height: int = 224, width: int = 224) -> int:
    """MACs of one image's forward, over convolutions, linears and Cycle FCs.

    This is what the paper calls FLOPs. Norms, activations, the gate's weighting and the shifts, which
    multiply nothing by definition, are not counted.

    Args:
        config: the architecture.
        height, width: of the image, in pixels.
    """
    return sum(part.macs for part in part_costs(config, height, width))


def parameter_count(config: CycleMLPConfig) -> int:
    """Number of trainable parameters."""
    return sum(part.parameters for part in part_costs(config))

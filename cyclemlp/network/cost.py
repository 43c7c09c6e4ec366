"""Cost of a network, from its architecture alone."""

from __future__ import annotations

from cyclemlp.network.config import CycleMLPConfig


def multiply_adds(config: CycleMLPConfig, height: int = 224, width: int = 224) -> int:
    """Multiply-adds of one picture's forward, over convolutions, linears and Cycle FCs.

    This is what the paper calls FLOPs. Norms, activations, the gate's weighting and the shifts, which
    multiply nothing by definition, are not counted.

    Args:
        config: the architecture.
        height, width: of the picture, in pixels.
    """
    pad = sum(config.patch_padding)
    h, w = ((n + pad - config.patch_size) // config.patch_stride + 1 for n in (height, width))
    dims, branches = config.embed_dims, len(config.branches)
    total = h * w * config.in_chans * config.patch_size**2 * dims[0]
    for i in range(config.stages):
        c = dims[i]
        if i > 0:
            h, w = -(-h // 2), -(-w // 2)
            total += h * w * (9 if config.downsample == "conv" else 4) * dims[i - 1] * c
        per_position = (branches + 1) * c * c + 2 * c * int(c * config.mlp_ratios[i])
        gate = (c // 4) * c * (1 + branches) if config.gate else 0
        total += config.depths[i] * (h * w * per_position + gate)
    if not config.features_only:
        total += dims[-1] * config.num_classes
    return total


def parameter_count(config: CycleMLPConfig) -> int:
    """Number of trainable parameters."""
    dims, branches = config.embed_dims, config.branches
    total = config.in_chans * config.patch_size**2 * dims[0] + dims[0]
    total += 2 * dims[0] if config.patch_norm else 0
    for i in range(config.stages):
        c = dims[i]
        hidden, gate = int(c * config.mlp_ratios[i]), c // 4
        if i > 0:
            total += 9 * dims[i - 1] * c + c if config.downsample == "conv" else 4 * dims[i - 1] * (c + 2)
        mixer = len(branches) * c * c + sum(c for b in branches if b != "c")  # the channel FC has no bias
        reweight = c * gate + gate + (gate + 1) * c * len(branches) if config.gate else 0
        mlp = 2 * c * hidden + hidden + c
        total += config.depths[i] * (mixer + reweight + c * c + c + mlp + 4 * c)
    if config.features_only:
        return total + sum(2 * dims[i] for i in config.out_indices)
    return total + 2 * dims[-1] + (dims[-1] + 1) * config.num_classes

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
    pad = (config.patch_size - config.patch_stride + 1) // 2
    h, w = ((n + 2 * pad - config.patch_size) // config.patch_stride + 1 for n in (height, width))
    dims, branches = config.embed_dims, len(config.branches)
    stages = 4 if not config.features_only else config.out_indices[-1] + 1
    total = h * w * config.in_chans * config.patch_size**2 * dims[0]
    for i in range(stages):
        c = dims[i]
        if i > 0:
            h, w = -(-h // 2), -(-w // 2)
            total += h * w * 9 * dims[i - 1] * c
        per_position = (branches + 1) * c * c + 2 * c * int(c * config.mlp_ratios[i])
        gate = (c // 4) * c * (1 + branches)
        total += config.depths[i] * (h * w * per_position + gate)
    if not config.features_only:
        total += dims[-1] * config.num_classes
    return total

"""The network: Cycle FC, block, CycleMLP, the table of variants, initialisation and cost."""

from cyclemlp._paddle import require_paddle

require_paddle()

from cyclemlp.network.config import BRANCHES, CycleMLPConfig
from cyclemlp.network.cost import PartCost, count_macs, parameter_count, part_costs
from cyclemlp.network.cyclemlp import CycleBlock, CycleFC, CycleMixer, CycleMLP, CycleShift, Mlp
from cyclemlp.network.drop_path import DropPath
from cyclemlp.network.features import CycleMLPFeatures, build_network
from cyclemlp.network.flops import register_flops
from cyclemlp.network.variants import VARIANTS, Variant, canonical_name

__all__ = [
    "BRANCHES",
    "VARIANTS",
    "CycleBlock",
    "CycleFC",
    "CycleMLP",
    "CycleMLPConfig",
    "CycleMLPFeatures",
    "CycleMixer",
    "CycleShift",
    "DropPath",
    "Mlp",
    "PartCost",
    "Variant",
    "build_network",
    "canonical_name",
    "count_macs",
    "parameter_count",
    "part_costs",
]

register_flops()

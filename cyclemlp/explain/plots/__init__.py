"""Figures of what this room finds; each takes the data that a function of the room returned."""

from cyclemlp.explain.plots.family import plot_family
from cyclemlp.explain.plots.features import plot_features
from cyclemlp.explain.plots.field import plot_fields
from cyclemlp.explain.plots.gates import plot_gates
from cyclemlp.explain.plots.gradcam import CamPanel, overlay_heat, plot_cams
from cyclemlp.explain.plots.kernel import plot_kernel
from cyclemlp.explain.plots.network import plot_network

__all__ = [
    "CamPanel",
    "overlay_heat",
    "plot_cams",
    "plot_family",
    "plot_features",
    "plot_fields",
    "plot_gates",
    "plot_kernel",
    "plot_network",
]

"""What a network reads, where it looks, how it weights, what it is made of: data first, then a figure of it.

A topic a file: a function that returns data, and `plot_…`, which draws what it returned to a file, whose suffix decides
the form (.png, .svg, .pdf). Without matplotlib that raises MissingDependencyError.
"""

from cyclemlp.explain.family import Published, mlp_family, plot_family
from cyclemlp.explain.features import FeatureMaps, feature_maps, plot_features
from cyclemlp.explain.field import Field, effective_field, plot_fields
from cyclemlp.explain.gates import BlockGates, Gates, gate_weights, plot_gates
from cyclemlp.explain.gradcam import CamPanel, GradCam, grad_cam, overlay_heat, plot_cams
from cyclemlp.explain.images import Shown, batches, read_images
from cyclemlp.explain.kernel import Kernel, cycle_kernel, plot_kernel
from cyclemlp.explain.network import plot_network

__all__ = [
    "BlockGates",
    "CamPanel",
    "FeatureMaps",
    "Field",
    "Gates",
    "GradCam",
    "Kernel",
    "Published",
    "Shown",
    "batches",
    "cycle_kernel",
    "effective_field",
    "feature_maps",
    "gate_weights",
    "grad_cam",
    "mlp_family",
    "overlay_heat",
    "plot_cams",
    "plot_family",
    "plot_features",
    "plot_fields",
    "plot_gates",
    "plot_kernel",
    "plot_network",
    "read_images",
]

"""Images that explain a network: what it reads, where it looks, how it weights, what it is made of.

Each function returns data, and `cyclemlp.explain.plots` draws a figure of each.
"""

from cyclemlp.explain.family import Published, mlp_family
from cyclemlp.explain.features import FeatureMaps, feature_maps
from cyclemlp.explain.field import Field, effective_field
from cyclemlp.explain.gates import BlockGates, Gates, gate_weights
from cyclemlp.explain.gradcam import GradCam, grad_cam
from cyclemlp.explain.images import Shown, read_images
from cyclemlp.explain.kernel import Kernel, cycle_kernel

__all__ = [
    "BlockGates",
    "FeatureMaps",
    "Field",
    "Gates",
    "GradCam",
    "Kernel",
    "Published",
    "Shown",
    "cycle_kernel",
    "effective_field",
    "feature_maps",
    "gate_weights",
    "grad_cam",
    "mlp_family",
    "read_images",
]

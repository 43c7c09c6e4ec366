"""Other implementations of the network's layers, equal to the plain ones, and the choice among them.

`cyclemlp.create_model` and the dense backbones make models with the faster layers; `select_kernels(model, "plain")`, or
`CYCLEMLP_KERNELS=plain` in the environment, takes the plain ones.
"""

from cyclemlp._paddle import require_paddle

require_paddle()

from cyclemlp.kernels.for_export import export_form
from cyclemlp.kernels.selection import chosen_kernels, describe_kernels, select_kernels

__all__ = ["chosen_kernels", "describe_kernels", "export_form", "select_kernels"]

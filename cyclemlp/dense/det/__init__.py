"""PaddleDetection with CycleMLP backbones. Importing this registers them with it, and applies the compatibility patches
(`cyclemlp.dense.patch`) that PaddleDetection needs under this Paddle.

A YAML of one's own then names one of them, `backbone: CycleMLP_B2`, and any tool of PaddleDetection builds it:

    import cyclemlp.dense.det
    from ppdet.core.workspace import create, load_config

    model = create(load_config("my_retinanet.yaml").architecture)
"""

from cyclemlp.dense.det.quiet import import_engine
from cyclemlp.dense.versions import require

require("ppdet")  # says in words what is missing
import_engine()

from cyclemlp.dense.compat import apply_patches  # noqa: E402
from cyclemlp.dense.det.backbones import (  # noqa: E402  the engine must be there first
    CycleMLP_B1,
    CycleMLP_B2,
    CycleMLP_B3,
    CycleMLP_B4,
    CycleMLP_B5,
    CycleMLP_B_Inferred,
    CycleMLP_Micro,
    CycleMLP_Nano,
    CycleMLP_Nano_Deep,
    CycleMLP_S_Inferred,
    CycleMLP_T_Inferred,
)

apply_patches("ppdet")

__all__ = [
    "CycleMLP_B1",
    "CycleMLP_B2",
    "CycleMLP_B3",
    "CycleMLP_B4",
    "CycleMLP_B5",
    "CycleMLP_B_Inferred",
    "CycleMLP_Micro",
    "CycleMLP_Nano",
    "CycleMLP_Nano_Deep",
    "CycleMLP_S_Inferred",
    "CycleMLP_T_Inferred",
]

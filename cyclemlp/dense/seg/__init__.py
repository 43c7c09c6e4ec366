"""Semantic segmentation by PaddleSeg.

Importing this package registers the backbones `CycleMLP_B1` … `CycleMLP_B5`, `CycleMLP_Nano`, `CycleMLP_Micro`, the
inferred `CycleMLP_T_Inferred` and so on, and the model `SemanticFPN` with PaddleSeg, so that a user's own YAML and
PaddleSeg's own tools know them. It changes nothing else in PaddleSeg; the mends for Paddle 3 are applied by this
project's commands (`cyclemlp.dense.compat`).

Raises:
    MissingDependencyError: PaddleSeg is not installed, or in a version that does not work; the message says what to
        do.
"""

from __future__ import annotations

from cyclemlp.dense.versions import require

require("paddleseg")

from cyclemlp.dense.seg.backbones import SegBackbone, seg_backbones  # noqa: E402
from cyclemlp.dense.seg.semantic_fpn import SemanticFPN  # noqa: E402

__all__ = ["SegBackbone", "SemanticFPN", "seg_backbones"]

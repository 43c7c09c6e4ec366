"""Semantic segmentation by PaddleSeg.

Importing this package registers the backbones `CycleMLP_B1` … `CycleMLP_B5`, `CycleMLP_Nano`, `CycleMLP_Nano_Deep`,
`CycleMLP_Micro`, the inferred `CycleMLP_T_Inferred` and so on, and the model `SemanticFPN` with PaddleSeg, so that a
user's own YAML and PaddleSeg's own tools know them, and applies the compatibility patches (`cyclemlp.dense.patch`)
that PaddleSeg needs under this Paddle, so that its own training loop works.

Raises:
    MissingDependencyError: PaddleSeg is not installed, or in a version that does not work; the message says what to
        do.
"""

from __future__ import annotations

from cyclemlp.dense.versions import require

require("paddleseg")

from cyclemlp.dense.compat import apply_patches  # noqa: E402
from cyclemlp.dense.seg.backbones import SegBackbone, seg_backbones  # noqa: E402
from cyclemlp.dense.seg.semantic_fpn import SemanticFPN  # noqa: E402

apply_patches("paddleseg")

__all__ = ["SegBackbone", "SemanticFPN", "seg_backbones"]

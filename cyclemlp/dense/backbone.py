"""CycleMLP as a backbone of the engines: the feature form, with weights, frozen stages and a report that is seen.

Shapes: B batch, H height, W width of the image; Cᵢ and sᵢ width and stride of stage i.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cyclemlp.errors import ModelError
from cyclemlp.kernels import select_kernels
from cyclemlp.models import describe_model, load_weights
from cyclemlp.network import CycleMLPFeatures
from cyclemlp.text import counted
from cyclemlp.training.model import freeze_stages as freeze
from cyclemlp.weights import pretrained_file

#: The variants that both engines know, by the name under which they know them.
BACKBONES = {
    f"CycleMLP_{size}": f"cyclemlp_{size.lower()}"
    for size in (
        *("B1", "B2", "B3", "B4", "B5"),
        *("T_Inferred", "S_Inferred", "B_Inferred"),
        *("Nano", "Nano_Deep", "Micro"),
    )
}


class DenseBackbone(CycleMLPFeatures):
    """A variant that gives normalised feature maps, for heads of dense prediction.

    Stages after the last of `out_indices` and norms of maps that nobody reads are not built. Parameters have the
    published names.

    Args:
        variant: a name of `BACKBONES`' values, or any that `cyclemlp.create_model` takes.
        pretrained: as in `cyclemlp.create_model`: a tag, True, a run's folder or a weight file in any form that
            `cyclemlp.weights` reads (of a classifier or of the feature form). What was loaded is printed; a file that
            does not fit is an error.
        drop_path_rate: stochastic depth of the last block. The default, 0, is what the published results of dense
            prediction were trained with: the authors' dense classes did not pass theirs on.
        out_indices: which stages' maps, 0 to 3 in rising order.
        freeze_stages: how many stages, from the first, keep the weights they start with; 0 to 4.
        recompute: compute a block's activations again for its gradient, to save memory.
        overrides: further values of `CycleMLPConfig`; None keeps the variant's.

    Raises:
        ModelError: an impossible value.
        WeightsError: the weights cannot be had, read, or do not fit.
    """

    def __init__(
        self,
        variant: str,
        pretrained: str | os.PathLike[str] | bool | None = None,
        drop_path_rate: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        freeze_stages: int = 0,
        recompute: bool = False,
        **overrides: Any,
    ) -> None:
        given = {name: value for name, value in overrides.items() if value is not None}
        config, metadata = describe_model(
            variant,
            features_only=True,
            drop_path_rate=drop_path_rate,
            out_indices=tuple(out_indices),
            recompute=recompute,
            **given,
        )
        if type(freeze_stages) is not int or not 0 <= freeze_stages <= config.stages:
            raise ModelError(
                f"freeze_stages is {freeze_stages!r}; {metadata.model} with out_indices={list(out_indices)} has "
                f"{counted(config.stages, 'stage')}: give a whole number from 0 to that"
            )
        super().__init__(config)
        select_kernels(self)
        self.metadata = metadata
        if pretrained:
            report = load_weights(self, pretrained_file(metadata.model, pretrained))
            print(f"backbone {metadata.model}: {report}", flush=True)
        else:
            print(f"backbone {metadata.model}: no `pretrained` given, starts from random weights", flush=True)
        self._frozen = freeze(self, freeze_stages)
        if self._frozen:
            self.train()
            print(
                f"backbone {metadata.model}: the first "
                f"{counted(freeze_stages, 'stage keeps its weights', 'stages keep their weights')}",
                flush=True,
            )

    def train(self) -> None:
        """Training mode; frozen stages stay in evaluation mode."""
        super().train()
        for layer in self._frozen:
            layer.eval()

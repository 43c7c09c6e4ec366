"""A model over the validation images of all processes, after each epoch: the figures that the log has."""

from __future__ import annotations

from typing import Any

import numpy as np
from paddle import nn

from cyclemlp.data import Loader
from cyclemlp.evaluation import EvaluationResult, as_callable, evaluate, macro_f1
from cyclemlp.evaluation.multilabel.run import Answers, MultiLabelResult, collect_answers
from cyclemlp.report import Progress, progress
from cyclemlp.training.distributed import World
from cyclemlp.training.interruption import Interruption


class Validation:
    """Evaluates models on the same images.

    Args:
        loader: this process's part of the images.
        world: the processes.
        interruption: the signal that ends a run, which ends an evaluation too.
        multi_label: images have any number of labels.
        show_progress: a bar of its own, which goes away before the epoch's line is printed.
    """

    def __init__(
        self,
        loader: Loader,
        world: World,
        interruption: Interruption,
        *,
        multi_label: bool,
        show_progress: bool,
    ) -> None:
        self._loader, self._world, self._interruption = loader, world, interruption
        self._multi_label, self._show_progress = multi_label, show_progress

    def __call__(self, model: nn.Layer) -> dict[str, Any]:
        """The model's figures over the images of all processes; nothing if any of them is to stop.

        Of one class an image loss, top1, top5 and macro_f1; of several labels loss, map, macro_f1 (with a threshold of
        0.5), and `thresholds`, by which each class's F1 would be highest. Accuracies, mAP and F1 in percent.

        Raises:
            FloatingPointError: logits that are not finite, in every process.
        """
        own, broken = None, None
        try:
            if self._loader.images:
                own = self._interruption.unless_stopped(lambda: self._with_bar(model))
        except FloatingPointError as error:
            broken = f"after this epoch, {error}"
        if self._world.any(self._interruption.signal is not None):
            return {}
        if self._world.any(broken is not None):
            raise FloatingPointError(self._world.first_given(broken))
        return self._of_several(own) if self._multi_label else self._of_one(own, model.config.num_classes)

    def _with_bar(self, model: nn.Layer) -> Any:
        classify = as_callable(model)
        bar: Progress[Any] = progress(
            desc="evaluate",
            total=self._loader.images,
            unit="img",
            leave=False,
            disable=not self._show_progress,
        )
        with bar:

            def classify_and_count(images: Any) -> Any:
                logits = classify(images)
                bar.update(len(images))
                return logits

            measure = collect_answers if self._multi_label else evaluate
            return measure(classify_and_count, self._loader, progress=False)

    def _of_one(self, own: EvaluationResult | None, classes: int) -> dict[str, Any]:
        # Right first answers, right among five, sum of losses, images, and the outcomes of each class.
        part = np.zeros(4 + 3 * classes)
        if own is not None:
            assert own.outcomes is not None
            right = [round(own.accuracy[k] * own.images / 100) for k in (1, 5)]
            part[:] = [*right, own.loss * own.images, own.images, *own.outcomes.ravel()]
        total = self._world.sum(part)
        top1, top5, loss, images = total[:4].tolist()
        return {
            "loss": loss / images,
            "top1": 100 * top1 / images,
            "top5": 100 * top5 / images,
            "macro_f1": macro_f1(total[4:].reshape(3, -1)),
        }

    def _of_several(self, own: Answers | None) -> dict[str, Any]:
        # An average precision is of all images together; in the order of the source its sums are the same bits.
        result = MultiLabelResult.of(Answers.joined(self._world.gather(own)))
        return {
            "loss": result.loss,
            "map": result.map,
            "macro_f1": result.macro()["f1"],
            "thresholds": result.best_thresholds.tolist(),
        }

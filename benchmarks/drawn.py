"""What the experiments share: drawing images, training on them, evaluating a run, and the mean over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as students_t  # comes with scikit-learn

from cyclemlp import load_model
from cyclemlp.data import Sample, Source, build_loader
from cyclemlp.evaluation import EvaluationResult, as_callable, choose_views, evaluate
from cyclemlp.network import CycleMLP
from cyclemlp.run import BEST_EMA
from cyclemlp.training import Recipe, train


class Drawn:
    """The images of a source at some indices, of which some may occur again: each time augmented in its own way."""

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        self._source, self._indices = source, indices
        self.classes, self.num_classes = source.classes, source.num_classes

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[int(self._indices[index])]._replace(index=index)

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))

    def location(self, index: int) -> str:
        return self._source.location(int(self._indices[index]))

    def label(self, index: int) -> int | None:
        return self._source.label(int(self._indices[index]))


def draw(source: Source, per_class: int, seed: int) -> np.ndarray:
    """Indices of `per_class` images of each class, or of as many as there are."""
    rng = np.random.default_rng(seed)
    labels = np.array([source.label(i) for i in range(len(source))])
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in range(source.num_classes or 0)]
    return np.sort(np.concatenate(drawn))


def shown(source: Source, indices: np.ndarray, recipe: Recipe, steps: int) -> Drawn:
    """So many copies of the drawn images in an epoch that the recipe's epochs have `steps` steps together."""
    images = steps * recipe.data.batch_size // recipe.run.epochs
    return Drawn(source, np.tile(indices, -(-images // len(indices)))[:images])


@dataclass
class Mean:
    """A mean with its 95 % interval, mean ± half, by Student's t."""

    values: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def half(self) -> float:
        """Of the interval; not a number for fewer than two values."""
        n = len(self.values)
        if n < 2:
            return float("nan")
        return float(students_t.ppf(0.975, n - 1) * np.std(self.values, ddof=1) / np.sqrt(n))

    def __format__(self, form: str) -> str:
        """Mean and half, each in this form; two decimals without one."""
        mean, half = (format(value, form or ".2f") for value in (self.mean, self.half))
        return mean if len(self.values) < 2 else f"{mean} ± {half}"

    def __str__(self) -> str:
        return format(self)


def top1(recipe: Recipe, images: Source, val_source: Source, folder: Path, *, force: bool = False) -> float:
    """Train and evaluate the last step's weights, or their average if the recipe has one; percent of right answers.

    With `force`, a run that is in the folder is replaced.
    """
    train(recipe, images, None, folder, force=force, show_progress=False, say=lambda text: None)
    return evaluated(load_model(best_weights(folder)), val_source).top1


def best_weights(run: Path) -> Path:
    """A run's best average of the weights, or its best weights if it has none; the last without validation images."""
    return run / BEST_EMA if (run / BEST_EMA).exists() else run


def evaluated(model: CycleMLP, source: Source, tta: str = "none") -> EvaluationResult:
    """What the model makes of a source's images, or of the views of each that `tta` names.

    Raises:
        SystemExit: the source's classes are not the model's.
    """
    if source.classes not in (None, model.metadata.classes):
        raise SystemExit("the images' classes are not the model's")
    views = choose_views(tta)
    loader = build_loader(source, views.transform(model.metadata.preprocessing), batch_size=250)
    return evaluate(views.classifier(as_callable(model)), loader, progress=False)

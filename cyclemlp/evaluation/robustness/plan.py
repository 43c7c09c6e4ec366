"""What is to be measured: every set is checked before hours are spent on the first."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from cyclemlp.data import Loader, Source, Transform, evaluation_transform
from cyclemlp.evaluation.robustness.corruptions import SEVERITIES, CorruptionTransform
from cyclemlp.evaluation.robustness.real import evaluate_real
from cyclemlp.evaluation.robustness.results import CorruptionResult, Results, SetResult
from cyclemlp.evaluation.robustness.sets import CentreCropTransform, ImageNetC, Opened
from cyclemlp.evaluation.run import Classifier, EvaluationResult, evaluate
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import Progress

#: ImageNet-C's images have this many pixels a side, and the severities of its corruptions are meant for them.
IMAGENET_C_PIXELS = 224
MADE_HERE = (
    "corruptions made here are not ImageNet-C's files (an older library's, saved as JPEG): compare these errors with "
    "one another, not with published ones"
)


def evaluate_among(fn: Classifier, loader: Loader, classes: Sequence[int]) -> EvaluationResult:
    """`evaluate`, with the model's choice restricted to some of its classes.

    Args:
        fn: as for `evaluate`.
        loader: of images whose labels are places in `classes`.
        classes: the model's classes that may be chosen.

    Raises: as `evaluate`.
    """
    columns = np.asarray(classes)
    return evaluate(lambda images: np.asarray(fn(images))[:, columns], loader, progress=False)


@dataclass(frozen=True)
class Job:
    """One evaluation to do.

    Attributes:
        title: what a bar calls it.
        images: how many it reads.
        run: measures a classifier; what it finds goes to the plan's results.
    """

    title: str
    images: int
    run: Callable[[Classifier], None]


class Plan:
    """Evaluations to do, one after the other.

    Args:
        load: from a source and a transform to a loader.
        preprocessing: of the model's images.
        num_classes: of the model.

    Attributes:
        jobs: what was added, in this order.
        results: what was found so far.
    """

    def __init__(
        self, load: Callable[[Source, Transform], Loader], preprocessing: Preprocessing, num_classes: int
    ) -> None:
        self._load, self._preprocessing, self._classes = load, preprocessing, range(num_classes)
        self._plain = evaluation_transform(preprocessing)
        self.jobs: list[Job] = []
        self.results = Results()

    def add_clean(self, source: Source) -> None:
        """Images whose labels are the model's classes, as they are."""
        self._add_set("clean", source, self._classes)

    def add_published(self, one: Opened) -> None:
        """A published set."""
        notes = [f"{one.title} is incomplete: {text}" for text in one.missing]
        self._add_set(one.title, one.source, one.published.classes, notes)

    def add_real(self, source: Source, numbers: np.ndarray, real: Sequence[frozenset[int]]) -> None:
        """ImageNet's validation images by their own labels and by ReaL's; arguments as for `evaluate_real`."""

        def run(fn: Classifier) -> None:
            with closing(self._load(source, self._plain)) as loader:
                self.results.sets += evaluate_real(fn, loader, numbers, real)

        self.jobs.append(Job("ReaL", len(source), run))

    def add_imagenet_c(self, folder: ImageNetC) -> None:
        """All that is there of ImageNet-C. Raises DataError for a folder that is not as published."""
        found = self._add_corruptions("ImageNet-C", published=True)
        transform = CentreCropTransform(self._preprocessing)
        lacking: Counter[str] = Counter()
        for at in (
            (name, severity) for name, severities in folder.severities.items() for severity in severities
        ):
            # Opened now to be checked, and again to be read: the names in all 95 folders would fill the memory.
            one = folder.open(*at)
            lacking.update(one.missing)
            reopen, record = functools.partial(folder.source, *at), functools.partial(found.record, *at)
            self._add(one.title, len(one.source), reopen, transform, one.published.classes, record)
        notes = [*folder.missing, *(f"{text} (in {count} of its folders)" for text, count in lacking.items())]
        notes = [f"ImageNet-C is incomplete: {note}" for note in notes]
        if self._preprocessing.input_size != IMAGENET_C_PIXELS:
            notes.append(
                f"ImageNet-C: the model takes the central {self._preprocessing.size_text} of "
                f"{IMAGENET_C_PIXELS}×{IMAGENET_C_PIXELS} pixels; published figures are of all"
            )
        found.notes = tuple(notes)

    def add_corrupted(
        self, source: Source, corruptions: Iterable[str], severities: Iterable[int] = SEVERITIES
    ) -> None:
        """Images whose labels are the model's classes, corrupted here.

        Raises:
            ConfigError: another corruption or severity.
            MissingDependencyError: imagecorruptions-imaug is not installed.
        """
        found = self._add_corruptions("Corrupted here", published=False)
        found.notes = (MADE_HERE,)
        if self._preprocessing.input_size != IMAGENET_C_PIXELS:
            pixels = f"{IMAGENET_C_PIXELS} pixels a side, and the model takes {self._preprocessing.size_text}"
            found.notes += (f"severities are meant for {pixels}",)
        for at in itertools.product(corruptions, sorted(set(severities))):
            transform = CorruptionTransform(self._preprocessing, *at)
            record = functools.partial(found.record, *at)
            self._add(f"{at[0]} {at[1]}", len(source), lambda: source, transform, self._classes, record)

    def run(self, fn: Classifier, *, before_each: Callable[[], None] = lambda: None) -> Results:
        """Do all of it, with one bar on stderr.

        Args:
            fn: from a batch of images to logits of all the model's classes.
            before_each: called before each evaluation, when `results` holds those before it.

        Raises: as `evaluate` and `evaluate_real`.
        """
        bar: Progress[Any] = Progress(
            desc="robustness", total=sum(job.images for job in self.jobs), unit="image"
        )

        def counted(images: Any) -> np.ndarray:
            logits = np.asarray(fn(images))
            bar.update(len(logits))
            return logits

        with bar:
            for job in self.jobs:
                before_each()
                bar.figures(set=job.title)
                job.run(counted)
        return self.results

    def _add_set(self, title: str, source: Source, classes: Sequence[int], notes: Sequence[str] = ()) -> None:
        def record(result: EvaluationResult) -> None:
            self.results.sets.append(SetResult.of(title, result, notes))

        self._add(title, len(source), lambda: source, self._plain, classes, record)

    def _add_corruptions(self, title: str, *, published: bool) -> CorruptionResult:
        self.results.corruptions.append(CorruptionResult(title, published))
        return self.results.corruptions[-1]

    def _add(
        self,
        title: str,
        images: int,
        source: Callable[[], Source],
        transform: Transform,
        classes: Sequence[int],
        record: Callable[[EvaluationResult], None],
    ) -> None:
        def run(fn: Classifier) -> None:
            with closing(self._load(source(), transform)) as loader:
                record(evaluate_among(fn, loader, classes))

        self.jobs.append(Job(title, images, run))

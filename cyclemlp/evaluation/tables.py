"""Results an image at a time, as CSV and JSON files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cyclemlp.data import Failure, Source
from cyclemlp.evaluation.analysis.measures import image_outcomes
from cyclemlp.evaluation.run import EvaluationResult, Prediction
from cyclemlp.files import replacing

# A file name that is not UTF-8 keeps its bytes.
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
#: Of a table of evaluated images.
EVALUATION_COLUMNS = (
    *("image", "label", "label_index", "predicted", "predicted_index"),
    *("probability", "rank", "loss"),
)


def prediction_to_dict(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    """One prediction as JSON values: `image`, `classes` (best first), and if it is known `label`, or `labels`."""
    entry: dict[str, Any] = {
        "image": prediction.name,
        "classes": [
            {"name": classes[index], "index": index, "probability": probability}
            for index, probability in zip(prediction.indices, prediction.probabilities, strict=True)
        ],
    }
    if isinstance(prediction.label, tuple):
        entry["labels"] = [{"name": classes[index], "index": index} for index in prediction.label]
    elif prediction.label is not None:
        entry["label"] = {"name": classes[prediction.label], "index": prediction.label}
    return entry


def outcome_to_dict(failures: Sequence[Failure], complete: bool) -> dict[str, Any]:
    """What a JSON of predictions ends with: `failures` (image, message), and whether all were tried."""
    return {"failures": [{"image": f.name, "message": f.message} for f in failures], "complete": complete}


def label_cell(labels: Sequence[int], classes: Sequence[str]) -> str:
    """Labels by their names in one cell of a CSV file, as `ListFile` reads them."""
    return "|".join(classes[index] for index in labels)


class PredictionFiles:
    """Writes `predictions.csv` and `predictions.json` in a folder while predictions come in.

    Until all is done they are called `predictions.partial.csv` and `.json`, and older results stay in place. If the
    work ends early, the partial files stay: well-formed, with all that was computed.

    Use it as a context manager.

    Args:
        folder: an existing folder.
        classes: names of all classes.
        topk: classes an image; None of a model of several labels an image: `predictions.csv` then has its labels,
            separated by `|`, and the probability of each class, and can be read as a list file.
        labelled: whether the images have labels; they make two more columns.
        head: what the JSON says before the predictions.
        failures: what it says after them; may grow until the end.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        *,
        topk: int | None,
        labelled: bool,
        head: Mapping[str, Any],
        failures: Sequence[Failure] = (),
    ) -> None:
        self._classes, self._labelled, self._failures = classes, labelled, failures
        self._several = topk is None
        self.paths = [folder / "predictions.csv", folder / "predictions.json"]
        self.partial_paths = [path.with_suffix(f".partial{path.suffix}") for path in self.paths]
        self.count = 0
        self._csv_file, self._json_file = (path.open("w", **TEXT) for path in self.partial_paths)
        self._csv = csv.writer(self._csv_file)
        if topk is None:
            head_row = ["image", "labels", *(["true_labels"] if labelled else []), *classes]
        else:
            kinds = ("class", "index", "probability")
            columns = [f"{what}{rank}" for rank in range(1, topk + 1) for what in kinds]
            head_row = ["image", *columns, *(["label", "label_index"] if labelled else [])]
        self._csv.writerow(head_row)
        self._json_file.write(json.dumps(head, indent=1).removesuffix("\n}") + ',\n "predictions": [')

    def write(self, prediction: Prediction) -> None:
        """Add an image."""
        self._csv.writerow(self._row_of_several(prediction) if self._several else self._row(prediction))
        self._json_file.write(",\n  " if self.count else "\n  ")
        self._json_file.write(json.dumps(prediction_to_dict(prediction, self._classes)))
        self.count += 1

    def _row(self, prediction: Prediction) -> list[Any]:
        row: list[Any] = [prediction.name]
        for index, probability in zip(prediction.indices, prediction.probabilities, strict=True):
            row += [self._classes[index], index, f"{probability:.6g}"]
        if self._labelled and isinstance(prediction.label, int):
            row += [self._classes[prediction.label], prediction.label]
        return row

    def _row_of_several(self, prediction: Prediction) -> list[Any]:
        sets = [prediction.indices, *([prediction.label] if self._labelled else [])]
        scores = () if prediction.scores is None else prediction.scores
        return [
            prediction.name,
            *(label_cell(labels, self._classes) for labels in sets if isinstance(labels, tuple)),
            *(f"{score:.6g}" for score in scores),
        ]

    def __enter__(self) -> PredictionFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        end = outcome_to_dict(self._failures, complete=kind is None)
        self._json_file.write("\n ],\n" + json.dumps(end, indent=1).removeprefix("{\n") + "\n")
        for file in (self._csv_file, self._json_file):
            file.close()
        if kind is None:
            for partial, path in zip(self.partial_paths, self.paths, strict=True):
                partial.replace(path)


def write_evaluation_csv(
    path: Path, result: EvaluationResult, source: Source, classes: Sequence[str]
) -> None:
    """A line an image: its class, the predicted one and its probability, the true class's rank (1 is right), the loss.

    Args:
        path: written whole or not at all.
        result: of `evaluate(…, keep=True)` over `source`.
        classes: names of all classes.

    Raises:
        ValueError: the result was not kept.
    """
    found = image_outcomes(result)
    columns = (result.indices, found.labels, found.predicted, found.confidence, found.ranks, found.losses)
    write_csv(
        path,
        EVALUATION_COLUMNS,
        (
            [
                *(source.name(index), classes[label], label, classes[best], best),
                *(f"{confidence:.6g}", rank + 1, f"{loss:.6g}"),
            ]
            for index, label, best, confidence, rank, loss in zip(
                *(np.asarray(column).tolist() for column in columns), strict=True
            )
        ),
    )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, written whole or not at all."""
    with replacing(path) as part, part.open("w", **TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)

"""CSV and JSON of predictions: well-formed at every end, and nothing older is lost."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Failure, ImageFiles
from cyclemlp.evaluation import EvaluationResult, Prediction, PredictionFiles, write_evaluation_csv

CLASSES = ['"cat", domestic', "dog", "élan"]
FOUND = [
    Prediction("a, b.png", 0, (2, 0), (0.75, 0.125), 2),
    Prediction('say "c".png', 1, (1, 0), (0.5, 0.25), 0),
]


def rows(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def write(folder, predictions, *, labelled=True, error=None, **options):
    with PredictionFiles(folder, CLASSES, topk=2, labelled=labelled, head={"model": "m"}, **options) as files:
        for prediction in predictions:
            files.write(prediction)
        if error:
            raise error


def test_both_files_hold_the_same(tmp_path):
    write(tmp_path, FOUND)
    assert rows(tmp_path / "predictions.csv") == [
        [
            "image",
            "class1",
            "index1",
            "probability1",
            "class2",
            "index2",
            "probability2",
            "label",
            "label_index",
        ],
        ["a, b.png", "élan", "2", "0.75", '"cat", domestic', "0", "0.125", "élan", "2"],
        ['say "c".png', "dog", "1", "0.5", '"cat", domestic', "0", "0.25", '"cat", domestic', "0"],
    ]
    values = json.loads((tmp_path / "predictions.json").read_text())
    assert (values["model"], values["failures"], values["complete"]) == ("m", [], True)
    assert [entry["image"] for entry in values["predictions"]] == ["a, b.png", 'say "c".png']
    assert values["predictions"][0]["classes"][0] == {"name": "élan", "index": 2, "probability": 0.75}
    assert values["predictions"][0]["label"] == {"name": "élan", "index": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.csv", "predictions.json"]


def test_without_labels_and_without_images(tmp_path):
    write(tmp_path, [Prediction("x.png", 0, (0, 1), (0.5, 0.5))], labelled=False)
    assert rows(tmp_path / "predictions.csv")[0][-1] == "probability2"
    assert "label" not in json.loads((tmp_path / "predictions.json").read_text())["predictions"][0]
    write(tmp_path, [])
    assert json.loads((tmp_path / "predictions.json").read_text())["predictions"] == []


def test_an_early_end_keeps_what_was_computed_and_what_was_there(tmp_path):
    write(tmp_path, FOUND)
    before = (tmp_path / "predictions.csv").read_bytes()
    failures = [Failure(5, "bad.png", "list.txt:6: no image")]
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, FOUND[:1], error=KeyboardInterrupt(), failures=failures)
    assert (tmp_path / "predictions.csv").read_bytes() == before
    assert len(rows(tmp_path / "predictions.partial.csv")) == 2
    values = json.loads((tmp_path / "predictions.partial.json").read_text())
    assert values["complete"] is False
    assert len(values["predictions"]) == 1
    assert values["failures"] == [{"image": "bad.png", "message": "list.txt:6: no image"}]


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    write(tmp_path, [Prediction(os.fsdecode(b"\xff.png"), 0, (0, 1), (0.5, 0.5))], labelled=False)
    assert b"\n\xff.png," in (tmp_path / "predictions.csv").read_bytes()
    values = json.loads((tmp_path / "predictions.json").read_text())
    assert os.fsencode(values["predictions"][0]["image"]) == b"\xff.png"


def test_evaluation_csv_has_a_line_an_image(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("L", (3, 3)).save(tmp_path / name)
    source = ImageFiles([tmp_path / "a.png", tmp_path / "b.png"])
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))
    result = EvaluationResult(
        {1: 50.0}, 1.0, 2, 3, 1.0, (), logits=logits, labels=np.array([0, 2]), indices=np.array([1, 0])
    )
    write_evaluation_csv(tmp_path / "eval.csv", result, source, CLASSES)
    header, first, second = rows(tmp_path / "eval.csv")
    assert first == [
        str(tmp_path / "b.png"),
        CLASSES[0],
        "0",
        CLASSES[0],
        "0",
        "0.5",
        "1",
        f"{np.log(2):.6g}",
    ]
    assert second[0] == str(tmp_path / "a.png")
    assert dict(zip(header, second, strict=True))["rank"] == "1"
    with pytest.raises(ValueError, match="keep=True"):
        write_evaluation_csv(tmp_path / "x.csv", EvaluationResult({}, 1.0, 2, 3, 1.0), source, CLASSES)

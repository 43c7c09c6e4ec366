"""Two evaluations of the same images: the paired test, and what cannot be compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from cyclemlp.errors import DataError
from cyclemlp.evaluation import compare, read_evaluation, write_csv
from cyclemlp.evaluation.comparison import plot_differences
from cyclemlp.evaluation.tables import EVALUATION_COLUMNS

CLASSES = ["cat", "dog"]


def recorded(folder, right, *, names=None, labels=None, probability=None):
    """Write an evaluation of images that are right or not, and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    right = np.asarray(right, dtype=bool)
    names = names or [f"{i}.png" for i in range(len(right))]
    labels = np.zeros(len(right), int) if labels is None else np.asarray(labels)
    predicted = np.where(right, labels, 1 - labels)
    probability = np.full(len(right), 0.75) if probability is None else probability
    losses = -np.log(np.where(right, probability, 1 - np.asarray(probability)))
    rows = [
        [name, CLASSES[label], label, CLASSES[said], said, p, 1 if good else 2, f"{loss:.6g}"]
        for name, label, said, p, good, loss in zip(
            names, labels, predicted, probability, right, losses, strict=True
        )
    ]
    write_csv(folder / "eval.csv", EVALUATION_COLUMNS, rows)
    facts = {"top1": 100 * right.mean(), "images": len(right), "model": "cyclemlp_nano", "data": "pets"}
    (folder / "eval.json").write_text(json.dumps(facts))
    return read_evaluation(folder)


def split(only_a, only_b, both_right=20, both_wrong=4):
    """Which images A and B get right."""
    a = [1] * only_a + [0] * only_b + [1] * both_right + [0] * both_wrong
    b = [0] * only_a + [1] * only_b + [1] * both_right + [0] * both_wrong
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 3), (2, 12), (12, 2), (0, 6), (40, 61)])
def test_mcnemar_is_the_binomial_test_of_the_images_that_differ(tmp_path, only_a, only_b):
    a, b = split(only_a, only_b)
    found = compare(recorded(tmp_path / "a", a), recorded(tmp_path / "b", b))
    assert (len(found.only_a), len(found.only_b)) == (only_a, only_b)
    assert (found.both_right, found.both_wrong) == (20, 4)
    expected = binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1
    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx(100 * (only_b - only_a) / len(a))
    low, high = found.difference_interval
    assert low <= found.difference <= high


def test_p_by_hand_and_interval_of_many_images(tmp_path):
    a, b = split(2, 12, both_right=780, both_wrong=206)
    found = compare(recorded(tmp_path / "a", a), recorded(tmp_path / "b", b))
    # 2 · (1 + 14 + 91) / 2¹⁴
    assert found.p_value == pytest.approx(212 / 16384)
    deviation = 100 * np.sqrt((14 / 1000 - 0.01**2) / 1000)
    assert found.difference_interval == pytest.approx((1 - 1.96 * deviation, 1 + 1.96 * deviation), abs=0.12)
    assert "in 1.3 % of cases. So B is better on images like these" in found.meaning()


def test_the_bootstrap_is_paired(tmp_path):
    # Losses differ widely from image to image, and by 0.01 or 0.02 between the two.
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.9, 200)
    a = recorded(tmp_path / "a", np.ones(200), probability=p)
    b = recorded(
        tmp_path / "b", np.ones(200), probability=p * np.exp(np.where(np.arange(200) % 2, -0.01, -0.02))
    )
    found = compare(a, b)
    assert found.loss_difference == pytest.approx(0.015, abs=1e-5)
    assert 0.014 < found.loss_interval[0] < found.loss_interval[1] < 0.016
    assert compare(a, b).to_dict() == found.to_dict()
    assert compare(a, b, seed=1).loss_interval != found.loss_interval


def test_meanings(tmp_path):
    def meaning(only_a, only_b):
        a, b = split(only_a, only_b)
        return compare(recorded(tmp_path / "a", a), recorded(tmp_path / "b", b)).meaning()

    assert "nothing tells them apart" in meaning(0, 0)
    assert "do not tell which is better" in meaning(3, 5)
    assert "A gets 30 and B 2." in meaning(30, 2)
    assert "in fewer than 1 of 1000 cases. So A is better" in meaning(30, 2)


def test_images_are_matched_by_name_and_sorted_by_how_sure_the_wrong_one_was(tmp_path):
    a = recorded(tmp_path / "a", [1, 1, 0, 1], names=["p", "q", "r", "s"], labels=[0, 1, 0, 1])
    b = recorded(
        tmp_path / "b",
        [0, 1, 0, 1],
        names=["q", "r", "p", "s"],
        labels=[1, 0, 0, 1],
        probability=[0.9, 0.5, 0.6, 0.5],
    )
    found = compare(a, b)
    assert [a.names[i] for i in found.only_a] == ["q", "p"]  # B said the wrong class with 0.9 and 0.6
    assert [a.names[i] for i in found.only_b] == ["r"]
    assert [b.names[i] for i in found.order] == a.names


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (["0.png", "x.png", "2.png"], None, r"a has the image '1.png', which .*b has not, the first of 1;"),
        (["0.png", "1.png", "2.png", "3.png"], None, r"b has the image '3.png', which .*a has not"),
        (["1.png", "0.png", "0.png"], None, r"b has the image '0.png' twice"),
        (None, [0, 1, 1], r"'1.png' has the class 0 \(cat\) in .*a and 1 \(dog\) in .*b, the first of 2"),
    ],
)
def test_other_images_are_refused_with_the_first_difference(tmp_path, names, labels, message):
    a = recorded(tmp_path / "a", [1, 1, 0])
    b = recorded(tmp_path / "b", [1] * len(names or labels), names=names, labels=labels)
    with pytest.raises(DataError, match=message):
        compare(a, b)


def test_files_that_are_none(tmp_path):
    recorded(tmp_path / "a", [1, 0])
    good_csv, good_json = ((tmp_path / "a" / f"eval.{form}").read_text() for form in ("csv", "json"))
    cases = [
        (None, good_json, r"eval.csv: there is no such file; .* with --predictions or --report"),
        (good_csv, None, r"eval.json: there is no such file"),
        (good_csv, "{}", r"eval.json: is no report of `cyclemlp eval`"),
        (
            good_csv,
            good_json.replace("50.0", "100.0"),
            r"are of different evaluations: 2 images, 1 of them",
        ),
        ("a,b\n", good_json, r"eval.csv:1: the columns are a, b; expected image, label"),
        (good_csv + "x.png,cat,0\n", good_json, r"eval.csv:4: "),
        (good_csv + "x.png,cat,zero,cat,0,0.5,1,0.7\n", good_json, r"eval.csv:4: .*zero"),
    ]
    for table, report, message in cases:
        for form, text in (("csv", table), ("json", report)):
            path = tmp_path / "a" / f"eval.{form}"
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_evaluation(tmp_path / "a")


def test_one_image_is_refused(tmp_path):
    one = recorded(tmp_path / "a", [1])
    with pytest.raises(DataError, match="one image only"):
        compare(one, one)


def test_the_sheet_has_the_true_class_and_both_answers(tmp_path, drawn):
    image = np.zeros((8, 8), np.uint8)
    plot_differences([image], ["cat"], [("cat", 0.5)], [("dog", 0.75)], tmp_path / "d.png")
    assert drawn[0].axes[0].get_xlabel() == "true: cat\nA: cat (50 %)\nB: dog (75 %)"

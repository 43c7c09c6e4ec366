"""ReaL's labels: their file, the images that they are for, the accuracy by them."""

from __future__ import annotations

import numpy as np
import pytest
from robustness_fixtures import answering, grey_loader

from cyclemlp.data import ListFile
from cyclemlp.errors import DataError
from cyclemlp.evaluation import robustness
from cyclemlp.evaluation.robustness import evaluate_real


def test_real_labels(tmp_path):
    (tmp_path / "real.json").write_text("[[1, 5], [], [999]]")
    assert robustness.read_real_labels(tmp_path / "real.json", partial=True) == [{1, 5}, set(), {999}]
    (tmp_path / "real.json").write_text("[" + ", ".join(["[7]"] * 50_000) + "]")
    assert len(robustness.read_real_labels(tmp_path / "real.json")) == 50_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1], [2,", "is not JSON"),
        ('{"1": 2}', "is a JSON dict"),
        ("[[1], [1000]]", r"entry 2 is \[1000\]"),
        ("[[1], 7]", "entry 2 is 7"),
        ("[[true]]", r"entry 1 is \[true\]"),
        ("", "is empty"),
        ("[[1], [2]]", "has 2 entries; .* 50,000"),
    ],
)
def test_real_labels_that_are_none(tmp_path, text, message):
    (tmp_path / "real.json").write_text(text)
    with pytest.raises(DataError, match=message):
        robustness.read_real_labels(tmp_path / "real.json")


def listed(folder, *names):
    (folder / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    return ListFile(folder, folder / "list.txt")


@pytest.mark.filterwarnings("ignore:.*was already named")
def test_validation_images_are_known_by_their_names(tmp_path):
    name = "ILSVRC2012_val_{:08d}.JPEG".format
    source = listed(tmp_path, f"val/{name(3)}", name(1), name(2))
    assert robustness.validation_numbers(source, 3).tolist() == [3, 1, 2]
    assert robustness.validation_numbers(source, 5, partial=True).tolist() == [3, 1, 2]
    with pytest.raises(DataError, match=r"3 of ImageNet's 5 .* ILSVRC2012_val_00000004.JPEG is missing"):
        robustness.validation_numbers(source, 5)
    with pytest.raises(DataError, match=r"list.txt:1: .* is not one of the 2 images"):
        robustness.validation_numbers(source, 2)
    with pytest.raises(DataError, match=r"list.txt:1: 'cat.jpg' is not one of"):
        robustness.validation_numbers(listed(tmp_path, "cat.jpg"), 2)
    with pytest.raises(DataError, match=r"list.txt:2: .* is there twice, first at .*list.txt:1"):
        robustness.validation_numbers(listed(tmp_path, name(1), f"x/{name(1)}"), 2)


def test_real_by_hand(tmp_path):
    labels = [300, 300, 500, 700, 900]
    real = [frozenset(entry) for entry in ([300], [400, 800], [], [100], [900, 200])]
    loader = grey_loader(tmp_path, labels)
    numbers = np.arange(1, 6)
    # Own labels: right, wrong, right, wrong (but second), wrong. ReaL: right, right, left out, wrong, right.
    fn = answering([300, 800, 500, 600, 200], second=[0, 0, 0, 700, 0])
    clean, by_real = evaluate_real(fn, loader, numbers, real)
    assert (clean.title, clean.images, clean.top1, clean.top5) == ("clean", 5, 40.0, 60.0)
    assert (by_real.title, by_real.images, by_real.top1, by_real.top5) == ("ReaL", 4, 75.0, None)
    assert by_real.notes == (
        "ReaL: 1 of 5 images has no label and is left out",
        "ReaL is incomplete: 5 images instead of 50,000",
    )
    # The labels follow the images' numbers, not their places.
    _, turned = evaluate_real(fn, loader, numbers[::-1], real)
    assert turned.top1 == 0.0
    with pytest.raises(DataError, match="none of the images has a ReaL label"):
        evaluate_real(fn, loader, numbers, [frozenset()] * 5)

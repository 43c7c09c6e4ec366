"""Matching: strict, and everything that is adapted is said."""

from pathlib import Path

import numpy as np
import pytest

from cyclemlp.errors import WeightsError
from cyclemlp.weights import WeightFile, match_weights

EXPECTED = {"stem.weight": (4, 3, 2, 2), "fc.weight": (4, 8), "head.weight": (8, 10), "head.bias": (10,)}
RIGHTS = {"stem.weight": "input", "head.weight": "head", "head.bias": "head"}


def file_of(shapes=EXPECTED, dtype=np.float32, **changes):
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(shape).astype(dtype) for name, shape in {**shapes, **changes}.items()
    }
    return WeightFile(
        Path("w.pth"), {k: v for k, v in tensors.items() if v.size}, "authors", notes=("a note",)
    )


def test_all_of_it():
    file = file_of()
    tensors, report = match_weights(file, EXPECTED)
    assert list(tensors) == list(EXPECTED)
    for name in EXPECTED:
        np.testing.assert_array_equal(tensors[name], file.tensors[name])
    assert str(report) == "4 of 4 tensors loaded from w.pth (authors' layout)\n  a note"
    assert report.loaded == tuple(EXPECTED)


def test_every_difference_is_listed():
    file = file_of(**{"fc.weight": (8, 8), "head.bias": (0,), "extra": (2,), "more.weight": (1, 2)})
    with pytest.raises(WeightsError) as caught:
        match_weights(file, EXPECTED)
    summary, *lines = str(caught.value).split("\n  ")
    assert summary.startswith("w.pth: does not fit the model, 4 tensors differ; nothing was loaded.")
    assert lines == [
        "mis-shaped: fc.weight is [8, 8] in the file, [4, 8] in the model",
        "missing:    head.bias [10]",
        "unexpected: extra [2]",
        "unexpected: more.weight [1, 2]",
    ]


def test_a_head_of_other_classes_is_left_to_the_model():
    file = file_of(**{"head.weight": (8, 1000), "head.bias": (1000,)})
    with pytest.raises(WeightsError, match=r"mis-shaped: head\.weight"):
        match_weights(file, EXPECTED)
    tensors, report = match_weights(file, EXPECTED, adaptable=RIGHTS)
    assert list(tensors) == ["stem.weight", "fc.weight"]
    assert report.reinitialised["head.weight"] == ((8, 1000), (8, 10))
    assert "2 of 4 tensors loaded" in str(report)
    assert "head re-initialised: 1000 → 10 classes (head.weight, head.bias)" in str(report)


def test_a_head_of_other_features_is_another_model():
    file = file_of(**{"head.weight": (6, 10)})
    with pytest.raises(WeightsError, match=r"mis-shaped: head\.weight is \[6, 10\]"):
        match_weights(file, EXPECTED, adaptable=RIGHTS)


def test_a_file_without_head():
    headless = file_of(**{"head.weight": (0,), "head.bias": (0,)})
    tensors, report = match_weights(headless, EXPECTED, adaptable=RIGHTS)
    assert list(tensors) == ["stem.weight", "fc.weight"]
    assert "head re-initialised: the file has none; 10 classes" in str(report)
    with pytest.raises(WeightsError, match=r"missing:    head\.bias"):  # half a head is damage
        match_weights(file_of(**{"head.bias": (0,)}), EXPECTED, adaptable=RIGHTS)


def test_grey_images_sum_the_kernel():
    file = file_of()
    tensors, report = match_weights(file, {**EXPECTED, "stem.weight": (4, 1, 2, 2)}, adaptable=RIGHTS)
    kernel = file.tensors["stem.weight"]
    np.testing.assert_allclose(tensors["stem.weight"], kernel.sum(1, keepdims=True), rtol=1e-6)
    assert report.loaded == tuple(EXPECTED)
    assert "input adapted: 3 → 1 channel, summed (stem.weight)" in str(report)


def test_more_channels_repeat_and_rescale_the_kernel():
    file = file_of()
    kernel = file.tensors["stem.weight"]
    tensors, report = match_weights(file, {**EXPECTED, "stem.weight": (4, 5, 2, 2)}, adaptable=RIGHTS)
    expected = np.stack([kernel[:, channel] for channel in (0, 1, 2, 0, 1)], axis=1) * (3 / 5)
    np.testing.assert_allclose(tensors["stem.weight"], expected, rtol=1e-6)
    assert "input adapted: 3 → 5 channels, repeated and rescaled" in str(report)
    # From grey to colour: a colour copy of a grey image gives what the grey image gave.
    grey = file_of(**{"stem.weight": (4, 1, 2, 2)})
    colour, _ = match_weights(grey, EXPECTED, adaptable=RIGHTS)
    np.testing.assert_allclose(colour["stem.weight"].sum(1), grey.tensors["stem.weight"][:, 0], rtol=1e-6)


def test_only_the_channels_of_the_stem_are_adapted():
    for shape in ((5, 3, 2, 2), (4, 3, 3, 3), (4, 12)):
        with pytest.raises(WeightsError, match=r"mis-shaped: stem\.weight"):
            match_weights(file_of(**{"stem.weight": shape}), EXPECTED, adaptable=RIGHTS)


def test_new_and_ignored_names():
    rights = {"norm0.weight": "new", "head.weight": "ignore", "head.bias": "ignore"}
    expected = {"stem.weight": (4, 3, 2, 2), "fc.weight": (4, 8), "norm0.weight": (8,)}
    tensors, report = match_weights(file_of(), expected, adaptable=rights)
    assert list(tensors) == ["stem.weight", "fc.weight"]
    assert (report.new, report.ignored) == (("norm0.weight",), ("head.weight", "head.bias"))
    assert "2 of 3 tensors loaded" in str(report)
    assert "not in the file, left as initialised: norm0.weight" in str(report)
    assert "in the file, not used by this model: head.weight, head.bias" in str(report)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_cast_and_said(dtype):
    file = file_of(dtype=dtype)
    tensors, report = match_weights(file, EXPECTED)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(tensors["fc.weight"], file.tensors["fc.weight"].astype(np.float32))
    assert f"cast to float32: 4 tensors of {dtype}" in str(report)


def test_another_step_size_is_another_network():
    layer = WeightFile(
        Path("w.pth"),
        {"a.sfc_h.weight": np.ones((8, 8, 1, 1), "f4")},
        "authors",
        step_sizes={"sfc_h": (1, 5)},
    )
    expected = {"a.sfc_h.weight": (8, 8, 1, 1)}
    match_weights(layer, expected, step_sizes={"sfc_h": (1, 5), "sfc_w": (5, 1)})
    with pytest.raises(WeightsError, match=r"its sfc_h was trained with step size 1×5, the model has 1×3"):
        match_weights(layer, expected, step_sizes={"sfc_h": (1, 3), "sfc_w": (3, 1)})

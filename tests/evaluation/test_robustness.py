"""Figures of the robustness sets: restricted classes, ReaL, corruption errors, their tables and plot."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import ListFile, build_loader, evaluation_transform, imagenet_class_map
from cyclemlp.data import robustness as data
from cyclemlp.errors import DataError
from cyclemlp.evaluation.robustness import (
    ALEXNET_ERRORS,
    CorruptionResult,
    SetResult,
    all_notes,
    evaluate_among,
    evaluate_real,
    result_tables,
)
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report.robustness_plot import plot_severities

GREY = Preprocessing(input_size=4, crop_pct=1.0, mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module")
def loader_of(tmp_path_factory):
    """From labels to a loader of images named as ImageNet's; image i has the grey level 10·i."""

    def make(labels):
        folder = tmp_path_factory.mktemp("greys")
        lines = []
        for i, label in enumerate(labels):
            name = f"ILSVRC2012_val_{i + 1:08d}.JPEG"
            Image.new("L", (4, 4), 10 * i).save(folder / name, format="PNG")
            lines.append(f"{name} {label}\n")
        (folder / "list.txt").write_text("".join(lines))
        source = ListFile(folder, folder / "list.txt", num_classes=1000)
        return build_loader(source, evaluation_transform(GREY), batch_size=3)

    return make


def answering(answers, second=None):
    """A classifier of 1000 classes that gives image i the class answers[i], and second[i] after it."""

    def classify(images):
        which = np.rint(images[:, 0, 0, 0] * 255 / 10).astype(int)
        logits = np.zeros((len(images), 1000), np.float32)
        if second is not None:
            logits[np.arange(len(images)), np.take(second, which)] = 1
        logits[np.arange(len(images)), np.take(answers, which)] = 2
        return logits

    return classify


def test_the_choice_is_restricted_to_the_sets_classes(loader_of):
    subset = data.imagenet_a()
    places = [0, 7, 199, 30]
    loader = loader_of(places)
    right = [subset.classes[place] for place in places]
    outside = imagenet_class_map()["n01440764"]  # tench
    assert outside not in subset.classes
    # The best of 1000 is always outside; among the 200, three are right and one is not.
    second = [*right[:3], subset.classes[31]]
    result = evaluate_among(answering([outside] * 4, second), loader, subset.classes)
    assert (result.classes, result.top1) == (200, 75.0)
    everything = evaluate_among(
        answering([outside] * 4, second), loader_of([*right[:3], right[3]]), range(1000)
    )
    assert (everything.classes, everything.top1) == (1000, 0.0)


def test_real_by_hand(loader_of):
    labels = [300, 300, 500, 700, 900]
    real = [frozenset(entry) for entry in ([300], [400, 800], [], [100], [900, 200])]
    loader = loader_of(labels)
    numbers = np.arange(1, 6)
    # Own labels: right, wrong, right, wrong (but second), wrong. ReaL: right, right, left out, wrong, right.
    fn = answering([300, 800, 500, 600, 200], second=[0, 0, 0, 700, 0])
    clean, by_real = evaluate_real(fn, loader, numbers, real)
    assert (clean.title, clean.images, clean.top1, clean.top5) == ("clean", 5, 40.0, 60.0)
    assert (by_real.title, by_real.images, by_real.top1, by_real.top5) == ("ReaL", 4, 75.0, None)
    assert by_real.notes == (
        "ReaL: 1 of 5 images have no label and are left out",
        "ReaL is incomplete: 5 images instead of 50,000",
    )
    # The labels follow the images' numbers, not their places.
    _, turned = evaluate_real(fn, loader, numbers[::-1], real)
    assert turned.top1 == 0.0
    with pytest.raises(DataError, match="none of the images has a ReaL label"):
        evaluate_real(fn, loader, numbers, [frozenset()] * 5)


def filled(errors, published=True):
    """The same errors by severity for each of the 15 corruptions."""
    result = CorruptionResult("ImageNet-C", published=published)
    for name in data.COUNTED:
        for severity, error in enumerate(errors, 1):
            result.add(name, severity, error)
    return result


def test_alexnets_own_errors_give_100():
    result = CorruptionResult("ImageNet-C", published=True)
    for name, error in ALEXNET_ERRORS.items():
        for severity, share in enumerate((0.8, 0.9, 1.0, 1.1, 1.2), 1):
            result.add(name, severity, share * error)
    assert result.mean_corruption_error == pytest.approx(100)
    assert result.mean_error == pytest.approx(sum(ALEXNET_ERRORS.values()) / 15)
    assert tuple(ALEXNET_ERRORS) == data.COUNTED


def test_mean_corruption_error_by_hand():
    result = filled([10, 20, 30, 40, 50])
    assert result.mean("fog") == 30
    assert result.corruption_error("fog") == pytest.approx(100 * 30 / 81.9324)
    # 30 · mean of 100 / AlexNet's errors, with these rounded to a decimal as in other publications.
    rounded = [88.6, 89.4, 92.3, 82.0, 82.6, 78.6, 79.8, 86.7, 82.7, 81.9, 56.5, 85.3, 64.6, 71.8, 60.7]
    assert result.mean_corruption_error == pytest.approx(30 * np.mean(100 / np.array(rounded)), abs=0.02)
    assert result.mean_error == 30
    assert result.severity_mean(5) == 50
    result.add("spatter", 1, 100)  # an extra one counts nowhere
    assert (result.mean_error, result.severity_mean(1)) == (30, 10)
    assert result.corruption_error("spatter") is None
    assert result.mean_corruption_error is not None


def test_no_mean_corruption_error_of_some_or_of_corruptions_made_here():
    some = filled([10, 20, 30, 40])
    assert (some.mean("snow"), some.corruption_error("snow"), some.mean_corruption_error) == (25, None, None)
    lacking = filled([10, 20, 30, 40, 50])
    del lacking.errors["fog"]
    assert lacking.corruption_error("snow") is not None
    assert (lacking.mean_corruption_error, lacking.mean_error) == (None, 30)
    here = filled([10, 20, 30, 40, 50], published=False)
    assert (here.corruption_error("snow"), here.mean_corruption_error, here.mean_error) == (None, None, 30)
    assert CorruptionResult("empty", published=True).mean_error is None


def test_tables_for_people():
    result = filled([10, 20, 30, 40, 50])
    result.add("spatter", 2, 62.5)
    result.notes = ("said twice",)
    sets = [SetResult("ImageNet-A", 7500, 200, 12.5, 40.0, ("said twice", "another"))]
    (_, first), (title, second) = result_tables(sets, [result, CorruptionResult("none yet", False)])
    assert first.splitlines()[2].split() == ["ImageNet-A", "7,500", "200", "12.5", "40"]
    assert title == "ImageNet-C: top-1 errors, %"
    lines = second.splitlines()
    assert lines[0].split("  ")[0] == "corruption"
    assert lines[2].split() == ["gaussian_noise", "noise", "10", "20", "30", "40", "50", "30", "33.84"]
    assert lines[-2].split() == ["spatter", "extra", "–", "62.5", "–", "–", "–", "62.5", "–"]
    mce = f"{result.mean_corruption_error:.4g}"
    assert lines[-1].split() == ["mean,", "without", "extra", "10", "20", "30", "40", "50", "30", mce]
    markdown = result_tables(sets, [], markdown=True)[0][1]
    assert markdown.splitlines()[1].startswith("| ---")
    assert all_notes(sets, [result]) == ["said twice", "another"]
    assert result.to_dict()["errors"]["fog"]["by_severity"] == {"1": 10, "2": 20, "3": 30, "4": 40, "5": 50}


def test_plot(tmp_path):
    result = filled([10, 20, 30, 40, 50])
    assert list(result.by_group()) == ["noise", "blur", "weather", "digital"]
    path = plot_severities(result.by_group(), tmp_path / "c.svg", clean_error=5.0, title="Errors of a model")
    text = path.read_text()
    for words in ("Errors of a model", "Noise", "gaussian noise", "jpeg compression", "clean", "severity"):
        assert f"<!-- {words} -->" in text
    with pytest.raises(DataError, match="nothing to draw"):
        plot_severities({}, tmp_path / "none.png")

"""What was found: restricted classes, corruption errors, their tables, files and figure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from robustness_fixtures import answering, grey_loader

from cyclemlp.data import imagenet_class_map
from cyclemlp.errors import DataError
from cyclemlp.evaluation.robustness import (
    COUNTED,
    CorruptionResult,
    Results,
    SetResult,
    evaluate_among,
    plot_severities,
    published_set,
)
from cyclemlp.evaluation.robustness.results import ALEXNET_ERRORS


def test_the_choice_is_restricted_to_the_sets_classes(tmp_path):
    subset = published_set("a")
    places = [0, 7, 199, 30]
    loader = grey_loader(tmp_path, places)
    right = [subset.classes[place] for place in places]
    outside = imagenet_class_map()["n01440764"]  # tench
    assert outside not in subset.classes
    # The best of 1000 is always outside; among the 200, three are right and one is not.
    second = [*right[:3], subset.classes[31]]
    result = evaluate_among(answering([outside] * 4, second), loader, subset.classes)
    assert (result.classes, result.top1) == (200, 75.0)
    everything = evaluate_among(answering([outside] * 4, second), grey_loader(tmp_path, right), range(1000))
    assert (everything.classes, everything.top1) == (1000, 0.0)


def filled(errors, published=True):
    """The same errors by severity for each of the 15 corruptions."""
    result = CorruptionResult("ImageNet-C", published=published)
    for name in COUNTED:
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
    assert tuple(ALEXNET_ERRORS) == COUNTED


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
    results = Results(sets, [result, CorruptionResult("none yet", False)])
    (_, first), (title, second) = results.tables()
    assert first.splitlines()[2].split() == ["ImageNet-A", "7,500", "200", "12.5", "40"]
    assert title == "ImageNet-C: top-1 errors, %"
    lines = second.splitlines()
    assert lines[0].split("  ")[0] == "corruption"
    assert lines[2].split() == ["gaussian_noise", "noise", "10", "20", "30", "40", "50", "30", "33.84"]
    assert lines[-2].split() == ["spatter", "extra", "–", "62.5", "–", "–", "–", "62.5", "–"]
    mce = f"{result.mean_corruption_error:.4g}"
    assert lines[-1].split() == ["mean,", "without", "extra", "10", "20", "30", "40", "50", "30", mce]
    markdown = results.tables(markdown=True)[0][1]
    assert markdown.splitlines()[1].startswith("| ---")
    assert results.notes() == ["said twice", "another"]
    assert result.to_dict()["errors"]["fog"]["by_severity"] == {"1": 10, "2": 20, "3": 30, "4": 40, "5": 50}


def test_files_while_it_goes_on_and_at_the_end(tmp_path):
    results = Results([SetResult("clean", 10, 10, 95.0, 100.0)], [filled([10, 20, 30, 40, 50])])
    facts = {"model": "nano", "weights": "nano.pdparams"}
    assert [path.name for path in results.write(tmp_path, facts, complete=False)] == [
        "robustness.json",
        "robustness.md",
    ]
    assert json.loads((tmp_path / "robustness.json").read_text())["complete"] is False
    assert "Not complete yet." in (tmp_path / "robustness.md").read_text()
    written = results.write(tmp_path, facts)
    assert written[-1].name == "robustness_imagenet_c.png"
    assert json.loads(written[0].read_text()) == {**facts, "complete": True, **results.to_dict()}
    assert "Not complete yet." not in written[1].read_text()


def test_plot(tmp_path):
    result = filled([10, 20, 30, 40, 50])
    assert list(result.by_group()) == ["noise", "blur", "weather", "digital"]
    path = plot_severities(result.by_group(), tmp_path / "c.svg", clean_error=5.0, title="Errors of a model")
    text = path.read_text()
    for words in ("Errors of a model", "Noise", "gaussian noise", "jpeg compression", "clean", "severity"):
        assert f"<!-- {words} -->" in text
    with pytest.raises(DataError, match="nothing to draw"):
        plot_severities({}, tmp_path / "none.png")

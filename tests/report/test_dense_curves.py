"""Curves of dense prediction: every figure at its step and minute, one run or several."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cyclemlp.errors import DataError
from cyclemlp.report import plot_dense_curves


def log(count=20, speed=3.0, **metrics):
    """A run of `count` steps of `speed` seconds, evaluated each fifth step."""
    records = [{"event": "start", "seconds": 0}]
    for step in range(1, count + 1):
        records.append(
            {"event": "step", "step": step, "seconds": speed * step, "loss": 4 / step, "loss_mask": 1 / step}
        )
        if step % 5 == 0:
            figures = {key: value * step / count for key, value in metrics.items()}
            records.append({"event": "evaluation", "step": step, "seconds": speed * step} | figures)
    return [*records, {"event": "end", "seconds": speed * count}]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def line(axes, label):
    return next(line for line in axes.lines if line.get_label().startswith(label))


def test_one_run_shows_parts_of_the_loss_and_metrics_by_step_and_minute(tmp_path, drawn):
    path = plot_dense_curves(
        {"b1": log(bbox_ap50=0.8, mask_ap50=0.6)}, tmp_path / "new/c.png", metrics=["bbox_ap50", "mask_ap50"]
    )
    assert Image.open(path).width > 1000
    loss, by_step, by_minute = drawn[0].axes
    assert titles(drawn[0]) == ["Loss", "Box AP50, mask AP50", "The same by time of training"]
    assert line(loss, "loss_mask").get_ydata() == pytest.approx(1 / np.arange(1, 21))
    assert list(line(by_step, "box AP50 (best 0.800, step 20)").get_xdata()) == [5, 10, 15, 20]
    assert list(line(by_step, "mask AP50 (best 0.600, step 20)").get_ydata()) == pytest.approx(
        [0.15, 0.3, 0.45, 0.6]
    )
    assert list(line(by_minute, "box AP50").get_xdata()) == pytest.approx([0.25, 0.5, 0.75, 1])


def test_several_runs_have_a_colour_each_and_their_own_time(tmp_path, drawn):
    runs = {"cycle": log(mean_iou=0.7), "res": log(speed=1.5, mean_iou=0.5)}
    plot_dense_curves(runs, tmp_path / "c.png", metrics=["mean_iou"], title="pets")
    loss, _, by_minute = drawn[0].axes
    assert len(loss.lines) == 2  # the total of each; parts would be too many
    first, _, second, _ = by_minute.lines  # each with a ring at its best
    assert first.get_color() != second.get_color()
    assert (max(first.get_xdata()), max(second.get_xdata())) == pytest.approx((1, 0.5))
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert words == ["cycle: mean IoU (best 0.700, step 20)", "res: mean IoU (best 0.500, step 20)"]


def test_gaps_and_steps_run_twice(tmp_path, drawn):
    records = [
        {"event": "step", "step": 1, "loss": 3.0},
        {"event": "step", "step": 2, "loss": 9.0},
        {"event": "step", "step": 2, "loss": 2.0},
        {"event": "step", "step": 3, "loss": None},
        {"event": "evaluation", "step": 2, "seconds": 60, "mean_iou": None},
    ]
    plot_dense_curves({"run": records}, tmp_path / "c.svg", metrics=["mean_iou"])
    assert titles(drawn[0]) == ["Loss"]
    values = drawn[0].axes[0].lines[0].get_ydata()
    assert list(values[:2]) == [3, 2]
    assert np.isnan(values[2])


def test_many_steps_get_a_running_mean(tmp_path, drawn):
    rng = np.random.default_rng(0)
    records = [{"event": "step", "step": i, "loss": 1 + rng.normal()} for i in range(1000)]
    plot_dense_curves({"run": records}, tmp_path / "c.png", metrics=["mean_iou"])
    raw, mean = (line.get_ydata() for line in drawn[0].axes[0].lines)
    assert list(raw) == [record["loss"] for record in records]
    assert mean[500] == pytest.approx(raw[481:501].mean())
    assert mean[3] == pytest.approx(raw[:4].mean())


def test_only_evaluations_and_several_metrics_of_several_runs(tmp_path, drawn):
    runs = {
        f"run {i}": [r for r in log(bbox_ap=0.1 * i, mask_ap=0.2) if r["event"] != "step"] for i in range(9)
    }
    plot_dense_curves(runs, tmp_path / "c.pdf", metrics=["bbox_ap", "mask_ap", "other"])
    assert titles(drawn[0]) == ["Box AP, mask AP", "The same by time of training"]
    assert [t.get_text() for t in drawn[0].axes[0].get_legend().get_texts()] == ["box AP", "mask AP"]


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run to draw"):
        plot_dense_curves({}, tmp_path / "c.png", metrics=["mean_iou"])
    runs = {"good": log(mean_iou=1), "empty": [{"event": "start"}]}
    with pytest.raises(DataError, match=r"empty: nothing to draw: .* no evaluation has `mean_iou` or `dice`"):
        plot_dense_curves(runs, tmp_path / "c.png", metrics=["mean_iou", "dice"])

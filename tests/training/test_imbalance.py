"""Classes with few images, and which epoch is the best: weights in the loss, the metric, patience."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_run import PLAIN, Some, same_weights, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp.data import labels_of
from cyclemlp.errors import ConfigError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.report import read_json_lines
from cyclemlp.training import TrainingStoppedError, train, trainer

METRICS = {"accuracy": ("val_top1", max), "macro_f1": ("val_macro_f1", max), "loss": ("val_loss", min)}


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_epoch_is_that_of_the_recipes_metric(tmp_path, metric):
    result = tiny_train(tmp_path / "run", tiny_recipe(run__best_metric=metric, run__epochs=4))
    key, best_of = METRICS[metric]
    figures = [record[key] for record in result.epochs]
    assert result.best == best_of(figures)
    assert result.best_epoch == 1 + figures.index(result.best)  # the first of equal ones
    kept = [record["best"] for record in result.epochs]
    assert kept == [best_of(figures[: i + 1]) not in figures[:i] for i in range(4)]
    file = cyclemlp.weights.read_weights(result.output / "best.safetensors")
    assert file.metadata["epoch"] == result.best_epoch
    assert file.metadata["figures"][key] == result.best
    average = [record[key.replace("val", "ema")] for record in result.epochs]
    file = cyclemlp.weights.read_weights(result.output / "best_ema.safetensors")
    assert file.metadata["epoch"] == 1 + average.index(best_of(average))


def test_the_macro_f1_of_the_log_is_scikit_learns_over_the_classes_that_occur(tmp_path):
    val = Some("val", 7)
    assert len(set(labels_of(val))) < 10
    recipe = tiny_recipe(run__epochs=2, optimizer__lr=2e-2)
    result = tiny_train(tmp_path / "run", recipe, val_source=val)
    model = cyclemlp.load_model(result.output / "checkpoints/checkpoint_0002")
    _, loader = trainer.build_loaders(recipe, model.metadata.preprocessing, val, val)
    found = evaluate(as_callable(model), loader, progress=False, keep=True)
    predicted = found.logits.argmax(axis=1)
    expected = f1_score(found.labels, predicted, labels=np.unique(found.labels), average="macro")
    assert result.epochs[-1]["val_macro_f1"] == pytest.approx(100 * expected)


# Of two validation images top-1 is 0, 50 or 100 %, so it improves twice at most, and within 9 epochs patience ends.
PATIENT = {"run__patience": 2, "run__epochs": 9}


def test_early_stopping_comes_at_the_same_epoch_with_the_same_weights_after_an_interruption(tmp_path, capsys):
    whole = tiny_train(tmp_path / "whole", tiny_recipe(**PATIENT), val_source=Some("val", 2))
    done = len(whole.epochs)
    assert done < 9
    assert done == whole.best_epoch + 2
    assert (
        f"early stopping after epoch {done}: no better top-1 since epoch {whole.best_epoch}"
        in capsys.readouterr().out
    )
    end = read_json_lines(whole.output / "log.jsonl")[-1]
    assert (end["event"], end["reason"], end["epoch"]) == ("end", "early stopping", done)

    # Of 32 images an epoch, the 70th is read in the third, the first that may be the last.
    source = Some("train", 34, {70: lambda: os.kill(os.getpid(), signal.SIGINT)})
    recipe = tiny_recipe(**PATIENT, run__checkpoint_epochs=9)  # the stop's own checkpoints only
    with pytest.raises(TrainingStoppedError):
        tiny_train(tmp_path / "run", recipe, train_source=source, val_source=Some("val", 2))
    resumed = tiny_train(tmp_path / "run", recipe, val_source=Some("val", 2), resume="auto")
    assert len(resumed.epochs) == done
    assert (resumed.best, resumed.best_epoch) == (whole.best, whole.best_epoch)
    last = f"checkpoints/checkpoint_{done:04d}"
    assert same_weights(resumed.output / last, whole.output / last)


def test_a_run_that_stopped_early_goes_on_with_more_patience_only(tmp_path, capsys):
    output, val = tmp_path / "run", Some("val", 2)
    before = tiny_train(output, tiny_recipe(**PATIENT), val_source=val)
    again = tiny_train(output, tiny_recipe(**PATIENT), val_source=val, resume="auto")
    assert again.epochs == before.epochs
    assert "a larger run.patience, or null, gives it more" in capsys.readouterr().out
    done = len(before.epochs)
    more = tiny_recipe(run__epochs=done + 1)
    with pytest.warns(UserWarning, match=r"run.patience 2 → None"):
        after = tiny_train(output, more, val_source=val, resume="auto")
    assert len(after.epochs) == done + 1
    assert read_json_lines(output / "log.jsonl")[-1]["reason"] == "finished"


def test_with_another_metric_a_resumed_run_chooses_the_best_anew(tmp_path, capsys):
    output = tmp_path / "run"
    tiny_train(output, tiny_recipe(run__epochs=2))
    with pytest.warns(UserWarning, match="run.best_metric None → loss"):
        result = tiny_train(output, tiny_recipe(run__epochs=4, run__best_metric="loss"), resume="auto")
    losses = [record["val_loss"] for record in result.epochs[2:]]
    assert result.best == min(losses)
    assert result.best_epoch == 3 + losses.index(result.best)
    assert (
        "run.best_metric was accuracy and is loss: the best epoch is chosen anew" in capsys.readouterr().out
    )


@pytest.mark.parametrize(("key", "value"), [("patience", 3), ("best_metric", "macro_f1")])
def test_what_goes_by_validation_images_needs_some(tmp_path, key, value):
    recipe = tiny_recipe(**{f"run__{key}": value})
    with pytest.raises(
        ConfigError, match=rf"run.{key} is {value}, and there are no validation images.*data.val "
    ):
        train(recipe, Some("train", 34), None, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()


def test_balanced_weights_are_those_of_the_training_images(tmp_path):
    # One step, whose batch is the whole training set.
    recipe = tiny_recipe(
        **PLAIN, data__batch_size=34, loss__label_smoothing=0, run__epochs=1, ema__decay=None
    )
    plain = tiny_train(tmp_path / "plain", recipe)
    source = Some("train", 34)
    counts = np.bincount(labels_of(source), minlength=10)
    assert counts.min() > 0
    by_list = recipe.updated({"loss.class_weights": (34 / (10 * counts)).tolist()})
    balanced = recipe.updated({"loss.class_weights": "balanced"})
    losses = [
        tiny_train(tmp_path / name, r).epochs[0]["train_loss"]
        for name, r in (("list", by_list), ("balanced", balanced))
    ]
    assert losses[0] == losses[1] != plain.epochs[0]["train_loss"]
    assert "10, balanced weights in the loss" in (tmp_path / "balanced" / "README.md").read_text()


def test_a_class_without_images_has_no_balanced_weight(tmp_path):
    with pytest.raises(ConfigError, match=r"no training images of '\d'.*: add some, leave such classes out"):
        tiny_train(
            tmp_path / "run", tiny_recipe(loss__class_weights="balanced"), train_source=Some("train", 8)
        )
    assert not (tmp_path / "run").exists()


def test_balanced_sampling_goes_on_in_the_middle_of_an_epoch_to_the_same_bits(tmp_path):
    recipe = tiny_recipe(data__sampling="balanced", augment__repeats=1, run__epochs=2)
    whole = tiny_train(tmp_path / "whole", recipe)
    source = Some("train", 34, {44: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(TrainingStoppedError):
        tiny_train(tmp_path / "run", recipe, train_source=source)
    resumed = tiny_train(tmp_path / "run", recipe, resume="auto")
    last = "checkpoints/checkpoint_0002"
    assert same_weights(resumed.output / last, whole.output / last)
    assert "34 training, 20 validation, each class drawn as often" in (whole.output / "README.md").read_text()

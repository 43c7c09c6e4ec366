"""Training on images with any number of labels: figures, the best epoch, thresholds, resuming, other devices' count."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from tiny_run import Some, same_weights, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp.data import Sample
from cyclemlp.deploy import load_exported
from cyclemlp.deploy.export import export_model
from cyclemlp.errors import ConfigError, WeightsError
from cyclemlp.evaluation import as_callable, evaluate_multilabel
from cyclemlp.evaluation.multilabel.measures import sigmoid
from cyclemlp.metadata import MULTI_LABEL
from cyclemlp.predictor import Predictor
from cyclemlp.report import read_json_lines
from cyclemlp.training import TrainingStoppedError
from cyclemlp.training.data import build_loaders

#: Digits that have each label; 1 has none.
LABELS = {"loop": (0, 6, 8, 9), "even": (0, 2, 4, 6, 8), "large": (5, 6, 7, 8, 9), "three": (3,)}


class Tagged(Some):
    """Digits with what there is to say about them."""

    def __init__(self, split, count, at=None):
        super().__init__(split, count, at)
        self.classes, self.num_classes = list(LABELS), len(LABELS)

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index)._replace(label=self.label(index))

    def label(self, index):
        digit = super().label(index)
        return tuple(i for i, digits in enumerate(LABELS.values()) if digit in digits)


def recipe(**assignments):
    return tiny_recipe(data__labels="multi", **assignments)


def tagged_train(output, of, **options):
    sources = {"train_source": Tagged("train", 34), "val_source": Tagged("val", 20)}
    return tiny_train(output, of, **{**sources, **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four epochs, with mixup, an average and steps in two parts."""
    return tagged_train(tmp_path_factory.mktemp("run") / "run", recipe(run__epochs=4))


def test_the_log_has_the_figures_of_labels_and_the_best_epoch_is_that_of_the_highest_map(run):
    figures = [record["val_map"] for record in run.epochs]
    assert (run.best, run.best_epoch) == (max(figures), 1 + figures.index(max(figures)))
    assert not {"val_top1", "val_top5", "ema_top1"} & set(run.epochs[0])
    assert {"val_loss", "val_macro_f1", "ema_map", "ema_loss"} <= set(run.epochs[0])
    text = (run.output / "README.md").read_text()
    assert "mAP (%)" in text
    assert "any number of them an image, bce loss" in text


def test_the_map_is_scikit_learns_over_the_classes_that_occur(run):
    model = cyclemlp.load_model(run.output / "checkpoints/checkpoint_0004")
    val = Tagged("val", 20)
    _, loader = build_loaders(recipe(), model.metadata.preprocessing, val, val)
    answers = evaluate_multilabel(as_callable(model), loader, progress=False).answers
    truth = np.array([[i in val.label(n) for i in range(4)] for n in range(20)])
    assert (answers.labels == truth).all()
    there = [k for k in range(4) if truth[:, k].any()]
    expected = [average_precision_score(truth[:, k], answers.logits[:, k]) for k in there]
    assert run.epochs[-1]["val_map"] == pytest.approx(100 * np.mean(expected))


def test_the_best_model_carries_task_and_thresholds_and_a_checkpoint_the_task(run):
    file = cyclemlp.weights.read_weights(run.output / "best.safetensors")
    assert file.metadata["task"] == MULTI_LABEL
    assert file.metadata["figures"]["val_map"] == run.best
    model = cyclemlp.load_model(run.output)
    val = Tagged("val", 20)
    _, loader = build_loaders(recipe(), model.metadata.preprocessing, val, val)
    result = evaluate_multilabel(as_callable(model), loader, progress=False)
    assert model.metadata.thresholds == pytest.approx(result.best_thresholds.tolist())
    checkpoint = cyclemlp.load_model(run.output / "checkpoints/checkpoint_0004")
    assert (checkpoint.metadata.task, checkpoint.metadata.thresholds) == (MULTI_LABEL, None)


def test_a_new_head_takes_over_neither_task_nor_thresholds(run):
    path = run.output / "best.safetensors"
    assert cyclemlp.create_model("cyclemlp_nano", pretrained=path).metadata.task == MULTI_LABEL
    with pytest.warns(UserWarning, match="head"):
        other = cyclemlp.create_model("cyclemlp_nano", pretrained=path, num_classes=3)
    assert (other.metadata.task, other.metadata.thresholds) == ("classification", None)
    model = cyclemlp.load_model(path)
    model.metadata.thresholds = [0.5, 0.5]
    cyclemlp.save_model(model, path.with_name("broken.safetensors"))
    with pytest.raises(WeightsError, match="2 thresholds for 4 classes"):
        cyclemlp.load_model(path.with_name("broken.safetensors"))
    model.metadata.thresholds, model.metadata.task = [0.5] * 4, "classification"  # a softmax would be taken
    cyclemlp.save_model(model, path.with_name("broken.safetensors"))
    with pytest.raises(
        WeightsError, match="thresholds, which belong to the task 'multi-label classification'"
    ):
        cyclemlp.load_model(path.with_name("broken.safetensors"))


@pytest.mark.parametrize("metric", ["map", "macro_f1", "loss"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, metric):
    asked = recipe(run__best_metric=metric, loss__kind="asymmetric", loss__pos_weight="balanced")
    whole = tagged_train(tmp_path / "whole", asked)
    # Of 32 images an epoch, the 70th is read in the third.
    source = Tagged("train", 34, {70: lambda: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(TrainingStoppedError):
        tagged_train(tmp_path / "run", asked, train_source=source)
    resumed = tagged_train(tmp_path / "run", asked, resume="auto")
    assert (resumed.best, resumed.best_epoch) == (whole.best, whole.best_epoch)
    last = "checkpoints/checkpoint_0003"
    assert same_weights(resumed.output / last, whole.output / last)
    for name in ("best.safetensors", "best_ema.safetensors"):
        assert (resumed.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_the_predictor_gives_the_labels_that_reach_their_thresholds(run, tmp_path):
    val = Tagged("val", 20)
    paths = []
    for i in range(8):
        paths.append(tmp_path / f"{i}.png")
        val[i].image.save(paths[-1])
    model = cyclemlp.load_model(run.output)
    transform = cyclemlp.data.evaluation_transform(model.metadata.preprocessing)
    probabilities = sigmoid(as_callable(model)(np.stack([transform(val[i].image) for i in range(8)])))
    export_model(model, tmp_path / "exported")
    exported = load_exported(tmp_path / "exported")
    assert (exported.metadata.task, exported.metadata.thresholds) == (MULTI_LABEL, model.metadata.thresholds)
    for source in (run.output, run.output / "best.safetensors", tmp_path / "exported"):
        for given in (None, 0.0, 1.0):
            predictor = Predictor(source, threshold=given)
            assert predictor.task == MULTI_LABEL
            limits = np.array(model.metadata.thresholds if given is None else [given] * 4)
            for found, row in zip(predictor(paths), probabilities, strict=True):
                expected = {list(LABELS)[k]: row[k] for k in np.flatnonzero(row >= limits)}
                assert {one.name: one.probability for one in found.classes} == pytest.approx(
                    expected, abs=1e-5
                )
                said = [one.probability for one in found.classes]
                assert said == sorted(said, reverse=True)
    assert Predictor(run.output, threshold=1.0)(paths[0]).to_dict() == {"image": str(paths[0]), "classes": []}
    (first,) = Predictor(run.output, threshold=0.0, top=1)(paths[0]).classes
    assert first.probability == pytest.approx(probabilities[0].max(), abs=1e-5)
    averaged = Predictor(run.output, threshold=0.0, tta="flip")(paths[0])
    mirrored = sigmoid(as_callable(model)(transform(val[0].image)[None, ..., ::-1].copy()))[0]
    means = dict(zip(LABELS, (probabilities[0] + mirrored) / 2, strict=True))
    assert {one.name: one.probability for one in averaged.classes} == pytest.approx(means, abs=1e-5)


def test_a_threshold_that_has_no_effect_is_refused(run, tmp_path):
    tiny_train(tmp_path / "run", tiny_recipe(run__epochs=1))
    with pytest.raises(ConfigError, match="this is one for classification"):
        Predictor(tmp_path / "run", threshold=0.5)
    with pytest.raises(ConfigError, match="threshold is 2; give a number from 0 to 1"):
        Predictor(run.output, threshold=2)


def test_labels_that_are_not_the_recipes_are_refused_or_taken(tmp_path):
    with pytest.raises(ConfigError, match=r"the training images have several labels each.*--labels multi"):
        tagged_train(tmp_path / "a", tiny_recipe())
    with pytest.raises(ConfigError, match="the validation images have several labels each"):
        tiny_train(tmp_path / "a", tiny_recipe(), val_source=Tagged("val", 20))
    assert not (tmp_path / "a").exists()
    result = tiny_train(tmp_path / "b", recipe(run__epochs=1))  # one class an image is a label like others
    assert cyclemlp.load_model(result.output).config.num_classes == 10
    assert result.epochs[0]["val_map"] > 0


def test_a_multi_label_model_is_no_teacher(run, tmp_path):
    kind = {"distillation__kind": "soft", "distillation__teacher": str(run.output)}
    single = [Tagged("train", 34), Tagged("val", 20)]
    for source in single:
        source.label = lambda index: index % 4
    with pytest.raises(WeightsError, match="any number of labels; a teacher"):
        tiny_train(tmp_path / "c", tiny_recipe(**kind), train_source=single[0], val_source=single[1])


def test_a_class_by_itself_can_be_learnt(tmp_path):
    source, val = Tagged("train", 34), Tagged("val", 20)
    for one in (source, val):
        one.classes, one.num_classes = ["even"], 1
        one.label = lambda index, one=one: (0,) if Some.label(one, index) % 2 == 0 else ()
    result = tagged_train(tmp_path / "run", recipe(run__epochs=1), train_source=source, val_source=val)
    end = read_json_lines(result.output / "log.jsonl")[-1]
    assert (end["event"], end["reason"]) == ("end", "finished")

"""Evaluate and predict over plain callables and Paddle layers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Digits, ListFile, build_loader, evaluation_transform
from cyclemlp.errors import DataError, ModelError
from cyclemlp.evaluation import as_callable, evaluate, merge_results, predict
from cyclemlp.preprocessing import Preprocessing

GREY = Preprocessing(input_size=8, crop_pct=1.0, mean=(0.0,), std=(1.0,))


@pytest.fixture
def greys(tmp_path):
    """Twelve grey images; grey level 20·i in image i, label i mod 4."""
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png {i % 4}\n" for i in range(12)))
    return ListFile(tmp_path, tmp_path / "list.txt")


def load(source, batch_size=5, **options):
    return build_loader(source, evaluation_transform(GREY), batch_size=batch_size, **options)


def number(images):
    """Which of the twelve images each one is."""
    return np.rint(images[:, 0, 0, 0] * 255 / 20).astype(int)


def classifier(images):
    """Right for the images 0..8; for 9, 10, 11 the true class comes second, third, fourth. Six classes."""
    logits = np.zeros((len(images), 6), np.float32)
    for row, i in enumerate(number(images)):
        order = [c for c in range(6) if c != i % 4]
        order.insert(max(0, i - 8), i % 4)
        logits[row, order] = np.arange(6, 0, -1)
    return logits


def test_evaluate_counts_every_image_once(greys):
    result = evaluate(classifier, load(greys), topk=(1, 2, 3), progress=False)
    assert result.images == 12
    assert result.classes == 6
    assert result.accuracy == pytest.approx({1: 100 * 9 / 12, 2: 100 * 10 / 12, 3: 100 * 11 / 12, 5: 100.0})
    assert (result.top1, result.top5) == (75.0, 100.0)
    log_sum = np.log(np.exp(np.arange(1, 7)).sum())
    assert result.loss == pytest.approx(log_sum - (9 * 6 + 5 + 4 + 3) / 12, abs=1e-12)
    assert result.seconds > 0
    assert result.images_per_second == pytest.approx(12 / result.seconds)
    assert result.notes == ()
    assert result.logits is None


def test_result_does_not_depend_on_the_batches(greys):
    figures = [evaluate(classifier, load(greys, n, shuffle=n == 3), progress=False) for n in (1, 3, 100)]
    assert {result.top1 for result in figures} == {75.0}
    assert figures[0].loss == pytest.approx(figures[1].loss, abs=1e-12) == figures[2].loss


def test_kept_logits_fit_labels_and_indices(greys):
    result = evaluate(classifier, load(greys, shuffle=True), keep=True, progress=False)
    assert result.logits.shape == (12, 6)
    assert np.array_equal(np.sort(result.indices), np.arange(12))
    assert np.array_equal(result.labels, result.indices % 4)
    assert ((result.logits.argmax(axis=1) == result.labels) == (result.indices < 9)).all()


def test_top5_of_fewer_classes_is_said(greys):
    result = evaluate(lambda images: classifier(images)[:, :4], load(greys), progress=False)
    assert result.top5 == 100.0
    assert result.notes == (
        "top-5 says nothing here: there are only 4 classes, so it is top-4, always 100 %",
    )
    values = result.to_dict()
    assert values["top5"] == 100.0
    assert values["notes"] == list(result.notes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_the_image(greys, bad):
    def broken(images):
        logits = classifier(images)
        logits[number(images) == 7, 2] = bad
        return logits

    with pytest.raises(
        FloatingPointError, match=r"list\.txt:8: the model gives NaN or infinity for '7\.png'"
    ):
        evaluate(broken, load(greys), progress=False)
    seen = []
    with pytest.raises(FloatingPointError, match=r"7\.png"):
        seen.extend(prediction.name for prediction in predict(broken, load(greys), progress=False))
    assert seen == [f"{i}.png" for i in range(5)]


def test_label_beyond_the_models_classes_names_the_line(greys):
    with pytest.raises(DataError, match=r"list\.txt:4: the label is 3, but the model has 3 classes, 0 to 2"):
        evaluate(lambda images: classifier(images)[:, :3], load(greys), progress=False)


def test_no_labels_no_images_wrong_shape(greys, tmp_path):
    with pytest.raises(ValueError, match=r"shape \(5,\) for 5 images"):
        evaluate(lambda images: images[:, 0, 0, 0], load(greys), progress=False)
    (tmp_path / "test.txt").write_text("0.png\n")
    unlabelled = ListFile(tmp_path, tmp_path / "test.txt", mode="test")
    with pytest.raises(DataError, match="no labels"):
        evaluate(classifier, load(unlabelled), progress=False)
    (tmp_path / "0.png").unlink()
    empty = load(unlabelled, on_failure=lambda failure: None)
    with pytest.raises(DataError, match="no image to evaluate"):
        evaluate(classifier, empty, progress=False)
    assert list(predict(classifier, empty, progress=False)) == []


def test_predictions_are_sorted_and_named(greys):
    found = list(predict(classifier, load(greys), topk=3, progress=False))
    assert [prediction.name for prediction in found] == [f"{i}.png" for i in range(12)]
    assert [prediction.label for prediction in found] == [i % 4 for i in range(12)]
    weights = np.exp(np.arange(6, 0, -1.0))
    for prediction in found:
        assert prediction.probabilities == pytest.approx(tuple(weights[:3] / weights.sum()), abs=1e-12)
    assert found[2].indices[0] == 2
    assert found[9].indices[1] == 1
    many = next(predict(classifier, load(greys), topk=100, progress=False))
    assert sorted(many.indices) == list(range(6))
    assert sum(many.probabilities) == pytest.approx(1)


def test_progress_shows_figures(greys, capsys):
    evaluate(classifier, load(greys))
    shown = capsys.readouterr()
    assert "12/12" in shown.err
    assert "top1=75" in shown.err
    assert shown.out == ""


def test_as_callable_evaluates_and_restores_every_mode():
    import paddle
    from paddle import nn

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.Dropout(0.5), nn.BatchNorm1D(64), nn.Linear(64, 10)
    )
    model[3].eval()  # a frozen norm in a model that trains
    modes = [layer.training for layer in model.sublayers(include_self=True)]
    running_mean = model[3]._mean.numpy().copy()
    fn = as_callable(model)
    images = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    first, second = fn(images), fn(paddle.to_tensor(images))
    assert isinstance(first, np.ndarray)
    assert np.array_equal(first, second)  # no dropout
    assert [layer.training for layer in model.sublayers(include_self=True)] == modes
    assert np.array_equal(model[3]._mean.numpy(), running_mean)
    model.eval()
    fn(images)
    assert not any(layer.training for layer in model.sublayers(include_self=True))


def test_as_callable_restores_the_mode_after_an_error_and_refuses_feature_maps():
    from paddle import nn

    class Features(nn.Layer):
        def forward(self, images):
            return [images]

    model = Features()
    with pytest.raises(ModelError, match="gives a list, not logits"):
        as_callable(model)(np.zeros((1, 1, 2, 2), np.float32))
    assert model.training


def test_a_layer_and_a_plain_function_agree_on_the_digits():
    from paddle import nn

    layer = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weight, bias = (parameter.numpy() for parameter in layer.parameters())

    def plain(images):
        return images.reshape(len(images), -1) @ weight + bias

    results = [
        evaluate(as_callable(layer), load(Digits("val"), 64, tensors=True), progress=False),
        evaluate(plain, load(Digits("val"), 64), progress=False),
    ]
    assert results[0].images == 359
    assert results[0].top1 == results[1].top1
    assert results[0].loss == pytest.approx(results[1].loss, abs=1e-6)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 12, 20])
def test_the_parts_of_several_processes_are_the_whole(greys, ranks):
    whole = evaluate(classifier, load(greys), topk=(1, 2, 3), progress=False, keep=True)
    loaders = [load(greys, 2, rank=rank, world_size=ranks) for rank in range(ranks)]
    parts = [
        evaluate(classifier, loader, topk=(1, 2, 3), progress=False, keep=True) if loader.images else None
        for loader in loaders
    ]
    merged = merge_results(parts)
    assert (merged.images, merged.classes, merged.accuracy) == (12, 6, whole.accuracy)
    assert merged.loss == pytest.approx(whole.loss, rel=1e-12)
    for name in ("logits", "labels", "indices", "outcomes"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))


def test_no_process_with_an_image_is_an_error():
    with pytest.raises(DataError, match="no image to evaluate"):
        merge_results([None, None])

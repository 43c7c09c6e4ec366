"""Test-time augmentation: which views there are, and that probabilities, not logits, are averaged."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from PIL import Image

from cyclemlp.data import ImageFiles, ListFile, build_loader, evaluation_transform
from cyclemlp.data.loader import _shared_memory_suffices
from cyclemlp.errors import ConfigError
from cyclemlp.evaluation import choose_views, cross_entropy, evaluate, log_softmax, predict
from cyclemlp.preprocessing import Preprocessing

PLAIN = Preprocessing(
    input_size=(4, 6), crop_pct=0.5, interpolation="nearest", mean=(0.0,) * 3, std=(1 / 255,) * 3
)


def ramp(width, height):
    """An image whose red is the column and whose green is the row."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


def recorded():
    """A classifier of three classes whose logits are a function of the pixels' places, and what it was given."""
    given = []

    def classify(images):
        given.append(np.array(images, order="C"))
        pixels = np.asarray(images)
        assert isinstance(images, paddle.Tensor) or images.flags.c_contiguous
        return np.stack([pixels[:, 0, 0, 0] / 5, pixels[:, 1, 0, 0] / 3, pixels[:, 0, 1, 2] / 7], axis=1)

    return classify, given


def test_the_crops_are_centre_and_corners_of_the_resized_image():
    image = ramp(20, 8)  # covers 8 × 12 as it is
    pixels = choose_views("crops").transform(PLAIN)(image)
    assert pixels.shape == (3, 5 * 4, 6)
    crops = pixels.reshape(3, 5, 4, 6).transpose(1, 0, 2, 3)
    assert [(int(crop[0, 0, 0]), int(crop[1, 0, 0])) for crop in np.rint(crops)] == [
        *((7, 2), (0, 0), (14, 0), (0, 4), (14, 4))
    ]
    for crop in np.rint(crops):
        assert np.array_equal(crop[0], crop[0, :1, :1] + np.tile(np.arange(6), (4, 1)))
        assert np.array_equal(crop[1], crop[1, :1, :1] + np.tile(np.arange(4)[:, None], (1, 6)))
    assert np.array_equal(crops[0], evaluation_transform(PLAIN)(image))
    assert np.array_equal(choose_views("flip").transform(PLAIN)(image), crops[0])


@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize(("name", "count"), [("flip", 2), ("crops", 10)])
def test_probabilities_are_averaged_over_the_views(name, count, as_tensors):
    views = choose_views(name)
    images = np.stack([views.transform(PLAIN)(ramp(*size)) for size in ((20, 8), (12, 30), (12, 8))])
    classify, given = recorded()
    found = views.classifier(classify)(paddle.to_tensor(images) if as_tensors else images)
    assert found.dtype == np.float32
    assert [view.shape for view in given] == [(3, 3, 4, 6)] * count
    crops = images.reshape(3, 3, -1, 4, 6)
    for place in range(count):
        crop = crops[:, :, place // 2]
        assert np.array_equal(given[place], crop[..., ::-1] if place % 2 else crop)
    probabilities = np.mean([np.exp(log_softmax(classify(view))) for view in given[:count]], axis=0)
    assert np.exp(found) == pytest.approx(probabilities, rel=1e-5)
    assert np.exp(found).sum(axis=1) == pytest.approx(1, rel=1e-6)


def test_a_single_view_is_the_classifier_itself():
    classify, _ = recorded()
    views = choose_views("none")
    assert views.classifier(classify) is classify
    assert views.to_dict() == {"name": "none", "views": ["centre"], "forward_passes": 1}
    assert choose_views("flip").to_dict() == {
        "name": "flip",
        "views": ["centre", "centre, mirrored"],
        "forward_passes": 2,
    }
    crops = choose_views("crops").to_dict()
    assert crops["forward_passes"] == len(set(crops["views"])) == 10
    with pytest.raises(ConfigError, match="tta is 'rotate'; use one of none, flip, crops"):
        choose_views("rotate")


def test_extreme_logits_stay_finite_and_broken_ones_do_not():
    averaged = choose_views("flip").classifier
    images = np.zeros((2, 1, 4, 4), np.float32)
    extreme = np.asarray([[0.0, 5000.0], [3.0, 0.0]])
    assert np.isfinite(averaged(lambda _: extreme)(images)).all()
    for bad in (np.nan, np.inf, -np.inf):
        outputs = iter([np.asarray([[0.0, bad], [3.0, 0.0]]), extreme])
        found = averaged(lambda _, outputs=outputs: next(outputs))(images)
        assert np.isfinite(found).tolist() == [[False, False], [True, True]]
    assert averaged(lambda _: np.zeros(2))(images).shape == (2,)


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_and_prediction_over_views(tmp_path, workers):
    for i, size in enumerate(((20, 8), (12, 30), (17, 40))):
        ramp(*size).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n2.png 1\n")
    views, (classify, _) = choose_views("crops"), recorded()
    source = ListFile(tmp_path, tmp_path / "list.txt")
    loader = build_loader(source, views.transform(PLAIN), batch_size=2, num_workers=workers)
    result = evaluate(views.classifier(classify), loader, progress=False, keep=True)
    stacked = np.stack([views.transform(PLAIN)(source[i].image) for i in range(3)])
    expected = views.classifier(classify)(stacked)
    assert result.loss == pytest.approx(cross_entropy(expected, np.asarray([0, 1, 1])).mean())
    assert np.exp(result.logits).sum(axis=1) == pytest.approx(1, rel=1e-6)
    files = ImageFiles([tmp_path / f"{i}.png" for i in range(3)])
    loader = build_loader(files, views.transform(PLAIN), batch_size=3)
    predictions = list(predict(views.classifier(classify), loader, topk=3, progress=False))
    for prediction, row in zip(predictions, np.exp(expected), strict=True):
        assert prediction.probabilities == pytest.approx(sorted(row, reverse=True), rel=1e-5)


def test_shared_memory_is_reckoned_with_all_crops(monkeypatch):
    """With one worker four batches are under way; /dev/shm would hold those of single crops."""
    batches = 4 * 2 * 3 * 4 * 6
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3 * batches})())
    assert _shared_memory_suffices(choose_views("flip").transform(PLAIN), 2, 1)
    with pytest.warns(UserWarning, match="through pipes"):
        assert not _shared_memory_suffices(choose_views("crops").transform(PLAIN), 2, 1)

"""Evaluation and prediction by PaddleSeg's inference, against counts of pixels made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from seg_fixtures import CLASSES, config_values, write_config, write_data

from cyclemlp.dense.seg.config import Builder, SegConfig, open_config
from cyclemlp.dense.seg.inference import Evaluation, Inference, Predictor, evaluate
from cyclemlp.errors import ConfigError, DataError, WeightsError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SegConfig:
    folder = tmp_path_factory.mktemp("seg")
    return open_config(
        write_config(folder / "tiny.yaml", config_values(write_data(folder / "data", count=3)))
    )


@pytest.fixture(scope="module")
def weights(config: SegConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    paddle.seed(11)
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(Builder(config).model.state_dict(), str(path))
    return path


def predictor(config: SegConfig, weights: Path, how: Inference | None = None) -> Predictor:
    return Predictor(config, weights, how or Inference(), say=[].append)


def image(config: SegConfig, index: int) -> Path:
    return Path(config.val_dataset_cfg["dataset_root"]) / f"images/{index}.png"


@pytest.mark.parametrize(
    "how",
    [
        Inference(),
        Inference(window=(32, 32), stride=(16, 24)),
        Inference(scales=(0.75, 1.0), flip=True),
    ],
    ids=str,
)
def test_evaluation_counts_what_prediction_gives(config: SegConfig, weights: Path, how: Inference) -> None:
    found = evaluate(config, weights, how, show_progress=False, say=[].append)
    predict = predictor(config, weights, how)
    matrix = np.zeros((3, 3), np.int64)  # [true, predicted]
    for i in range(3):
        label = np.asarray(Image.open(image(config, i).parents[1] / f"labels/{i}.png")).astype(int)
        mask = predict(image(config, i))
        counted = label != 255
        np.add.at(matrix, (label[counted], mask[counted]), 1)
    right = np.diag(matrix)
    iou = right / (matrix.sum(0) + matrix.sum(1) - right)
    np.testing.assert_allclose(found.class_iou, iou, rtol=1e-6)
    np.testing.assert_allclose(found.class_recall, right / matrix.sum(1), rtol=1e-6)
    np.testing.assert_allclose(found.class_precision, right / np.maximum(matrix.sum(0), 1), rtol=1e-6)
    assert found.mean_iou == pytest.approx(iou.mean())
    assert found.pixel_accuracy == pytest.approx(right.sum() / matrix.sum())
    assert list(found.class_pixels) == list(matrix.sum(1))
    assert found.images == 3
    assert found.absent == []
    assert [row["name"] for row in found.to_dict(CLASSES)["classes"]] == CLASSES


def test_a_window_larger_than_the_image_changes_nothing(config: SegConfig, weights: Path) -> None:
    path = image(config, 0)
    whole = predictor(config, weights)(path)
    np.testing.assert_array_equal(predictor(config, weights, Inference(window=(512, 512)))(path), whole)
    small = predictor(config, weights, Inference(window=(32, 32)))(path)
    assert small.shape == whole.shape
    assert (small != whole).any()


def test_images_of_other_sizes_and_kinds(config: SegConfig, weights: Path, tmp_path: Path) -> None:
    predict = predictor(config, weights, Inference(window=(64, 64)))
    draw = np.random.default_rng(2)
    for name, size in (("tall.jpg", (171, 50, 3)), ("grey.png", (40, 33)), ("alpha.png", (50, 40, 4))):
        Image.fromarray(draw.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / name)
        mask = predict(tmp_path / name)
        assert mask.shape == size[:2]
        assert mask.dtype == np.uint8
        assert mask.max() < 3
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    assert predict(tmp_path / "turned.jpg").shape == (60, 40)


def test_what_cannot_be_used_is_named(config: SegConfig, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png' is not an image"):
        predictor(config, weights)(tmp_path / "text.png")
    other = open_config(config.path, {"model.channels": 8})
    with pytest.raises(WeightsError, match="does not fit the model"):
        predictor(other, weights)
    with pytest.raises(WeightsError, match="there is no such file or folder"):
        predictor(config, tmp_path / "none.pdparams")
    with pytest.raises(WeightsError, match="is a folder without weights"):
        predictor(config, tmp_path)


def test_inference_by_the_configuration(config: SegConfig) -> None:
    test = {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True}
    window = {"is_slide": True, "crop_size": [64, 32], "stride": [40, 20]}
    how = Inference.from_config(open_config(config.path, {"test_config": {**test, **window}}))
    assert how == Inference(window=(64, 32), stride=(40, 20), scales=(0.5, 1.0), flip=True)
    assert str(how) == "window 64×32, stride 40×20, scales 0.5, 1, mirrored too"
    assert Inference.from_config(config) == Inference()
    assert Inference(window=(512, 256)).stride == (341, 170)


@pytest.mark.parametrize(
    "values",
    [
        {"stride": (3, 3)},
        {"window": (32, 32), "stride": (33, 8)},
        {"scales": ()},
        {"scales": (0.0,)},
    ],
)
def test_inference_that_is_not_possible(values: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError):
        Inference(**values)  # type: ignore[arg-type]


def test_a_class_without_pixels_is_known() -> None:
    zeros = np.zeros(2)
    found = Evaluation(0.5, 0.5, 0.5, zeros, zeros, zeros, np.array([7, 0]), 1)
    assert found.absent == [1]

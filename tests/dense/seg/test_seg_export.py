"""Exported segmentation models give PaddleSeg's own results, at sizes that nobody told them of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image
from seg_fixtures import CLASSES, config_values, write_config

from cyclemlp.dense.seg.config import Builder, SegConfig, open_config
from cyclemlp.dense.seg.export import export
from cyclemlp.dense.seg.inference import trained_model
from cyclemlp.deploy import ExportError, ExportMetadata, load_exported
from cyclemlp.errors import ConfigError
from cyclemlp.predictor import Predictor

UPERNET = {"type": "UPerNet", "num_classes": 3, "backbone_indices": [0, 1, 2, 3], "channels": 8}


def trained(folder: Path, model: dict[str, Any] | None = None) -> tuple[SegConfig, Path]:
    """A configuration, and weights of it whose batch norms have statistics that are not those of the start."""
    values = config_values(folder)
    if model is not None:
        values["model"] = {**model, "backbone": values["model"]["backbone"]}
    config = open_config(write_config(folder / "tiny.yaml", values))
    paddle.seed(4)
    network = Builder(config).model
    network.train()
    network(paddle.randn([2, 3, 96, 96]))
    path = folder / "model.pdparams"
    paddle.save(network.state_dict(), str(path))
    return config, path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegConfig, Path]:
    return trained(tmp_path_factory.mktemp("seg"))


def logits(config: SegConfig, weights: Path, images: np.ndarray) -> np.ndarray:
    model = trained_model(config, weights, [].append)
    with paddle.no_grad():
        return model(paddle.to_tensor(images))[0].numpy()


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(8).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    "format", ["paddle", *(pytest.param(form, marks=pytest.mark.heavy) for form in ("onnx", "openvino"))]
)
def test_logits_at_sizes_that_no_stride_divides(
    case: tuple[SegConfig, Path], tmp_path: Path, format: str
) -> None:
    config, weights = case
    difference = export(config, weights, tmp_path / "exported", format, say=[].append)
    assert difference < 1e-4
    model = load_exported(tmp_path / "exported")
    for shape in ((1, 3, 61, 83), (3, 3, 48, 32)):
        images = random_images(*shape)
        found = model(images)["logits"]
        np.testing.assert_allclose(found, logits(config, weights, images), atol=1e-4)
    facts = model.metadata
    assert (facts.task, facts.classes, facts.min_size) == ("segmentation", CLASSES, 16)
    assert facts.preprocessing.mean == (0.485, 0.456, 0.406)
    assert facts.extra["transforms"] == config.val_dataset_cfg["transforms"]
    assert facts.extra["ignore_index"] == 255
    assert isinstance(facts, ExportMetadata)
    assert facts.extra.get("paddle_inference") == ({"mkldnn": False} if format == "paddle" else None)
    image = np.random.default_rng(9).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    mean, std = np.array(facts.preprocessing.mean), np.array(facts.preprocessing.std)
    prepared = ((image / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    mask = Predictor(tmp_path / "exported")(tmp_path / "image.png").mask
    assert mask is not None
    assert np.mean(mask == logits(config, weights, prepared)[0].argmax(axis=0)) > 0.999
    with pytest.raises(ExportError, match="--force"):
        export(config, weights, tmp_path / "exported", format, say=[].append)


@pytest.mark.heavy
@pytest.mark.parametrize("result", ["softmax", "argmax"])
def test_other_results(case: tuple[SegConfig, Path], tmp_path: Path, result: str) -> None:
    config, weights = case
    export(config, weights, tmp_path / "exported", "paddle", result=result, say=[].append)
    images = random_images(2, 3, 50, 60)
    found = load_exported(tmp_path / "exported")(images)[result]
    expected = logits(config, weights, images)
    if result == "argmax":
        assert found.shape == (2, 50, 60)
        assert np.mean(found == expected.argmax(axis=1)) > 0.999
    else:
        odds = np.exp(expected)
        np.testing.assert_allclose(found, odds / odds.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.heavy
def test_a_head_that_pools_to_a_grid(tmp_path: Path) -> None:
    config, weights = trained(tmp_path, UPERNET)
    images = random_images(2, 3, 96, 192)
    export(config, weights, tmp_path / "onnx", "onnx", size=(96, 192), say=[].append)
    expected = logits(config, weights, images)
    np.testing.assert_allclose(load_exported(tmp_path / "onnx")(images)["logits"], expected, atol=1e-4)
    export(config, weights, tmp_path / "paddle", "paddle", say=[].append)
    np.testing.assert_allclose(load_exported(tmp_path / "paddle")(images)["logits"], expected, atol=1e-4)


def test_what_onnx_cannot_do_is_said_before_it_is_tried(tmp_path: Path) -> None:
    config, weights = trained(tmp_path, UPERNET)
    with pytest.raises(
        ExportError, match=r"UPerNet pools to a fixed grid .* give it with --size HEIGHT WIDTH"
    ):
        export(config, weights, tmp_path / "onnx", "onnx", say=[].append)
    with pytest.raises(ExportError, match="pools maps of 5×6 to 2×2 for images of 80×96"):
        export(config, weights, tmp_path / "onnx", "onnx", size=(80, 96), say=[].append)
    with pytest.raises(ConfigError, match="result is 'masks'; known are logits, softmax, argmax"):
        export(config, weights, tmp_path / "onnx", "onnx", result="masks", say=[].append)

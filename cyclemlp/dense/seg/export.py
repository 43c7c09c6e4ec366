"""Trained segmentation models as files for Paddle Inference and ONNX, which need neither PaddleSeg nor this project.

Shapes: B batch, K classes, H height, W width of the picture.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from cyclemlp._version import __version__
from cyclemlp.dense.seg.config import SegConfig
from cyclemlp.dense.seg.inference import trained_model
from cyclemlp.deploy.metadata import KEY, ExportError, ExportMetadata, Output
from cyclemlp.deploy.onnx_files import paddle_to_onnx
from cyclemlp.deploy.runtimes import load_exported
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

FORMATS = ("paddle", "onnx")
#: What the exported model gives: logits or probabilities [B, K, H, W], or the class of each pixel, int32 [B, H, W].
OUTPUTS = ("logits", "softmax", "argmax")
#: Sizes (height, width) at which an exported model is compared with PaddleSeg's own result.
CHECKED_SIZES = ((128, 192), (224, 160))
#: Largest difference of logits or probabilities that is taken for rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """One file that was written.

    Attributes:
        path: of the model.
        difference: largest, from PaddleSeg's own result, over the sizes that were tried; for "argmax" the share of
            pixels of another class.
    """

    path: Path
    difference: float


def export(
    config: SegConfig,
    weights: Path,
    output: Path,
    *,
    formats: Sequence[str] = FORMATS,
    result: str = "logits",
    size: tuple[int, int] | None = None,
    say: Callable[[str], None] = print,
) -> list[Exported]:
    """Write a trained model for other runtimes, and compare each file's results with PaddleSeg's own.

    Args:
        config: from `open_config`.
        weights: as `trained_model` takes them.
        output: folder for model.json with model.pdiparams and metadata.json (Paddle Inference), and model.onnx.
        formats: of `FORMATS`; ONNX is made from the other, which is written in any case.
        result: of `OUTPUTS`.
        size: height and width of every picture; None for any, which most heads allow.
        say: takes the report of what was loaded.

    Raises:
        ConfigError: the model cannot be built, or another result is named.
        WeightsError: there are no weights, or they do not fit.
        ExportError: the model cannot be translated, or gives other results.
        MissingDependencyError: paddle2onnx, onnx or onnxruntime is not installed.
    """
    if result not in OUTPUTS or not set(formats) <= set(FORMATS):
        raise ConfigError(f"{result} as {', '.join(formats)}: known are {OUTPUTS} and {FORMATS}")
    model = trained_model(config, weights, say)
    layer = _OneOutput(model, result)
    layer.eval()
    metadata = _metadata(config, model, result, size)
    output.mkdir(parents=True, exist_ok=True)
    shape = [None, metadata.preprocessing.channels, *(size or (None, None))]
    static = paddle.jit.to_static(layer, [InputSpec(shape, "float32", "image")], full_graph=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            paddle.jit.save(static, str(output / "model"))
    except Exception as error:  # Paddle raises several kinds
        raise ExportError(
            f"Paddle cannot trace this model{_hint(size)}: {str(error).strip().splitlines()[-1]}"
        ) from error
    (output / "metadata.json").write_text(metadata.to_json(), encoding="utf-8")
    if "onnx" in formats:
        try:
            paddle_to_onnx(output / "model", output / "model.onnx")
        except ExportError as error:
            raise ExportError(f"{error}{_hint(size)}") from error
        _describe_onnx(output / "model.onnx", metadata)
    files = {"paddle": output / "model.json", "onnx": output / "model.onnx"}
    return [_compare(layer, files[form], metadata, size) for form in dict.fromkeys(("paddle", *formats))]


class _OneOutput(nn.Layer):
    """A model of PaddleSeg with its first output alone; the others are for training."""

    def __init__(self, model: nn.Layer, result: str) -> None:
        super().__init__()
        self.model, self.result = model, result

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """`[B, C, H, W]` → what `OUTPUTS` says."""
        logits = self.model(image)[0]
        if self.result == "softmax":
            return nn.functional.softmax(logits, axis=1)
        return paddle.argmax(logits, axis=1, dtype="int32") if self.result == "argmax" else logits


def _metadata(
    config: SegConfig, model: nn.Layer, result: str, size: tuple[int, int] | None
) -> ExportMetadata:
    transforms = config.val_dataset_cfg.get("transforms", [])
    backbone = getattr(model, "backbone", None)
    least = getattr(getattr(backbone, "config", None), "min_size", 1)
    normalise: dict[str, list[float]] = next((t for t in transforms if t["type"] == "Normalize"), {})
    mean, std = (tuple(normalise.get(key, getattr(Preprocessing(), key))) for key in ("mean", "std"))
    preprocessing = Preprocessing(crop_pct=1.0, mean=mean, std=std)
    kind = {"logits": "segmentation logits", "softmax": "probabilities", "argmax": "classes"}[result]
    extra = {"transforms": transforms, "ignore_index": config.ignore_index, "size": size}
    return ExportMetadata(
        model=f"{type(model).__name__} over {type(backbone).__name__}",
        preprocessing=preprocessing,
        classes=config.class_names(),
        task="segmentation",
        outputs=[Output(result, kind, stride=1)],
        min_size=least,
        extra=extra,
        version=__version__,
    )


def _describe_onnx(path: Path, metadata: ExportMetadata) -> None:
    """Write the metadata into the file."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, str(path))


def _compare(layer: nn.Layer, path: Path, metadata: ExportMetadata, size: tuple[int, int] | None) -> Exported:
    runtime = "onnxruntime" if path.suffix == ".onnx" else "paddle"
    exported = load_exported(path, runtime)
    name = metadata.outputs[0].name
    draw, worst = np.random.default_rng(0), 0.0
    for number, (height, width) in enumerate([size] if size else CHECKED_SIZES, 1):
        shape = (number, metadata.preprocessing.channels, height, width)
        images = draw.standard_normal(shape, dtype=np.float32)
        with paddle.no_grad():
            expected = layer(paddle.to_tensor(images)).numpy()
        found = exported(images)[name]
        if found.shape != expected.shape:
            raise ExportError(f"{path} gives {list(found.shape)}, PaddleSeg {list(expected.shape)}")
        apart = found != expected if name == "argmax" else np.abs(found - expected)
        worst = max(worst, float(np.mean(apart) if name == "argmax" else np.max(apart)))
    if not worst <= (1e-3 if name == "argmax" else TOLERANCE):
        raise ExportError(f"{path} gives other results than PaddleSeg: they differ by up to {worst:.2g}")
    return Exported(path, worst)


def _hint(size: tuple[int, int] | None) -> str:
    return (
        "" if size else "; some heads can be exported for one size of picture only: give --size HEIGHT WIDTH"
    )

"""Trained segmentation models as files for other runtimes, which need neither PaddleSeg nor this project.

Shapes: B batch, K classes, H height, W width of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from cyclemlp.dense.seg.config import SegConfig
from cyclemlp.dense.seg.inference import trained_model
from cyclemlp.deploy import ExportError, ExportMetadata, Output, export_layer, load_exported
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

#: What an exported model gives, and how its metadata call it: logits or probabilities [B, K, H, W], or the class of
#: each pixel, int32 [B, H, W].
RESULTS = {"logits": "segmentation logits", "softmax": "probabilities", "argmax": "classes"}
#: Sizes (height, width) at which an exported model is compared with PaddleSeg's own result.
CHECKED_SIZES = ((128, 192), (224, 160))
#: Largest difference of logits or probabilities, and largest share of pixels of another class, taken for rounding.
TOLERANCE, SHARE_TOLERANCE = 1e-4, 1e-3


def export(
    config: SegConfig,
    weights: Path,
    output: Path,
    format: str = "onnx",
    *,
    result: str = "logits",
    size: tuple[int, int] | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> float:
    """Write a trained model for another runtime, and compare its results with PaddleSeg's own.

    Args:
        config: from `open_config`.
        weights: as `trained_model` takes them.
        output: the folder to make, as `cyclemlp.deploy.load_exported` reads it.
        format: "onnx", "openvino" or "paddle".
        result: a key of `RESULTS`.
        size: height and width of every image; None for any, which most heads allow.
        force: replace an exported model that is there.
        say: takes the report of what was loaded.

    Returns:
        The largest difference from PaddleSeg's result; for "argmax" the share of pixels of another class.

    Raises:
        ConfigError: the model cannot be built, or another result is named.
        WeightsError: there are no weights, or they do not fit.
        ExportError: the folder is not to be replaced; the model cannot be translated, or gives other results.
        MissingDependencyError: a library of the format is not installed.
    """
    if result not in RESULTS:
        raise ConfigError(f"result is {result!r}; known are {', '.join(RESULTS)}")
    layer = _OneOutput(trained_model(config, weights, say), result)
    layer.eval()
    metadata = _metadata(config, layer.model, result, size)
    if format != "paddle":
        _check_pools(layer, metadata.preprocessing.channels, size)
    spec = InputSpec([None, metadata.preprocessing.channels, *(size or (None, None))], "float32", "image")
    export_layer(layer, output, format, metadata=metadata, input_spec=[spec], force=force)
    return _compare(layer, output, metadata, size)


class _OneOutput(nn.Layer):
    """A model of PaddleSeg with its first output alone; the others are for training."""

    def __init__(self, model: nn.Layer, result: str) -> None:
        super().__init__()
        self.model, self.result = model, result

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """`[B, C, H, W]` → what `RESULTS` says."""
        logits = self.model(image)[0]
        if self.result == "softmax":
            return nn.functional.softmax(logits, axis=1)
        return paddle.argmax(logits, axis=1, dtype="int32") if self.result == "argmax" else logits


def _check_pools(layer: nn.Layer, channels: int, size: tuple[int, int] | None) -> None:
    """Raise ExportError if a layer pools to a grid as ONNX cannot: it has pools of one stride and size only.

    paddle2onnx translates others to pools of stride 0, on which ONNX's own checker crashes.
    """
    grids: dict[str, tuple[int, int]] = {}
    for name, part in layer.named_sublayers():
        if isinstance(part, nn.AdaptiveAvgPool2D):
            cells = part._output_size
            cells = tuple(cells) if isinstance(cells, list | tuple) else (cells, cells)
            if cells != (1, 1):
                grids[name] = cells
    if not grids:
        return
    head = type(layer.model).__name__
    if size is None:
        raise ExportError(
            f"{head} pools to a fixed grid ({next(iter(grids))}), which ONNX can do for one size of image only: "
            "give it with --size HEIGHT WIDTH"
        )
    parts = dict(layer.named_sublayers())
    maps: dict[str, list[int]] = {}
    hooks = [
        parts[name].register_forward_pre_hook(
            lambda part, inputs, name=name: maps.update({name: inputs[0].shape[2:]})
        )
        for name in grids
    ]
    with paddle.no_grad():
        layer(paddle.zeros([1, channels, *size]))
    for hook in hooks:
        hook.remove()
    for name, (rows, columns) in grids.items():
        height, width = maps[name]
        if height % rows or width % columns:
            raise ExportError(
                f"{head} pools maps of {height}×{width} to {rows}×{columns} for images of {size[0]}×{size[1]} "
                "(height×width), which ONNX cannot; choose a size for which that divides, or --format paddle"
            )


def _metadata(
    config: SegConfig, model: nn.Layer, result: str, size: tuple[int, int] | None
) -> ExportMetadata:
    transforms = config.val_dataset_cfg.get("transforms", [])
    normalise: dict[str, list[float]] = next((t for t in transforms if t["type"] == "Normalize"), {})
    mean, std = (tuple(normalise.get(key, getattr(Preprocessing(), key))) for key in ("mean", "std"))
    backbone = getattr(model, "backbone", None)
    return ExportMetadata(
        model=f"{type(model).__name__} over {type(backbone).__name__}",
        preprocessing=Preprocessing(crop_pct=1.0, mean=mean, std=std, exif="apply"),
        classes=config.class_names(),
        task="segmentation",
        outputs=[Output(result, RESULTS[result], stride=1)],
        min_size=getattr(getattr(backbone, "config", None), "min_size", 1),
        # What PaddleSeg does to an image before the model sees it, and for which size the file is, if for one only.
        extra={"transforms": transforms, "ignore_index": config.ignore_index, "size": size},
    )


def _compare(layer: nn.Layer, output: Path, metadata: ExportMetadata, size: tuple[int, int] | None) -> float:
    exported, name = load_exported(output), metadata.outputs[0].name
    draw, worst = np.random.default_rng(0), 0.0
    for batch, (height, width) in enumerate([size] if size else CHECKED_SIZES, 1):
        shape = (batch, metadata.preprocessing.channels, height, width)
        images = draw.standard_normal(shape, dtype=np.float32)
        with paddle.no_grad():
            expected = layer(paddle.to_tensor(images)).numpy()
        found = exported(images)[name]
        if found.shape != expected.shape:
            raise ExportError(f"{output} gives {list(found.shape)}, PaddleSeg {list(expected.shape)}")
        apart = np.mean(found != expected) if name == "argmax" else np.max(np.abs(found - expected))
        worst = max(worst, float(apart))
    if not worst <= (SHARE_TOLERANCE if name == "argmax" else TOLERANCE):
        raise ExportError(f"{output} gives other results than PaddleSeg, which differ by up to {worst:.2g}")
    return worst

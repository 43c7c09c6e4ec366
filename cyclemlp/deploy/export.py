"""Export: a layer, its input and what is known of it → a folder that a runtime reads.

Shapes: B batch, C channels, H height, W width, K classes; batch, height and width stay free in what is exported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from cyclemlp._version import __version__
from cyclemlp.deploy.metadata import KEY, ExportError, ExportMetadata, Output
from cyclemlp.deploy.onnx_files import NEWEST_OPSET, annotate_onnx, disk_errors, paddle_to_onnx
from cyclemlp.deploy.runtimes import FILES, PADDLE_INFERENCE, openvino_core, require
from cyclemlp.errors import ModelError
from cyclemlp.files import replacing_folder
from cyclemlp.kernels import export_form
from cyclemlp.network import CycleMLP, CycleMLPFeatures
from cyclemlp.network.variants import VARIANTS

__all__ = ["FORMATS", "export_layer", "export_model", "feature_form"]

FORMATS = ("onnx", "openvino", "paddle")


def export_model(
    model: CycleMLP,
    path: str | os.PathLike[str],
    format: str = "onnx",
    *,
    with_maps: bool = False,
    calibration: Iterable[np.ndarray] | None = None,
    opset: int = NEWEST_OPSET,
    force: bool = False,
) -> ExportMetadata:
    """Export a classifier, a network without a head, or a feature form, with its metadata.

    Args:
        model: from `create_model` or `load_model`; it is left as it is.
        path: the folder to make.
        format: one of `FORMATS`.
        with_maps: give a second output, the class maps `[B, K, H / 32, W / 32]`: where the network saw what. For
            average pooling and a linear head they are Grad-CAM's before its ReLU, times a constant.
        calibration: batches, float32 `[B, C, H, W]`, prepared as the model's preprocessing says: quantise the model
            to int8 with the ranges of values that it has on them. Not with "paddle".
        opset: ONNX operator set, for "onnx".
        force: replace an exported model that is there.

    Returns:
        What was written about the model.

    Raises:
        ExportError: the folder exists, or the model cannot be exported like this.
        ModelError: the class maps of a model without head are asked for.
        MissingDependencyError: a library of the format is not installed.
    """
    config = model.config
    if with_maps and (config.features_only or not config.num_classes):
        raise ModelError("class maps need a classification head; this model has none")
    if model.metadata is None:
        raise ExportError("the model has no metadata; make it with create_model or load_model")
    if config.features_only:
        strides = dict(zip(config.out_indices, model.feature_strides, strict=True))
        outputs = [Output(f"stage{i + 1}", "features", stride) for i, stride in strides.items()]
    elif not config.num_classes:
        outputs = [Output("features", "features")]
    else:
        outputs = [Output("logits", "logits")]
    if with_maps:
        outputs.append(Output("class_maps", "class maps", config.strides[-1]))
    metadata = ExportMetadata(
        model=model.metadata.model,
        preprocessing=model.metadata.preprocessing,
        classes=model.metadata.classes,
        num_classes=config.num_classes if outputs[0].kind == "logits" else None,
        task=model.metadata.task if outputs[0].kind == "logits" else "features",
        thresholds=model.metadata.thresholds if outputs[0].kind == "logits" else None,
        outputs=outputs,
        min_size=config.min_size,
        # With them the architecture is known, and what it costs.
        extra={"overrides": config.differences(VARIANTS[model.metadata.model].config)},
    )
    layer = _WithMaps(model) if with_maps else model
    export_layer(layer, path, format, metadata=metadata, calibration=calibration, opset=opset, force=force)
    return metadata


def export_layer(
    layer: nn.Layer,
    path: str | os.PathLike[str],
    format: str,
    *,
    metadata: ExportMetadata,
    input_spec: Sequence[Any] | None = None,
    calibration: Iterable[np.ndarray] | None = None,
    edit: Callable[[Path], object] = lambda onnx_file: None,
    opset: int = NEWEST_OPSET,
    force: bool = False,
) -> None:
    """Export any layer; every CycleMLP in it takes its form for export.

    Args:
        layer: gives a tensor, or a list or tuple of them.
        path: the folder to make; complete or not at all.
        format: one of `FORMATS`.
        metadata: its `outputs` name the layer's, in order; its `precision` and `version` are filled in here.
        input_spec: of `paddle.static.InputSpec`; default: an image `[B, C, H, W]`, float32, batch, height and width
            free, with as many channels as the preprocessing has.
        calibration, opset, force: as for `export_model`.
        edit: changes the ONNX file, of which "openvino" is made too, before its outputs get their names.

    Raises:
        ExportError: as for `export_model`, or the layer does not trace, or gives another number of outputs.
    """
    if format not in FORMATS:
        raise ExportError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    if calibration is not None and format == "paddle":
        raise ExportError("int8 is made for onnx and openvino; Paddle Inference runs float32")
    if format != "paddle":
        for module in ("paddle2onnx", "onnx", *(["openvino"] if format == "openvino" else [])):
            require(module)
    spec = input_spec or [
        paddle.static.InputSpec([None, metadata.preprocessing.channels, None, None], "float32", "image")
    ]
    metadata.version = __version__
    metadata.precision = "float32" if calibration is None else "int8"
    with new_folder(Path(path), force=force) as folder:
        if format == "paddle":
            _trace(export_form(layer, channels_first=False), folder / "model", spec)
            metadata.extra["paddle_inference"] = PADDLE_INFERENCE
            (folder / "metadata.json").write_text(metadata.to_json() + "\n", "utf-8")
            return
        with tempfile.TemporaryDirectory(prefix="cyclemlp_export_") as scratch:
            traced, onnx_file = Path(scratch) / "model", Path(scratch) / "model.onnx"
            _trace(export_form(layer, channels_first=calibration is None), traced, spec)
            paddle_to_onnx(traced, onnx_file, opset=opset)
            if calibration is not None:
                from cyclemlp.deploy.int8 import quantise

                metadata.extra["calibration_images"] = quantise(onnx_file, calibration)
            edit(onnx_file)
            annotate_onnx(onnx_file, metadata)
            if format == "onnx":
                shutil.copyfile(onnx_file, folder / "model.onnx")
            else:
                _to_openvino(onnx_file, folder / "model.xml", metadata)


def feature_form(model: CycleMLP) -> CycleMLP:
    """The feature form of a classifier, with its weights: normalised maps of all stages.

    The last map is the classifier's own before pooling. It has no norms for the first three, whose scale and shift
    are 1 and 0, as training of a dense model starts.
    """
    if model.config.features_only:
        return model
    features = CycleMLPFeatures(model.config.replace({"features_only": True}))
    own = model.state_dict()
    last = f"norm{2 * (model.config.stages - 1)}."
    for name, tensor in features.state_dict().items():
        if name.startswith(last):
            name = name.replace(last, "norm.")
        if name in own:
            tensor.set_value(own[name])
    features.metadata = model.metadata
    return features


class _WithMaps(nn.Layer):
    """A classifier whose second output are the class maps."""

    def __init__(self, model: CycleMLP) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """`[B, C, H, W]` → logits `[B, K]` and class maps `[B, K, h, w]`."""
        features = self.model.forward_features(image)
        return self.model.forward_head(features), self.model.class_maps(features)


def _trace(layer: nn.Layer, prefix: Path, spec: Sequence[Any]) -> None:
    try:
        # Without full_graph the input_spec has no effect.
        static = paddle.jit.to_static(layer, input_spec=list(spec), full_graph=True)
        paddle.jit.save(static, str(prefix))
    except Exception as error:  # tracing runs anybody's code
        raise ExportError(f"{type(layer).__name__} cannot be traced: {error}") from error


def _to_openvino(onnx_file: Path, path: Path, metadata: ExportMetadata) -> None:
    import openvino

    model = openvino_core().read_model(str(onnx_file))
    model.set_rt_info(metadata.to_json(), [KEY])
    openvino.save_model(model, str(path), compress_to_fp16=False)


#: What the folder of an exported model may hold.
_OURS = frozenset(name for names in FILES.values() for name in names)


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool, ours: Set[str] = _OURS) -> Iterator[Path]:
    """An empty folder that takes the place of `path` once all is in it.

    Args:
        force: an exported model that is there may be replaced.
        ours: names of an exported model's files. A folder with anything else in it is never replaced.

    Raises:
        ExportError: `path` exists and is not to be replaced, or holds more than an exported model.
    """
    if path.exists():
        if not path.is_dir():
            raise ExportError(f"{path} is a file; name a folder")
        there = {entry.name for entry in path.iterdir()}
        if there - ours:
            raise ExportError(
                f"{path} holds other things than an exported model ({sorted(there - ours)[0]}); name a new folder"
            )
        if there and not force:
            raise ExportError(f"{path} holds an exported model; --force (force=True) replaces it")
    with disk_errors(path), replacing_folder(path) as part:
        yield part

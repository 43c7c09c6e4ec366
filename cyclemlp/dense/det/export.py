"""Trained detectors as files for other runtimes: by PaddleDetection's own export, and RetinaNet as ONNX.

The folder that is made is one that `cyclemlp.load_exported` and `cyclemlp.Predictor` read. For Paddle Inference it has

model.json, model.pdiparams   the network and its post-processing
infer_cfg.yml                 the engine's own description, for its deployment programs
metadata.json                 as `cyclemlp.deploy.ExportMetadata` has it

and for ONNX `model.onnx`, with the same metadata in it. Their `extra` are

inputs              name, shape and meaning of each
largest_batch       1 where one image is taken at a time; absent for any number
preparation         "TestReader" of the configuration: how an image becomes the input
categories          ids and names of the classes in COCO files
nms                 of a model without its non-maximum suppression: what it is to be done with
paddle_inference    settings that Paddle Inference needs

Shapes: B images, K classes, M candidates, N objects of all images, h and w of the prepared and H and W of the original
image.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import paddle
from paddle.static import InputSpec

from cyclemlp._version import __version__
from cyclemlp.dense.det.configuration import Configuration
from cyclemlp.dense.det.onnx_form import Nms, RetinaCandidates, add_nms, translatable
from cyclemlp.dense.det.predict import Detector
from cyclemlp.dense.det.quiet import no_prints
from cyclemlp.dense.detections import Category
from cyclemlp.deploy import ExportError, ExportMetadata, Output, export_layer
from cyclemlp.deploy.export import new_folder
from cyclemlp.deploy.runtimes import PADDLE_INFERENCE
from cyclemlp.errors import ConfigError
from cyclemlp.kernels import export_form
from cyclemlp.preprocessing import Preprocessing

FORMATS = ("paddle", "onnx")
METADATA = "metadata.json"
_OURS = frozenset({"model.json", "model.pdiparams", "infer_cfg.yml", "model.onnx", METADATA})
#: Detectors with proposals, whose loops over the images of a batch cannot be traced.
_WITH_PROPOSALS = ("FasterRCNN", "MaskRCNN", "CascadeRCNN")


def export(
    config: Configuration,
    weights: Path,
    categories: Sequence[Category],
    output: Path,
    format: str = "paddle",
    *,
    nms: bool = True,
    force: bool = False,
) -> None:
    """Write a trained detector, for images of any size; within `engine()`.

    Args:
        weights: a .pdparams file.
        categories: of the classes, in the order of the outputs.
        output: the folder to make.
        format: "paddle", or "onnx" for RetinaNet.
        nms: with its non-maximum suppression; without it, of ONNX only, all candidates are given.
        force: replace an exported detector that is in `output`.

    Raises:
        ConfigError: `output` is not empty, or format and nms do not go together.
        ExportError: `output` holds more than an exported detector, or the detector cannot be traced or translated.
        WeightsError: the weights do not fit.
        MissingDependencyError: a library of the format is not installed.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}; detectors are exported as {' or '.join(FORMATS)}")
    if not nms and format != "onnx":
        raise ConfigError("a detector without its non-maximum suppression is written as onnx only")
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not force:
        raise ConfigError(
            f"{output} exists and is not empty; choose another --output, or replace it by --force"
        )
    if format == "onnx":
        _export_onnx(config, weights, categories, output, nms=nms, force=force)
    else:
        _export_paddle(config, weights, categories, output, force=force)


def _export_paddle(
    config: Configuration, weights: Path, categories: Sequence[Category], output: Path, *, force: bool
) -> None:
    one_image = config.architecture in _WITH_PROPOSALS
    trainer = Detector(_for_export(config, one_image), weights).trainer
    metadata = _metadata(config, categories, trainer.model, one_image=one_image)
    metadata.extra["paddle_inference"] = PADDLE_INFERENCE
    metadata.version = __version__
    trainer.model = export_form(trainer.model, channels_first=False)
    with (
        new_folder(output, force=force, ours=_OURS) as folder,
        tempfile.TemporaryDirectory(prefix="cyclemlp_export_") as scratch,
    ):
        try:
            with _whole_graphs(), no_prints(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that a traced branch leaves unset
                trainer.export(scratch)
        except Exception as error:  # tracing runs anybody's code
            raise ExportError(f"{config.architecture} cannot be traced: {error}") from error
        for file in next(Path(scratch).iterdir()).iterdir():
            shutil.move(file, folder / file.name)
        (folder / METADATA).write_text(metadata.to_json() + "\n", encoding="utf-8")


def _export_onnx(
    config: Configuration,
    weights: Path,
    categories: Sequence[Category],
    output: Path,
    *,
    nms: bool,
    force: bool,
) -> None:
    layer = RetinaCandidates(Detector(config, weights).trainer.model)
    layer.eval()
    metadata = _metadata(
        config, categories, layer.model, one_image=True, candidates=None if nms else layer.nms
    )
    spec = [
        InputSpec([1, 3, None, None], "float32", "image"),
        InputSpec([1, 2], "float32", "scale_factor"),
    ]
    wanted = layer.nms if nms else None
    with (
        new_folder(output, force=force, ours=_OURS) as folder,
        translatable(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        export_layer(
            layer,
            folder / "scratch",
            "onnx",
            metadata=metadata,
            input_spec=spec,
            edit=lambda path: add_nms(str(path), wanted) if wanted else None,
        )
        shutil.move(folder / "scratch/model.onnx", folder / "model.onnx")
        (folder / "scratch").rmdir()


def _for_export(config: Configuration, one_image: bool) -> Configuration:
    values = dict(config.values)
    if one_image:
        # The engine's own form for ONNX, without loops over the images; its loops cannot be traced.
        values["export_onnx"] = True
        values["export"] = {"post_process": False}  # it is exported all the same, and the batch stays 1
        values["TestReader"] = {**values["TestReader"], "inputs_def": {"image_shape": [1, 3, -1, -1]}}
    return Configuration(config.path, values)


@contextlib.contextmanager
def _whole_graphs() -> Iterator[None]:
    """Within it, `to_static` traces the whole model, without which the engine's input shapes have no effect."""
    name = "ENABLE_FALL_BACK"
    before = os.environ.get(name)
    os.environ[name] = "False"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _metadata(
    config: Configuration,
    categories: Sequence[Category],
    model: paddle.nn.Layer,
    *,
    one_image: bool,
    candidates: Nms | None = None,
) -> ExportMetadata:
    """What an exported detector says of itself; `candidates`: the suppression that it lacks."""
    if candidates is not None:
        outputs = [Output("boxes", "candidate boxes"), Output("scores", "candidate scores")]
    else:
        outputs = [Output("objects", "objects"), Output("counts", "object counts")]
        if config.has_masks():
            outputs.append(Output("masks", "object masks"))
    batch = 1 if one_image else "B"
    preparation = config.values["TestReader"]
    normalise: dict[str, Any] = next(
        (t["NormalizeImage"] for t in preparation.get("sample_transforms", []) if "NormalizeImage" in t), {}
    )
    mean, std = (tuple(normalise.get(key, getattr(Preprocessing(), key))) for key in ("mean", "std"))
    extra: dict[str, Any] = {
        "inputs": [
            {"name": "image", "shape": [batch, 3, "h", "w"], "what": "prepared images"},
            {"name": "im_shape", "shape": [batch, 2], "what": "h, w before padding"},
            {"name": "scale_factor", "shape": [batch, 2], "what": "of resizing: y, x"},
        ],
        "preparation": preparation,
        "categories": [{"id": c.id, "name": c.name} for c in categories],
        "notes": "A class of -1 or a score of 0 stands for no object. Boxes are in pixels of the original image.",
    }
    if one_image:
        extra["largest_batch"] = 1
    if candidates is not None:
        extra["nms"] = asdict(candidates)
    backbone = getattr(model, "backbone", None)
    return ExportMetadata(
        model=f"{config.architecture} over {type(backbone).__name__}",
        preprocessing=Preprocessing(crop_pct=1.0, mean=mean, std=std, exif="apply"),
        classes=[category.name for category in categories],
        num_classes=len(categories),
        task="instance segmentation" if config.has_masks() else "detection",
        outputs=outputs,
        min_size=getattr(getattr(backbone, "config", None), "min_size", 1),
        extra=extra,
    )

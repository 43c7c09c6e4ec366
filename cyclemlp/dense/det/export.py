"""Trained detectors as files for Paddle Inference, by PaddleDetection's own export.

The folder that is made holds:

model.json, model.pdiparams   the network and its post-processing
infer_cfg.yml                 the engine's own description, for its deployment programs
metadata.json                 inputs, outputs, preparation of the pictures, classes

Shapes: B pictures, N objects of all of them, h and w of the prepared and H and W of the original picture.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddle import inference

from cyclemlp._version import __version__
from cyclemlp.dense.det.configuration import Category, Configuration
from cyclemlp.dense.det.predict import Detections, Detector, Preparation, to_detections
from cyclemlp.dense.det.quiet import no_prints
from cyclemlp.deploy import ExportError
from cyclemlp.deploy.export import new_folder
from cyclemlp.deploy.form import export_form
from cyclemlp.errors import ConfigError

METADATA = "metadata.json"
_OURS = frozenset({"model.json", "model.pdiparams", "infer_cfg.yml", METADATA})
#: Detectors with proposals, whose loops over the pictures of a batch cannot be traced.
_WITH_PROPOSALS = ("FasterRCNN", "MaskRCNN", "CascadeRCNN")


def export(
    config: Configuration,
    weights: Path,
    categories: Sequence[Category],
    output: Path,
    *,
    force: bool = False,
) -> None:
    """Write a trained detector, post-processing included, for pictures of any size; within `engine()`.

    Args:
        weights: a .pdparams file.
        categories: of the classes, in the order of the outputs.
        output: the folder to make.
        force: replace an exported detector that is in `output`.

    Raises:
        ConfigError: `output` is not empty.
        ExportError: `output` holds more than an exported detector, or the detector cannot be traced.
        WeightsError: the weights do not fit.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())) and not force:
        raise ConfigError(
            f"{output} exists and is not empty; choose another --output, or replace it by --force"
        )
    one_picture = config.architecture in _WITH_PROPOSALS
    detector = Detector(_for_export(config, one_picture), weights)
    trainer = detector.trainer
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
        facts = _metadata(config, categories, one_picture)
        (folder / METADATA).write_text(
            json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )


class ExportedDetector:
    """An exported detector as a callable like `Detector`: picture → its objects.

    Args:
        folder: what `export` made.
        config: the configuration whose "TestReader" prepares the pictures.
    """

    def __init__(self, folder: Path, config: Configuration) -> None:
        config.activate()
        self._prepare = Preparation()
        settings = inference.Config(str(folder / "model.json"), str(folder / "model.pdiparams"))
        settings.disable_glog_info()
        settings.disable_mkldnn()
        self._predictor = inference.create_predictor(settings)

    def __call__(self, picture: np.ndarray) -> Detections:
        """What is in a picture, RGB uint8 [H, W, 3] of any size."""
        predictor, inputs = self._predictor, self._prepare(picture)
        for name in predictor.get_input_names():
            predictor.get_input_handle(name).copy_from_cpu(inputs[name])
        predictor.run()
        outputs = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
        named = {"bbox": next(o for o in outputs if o.ndim == 2)}
        if masks := [o for o in outputs if o.ndim == 3]:
            named["mask"] = masks[0]
        return to_detections(named, picture.shape[:2])


def _for_export(config: Configuration, one_picture: bool) -> Configuration:
    values = dict(config.values)
    if one_picture:
        # The engine's own form for ONNX, without loops over the pictures; its loops cannot be traced.
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


def _metadata(config: Configuration, categories: Sequence[Category], one_picture: bool) -> dict[str, Any]:
    batch = 1 if one_picture else "B"
    outputs = [
        {"kind": "boxes", "shape": ["N", 6], "columns": ["class", "score", "x0", "y0", "x1", "y1"]},
        {"kind": "number of boxes of each picture", "shape": [batch]},
    ]
    if config.has_masks():
        outputs.append({"kind": "masks", "shape": ["N", "H", "W"], "values": "1 in the object, else 0 or -1"})
    return {
        "task": "instance segmentation" if config.has_masks() else "detection",
        "architecture": config.architecture,
        "inputs": [
            {"name": "image", "type": "float32", "shape": [batch, 3, "h", "w"], "what": "prepared pictures"},
            {"name": "im_shape", "type": "float32", "shape": [batch, 2], "what": "h, w before padding"},
            {"name": "scale_factor", "type": "float32", "shape": [batch, 2], "what": "of resizing: y, x"},
        ],
        "outputs": outputs,
        "notes": "A class of -1 or a score of 0 stands for no object. Boxes are in pixels of the original picture.",
        "preparation": config.values["TestReader"],
        "categories": [{"id": c.id, "name": c.name} for c in categories],
        "version": __version__,
    }

"""Exported models as callables, in ONNX Runtime, OpenVINO and Paddle Inference. Without Paddle, but for the last.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.deploy.metadata import KEY, ExportError, ExportMetadata
from cyclemlp.errors import ConfigError, MissingDependencyError, ModelError
from cyclemlp.text import counted, shown

#: Tasks whose models have the inputs of PaddleDetection.
DETECTION_TASKS = ("detection", "instance segmentation")
RUNTIMES = ("onnxruntime", "openvino", "paddle")
PRECISIONS = ("float32", "bfloat16", "int8")

#: The files of an exported model, in its folder, by format.
FILES = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
    "paddle": ("model.json", "model.pdiparams", "metadata.json"),
}
#: The runtimes that read a format; the first is taken unless another is asked for.
RUNS = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",), "paddle": ("paddle",)}

#: What Paddle Inference must be configured with for exported models, here and elsewhere; it is written into
#: their metadata. With oneDNN, which it may switch on by itself, it fails on bilinear interpolation and padded slices.
PADDLE_INFERENCE = {"mkldnn": False}

#: From a batch, and further inputs by name, to the outputs in the order of the metadata. Of the file's inputs, the one
#: that is not among the latter is the batch.
Run = Callable[[np.ndarray, Mapping[str, np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class ExportedModel:
    """A model that `load_exported` opened. Several threads may call it at the same time.

    Attributes:
        path: the folder or file that it was read from.
        metadata: what it says of itself: model, preprocessing, classes, task, outputs.
        runtime: one of `RUNTIMES`.
        precision: in which it computes, one of `PRECISIONS`.
        threads: number of threads that it was given; None for the runtime's own choice.
    """

    path: Path
    metadata: ExportMetadata
    runtime: str
    precision: str
    threads: int | None
    _run: Run

    def __call__(self, images: np.ndarray, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model.

        Args:
            images: float32 `[B, C, H, W]`, prepared as `metadata.preprocessing` says; any batch, height and width. Of
                a detector that `metadata.extra["inputs"]` gives a batch of 1: one image.
            inputs: of a detector, float32 `[B, 2]`: `im_shape`, height and width without padding (default: those of
                `images`), and `scale_factor`, of y and x, by which the image was resized (default: 1). Boxes are in
                pixels of the image before that.

        Returns:
            The outputs by name, float32, in the order of `metadata.outputs`.

        Raises:
            ModelError: another type or shape, or an image smaller than `metadata.min_size`.
        """
        images = self._checked(images)
        arrays = self._run(images, self._further(images, inputs))
        return {output.name: array for output, array in zip(self.metadata.outputs, arrays, strict=True)}

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The logits alone, float32 `[B, K]`; a classifier for `cyclemlp.evaluation`.

        Raises:
            ModelError: the model gives none, or as for calling it.
        """
        name = self.output("logits")
        if name is None:
            kinds = ", ".join(output.kind for output in self.metadata.outputs)
            raise ModelError(f"{self.path} gives {kinds} and no logits: it is no classifier")
        return self(np.asarray(images))[name]

    def output(self, kind: str) -> str | None:
        """The name of the first output of a kind (see `Output`), or None."""
        return next((output.name for output in self.metadata.outputs if output.kind == kind), None)

    def _further(self, images: np.ndarray, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A detector's other inputs; other models have none."""
        known = {
            "im_shape": np.tile(np.array(images.shape[2:], np.float32), (len(images), 1)),
            "scale_factor": np.ones((len(images), 2), np.float32),
        }
        if self.metadata.task not in DETECTION_TASKS:
            known = {}
        for name, value in given.items():
            if name not in known:
                raise ModelError(f"{self.path} has no input {name!r}; it has {', '.join(['images', *known])}")
            if not isinstance(value, np.ndarray) or value.shape != known[name].shape:
                raise ModelError(
                    f"{name} is {shown(value)}; expected a float32 array {list(known[name].shape)}"
                )
            known[name] = np.ascontiguousarray(value, np.float32)
        return known

    def _checked(self, images: np.ndarray) -> np.ndarray:
        channels, least = self.metadata.preprocessing.channels, self.metadata.min_size
        if not isinstance(images, np.ndarray) or images.dtype != np.float32:
            kind = f"{images.dtype} array" if isinstance(images, np.ndarray) else type(images).__name__
            raise ModelError(f"the input is a {kind}; expected a float32 array")
        if images.ndim != 4 or images.shape[1] != channels or not len(images):
            raise ModelError(
                f"the input has shape {images.shape}; expected [batch, {channels}, height, width]"
            )
        most = self.metadata.extra.get("largest_batch", len(images))
        if len(images) > most:
            raise ModelError(
                f"the input has {counted(len(images), 'image')}; this model takes {most} at a time"
            )
        if min(images.shape[2:]) < least:
            raise ModelError(
                f"the image is {images.shape[2]}×{images.shape[3]} pixels (height×width); "
                f"this model needs at least {least} in both directions: resize or pad it"
            )
        return np.ascontiguousarray(images)


def load_exported(
    path: str | os.PathLike[str],
    runtime: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> ExportedModel:
    """Open an exported model.

    Args:
        path: the folder that `export_model` or `cyclemlp export` wrote, or a model file in it.
        runtime: "onnxruntime" (ONNX), "openvino" (OpenVINO and ONNX) or "paddle" (Paddle Inference); default: by
            the files.
        precision: "float32", "bfloat16" (OpenVINO, where the processor computes in it) or "int8" (a quantised
            model); default: the file's own.
        threads: how many the runtime may use; default: the runtime's own choice, mostly all cores.

    Raises:
        ExportError: there is no exported model, another's, or one that the runtime cannot read.
        ConfigError: an unknown runtime or precision, or one that does not fit the files or the processor.
        MissingDependencyError: the runtime is not installed.
    """
    path = Path(path)
    if runtime not in (None, *RUNTIMES):
        raise ConfigError(f"unknown runtime {runtime!r}; use one of {', '.join(RUNTIMES)}")
    if precision not in (None, *PRECISIONS):
        raise ConfigError(f"unknown precision {precision!r}; use one of {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; give a number from 1, or none for the runtime's choice")
    form, file = _find(path, runtime)
    runtime = runtime or RUNS[form][0]
    if runtime not in RUNS[form]:
        raise ConfigError(
            f"{file} is a model for {' and '.join(RUNS[form])}, not for {runtime}; export it with another --format"
        )
    if precision == "bfloat16" and runtime != "openvino":
        raise ConfigError(f"{runtime} does not compute in bfloat16 on processors; use the runtime openvino")
    text, run = _OPEN[runtime](file, precision, threads)
    if not text:
        raise ExportError(
            f"{file} says nothing of its preprocessing and outputs, so it was not written by `cyclemlp export`; use "
            f"{runtime} itself for other models"
        )
    metadata = ExportMetadata.from_json(text, str(file))
    if precision in ("float32", "int8") and precision != metadata.precision:
        raise ConfigError(f"{file} holds a model in {metadata.precision}, not {precision}; export it again")
    return ExportedModel(path, metadata, runtime, precision or metadata.precision, threads, run)


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path looks like an exported model rather than a weight file or a run folder."""
    path = Path(path)
    if path.is_dir():
        return any((path / names[0]).is_file() for names in FILES.values())
    return path.suffix in (".onnx", ".xml") or (
        path.suffix == ".json" and (path.parent / "metadata.json").is_file()
    )


def _find(path: Path, runtime: str | None) -> tuple[str, Path]:
    """Format and main file of the model that a path means."""
    if path.is_dir():
        found = [(form, path / names[0]) for form, names in FILES.items() if (path / names[0]).is_file()]
        fitting = [entry for entry in found if runtime in (None, *RUNS[entry[0]])]
        if found:
            return (fitting or found)[0]
        raise ExportError(
            f"{path} is a folder without an exported model; expected model.onnx, model.xml or model.json"
        )
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file or folder")
    forms = {".onnx": "onnx", ".xml": "openvino", ".json": "paddle", ".pdiparams": "paddle"}
    if path.suffix not in forms:
        raise ExportError(f"{path} is no exported model; expected .onnx, .xml or .json, or the folder of one")
    return forms[path.suffix], path.with_suffix(".json") if path.suffix == ".pdiparams" else path


def require(module: str) -> None:
    """Raise MissingDependencyError if a library of the extra `export` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(
            f'{module} is not installed; `pip install "paddle-cyclemlp[export]"` brings it'
        )


#: Of ONNX Runtime's log levels.
_ERRORS = 3

# ---- the runtimes: file, precision, threads → the metadata's text (empty if there is none), and what runs it


def _open_onnxruntime(file: Path, precision: str | None, threads: int | None) -> tuple[str, Run]:
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    # Work is handed out in small portions, so that a core that decodes images meanwhile does not hold up the other.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a kind for each cause
        raise ExportError(f"{file}: ONNX Runtime cannot read it: {error}") from error
    names = [node.name for node in session.get_inputs()]
    text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
    return text, lambda images, further: session.run(None, {n: further.get(n, images) for n in names})


@functools.cache
def openvino_core() -> Any:
    """The one `openvino.Core` of the process; it is never given back.

    OpenVINO's plugin for processors brings a stack for signal handlers, and gives the stack before it back when it
    goes. Of two plugins that go in the order they came in, the thread is left with a stack that is no longer there,
    and the next Ctrl-C ends the process with a segmentation fault (seen with OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _open_openvino(file: Path, precision: str | None, threads: int | None) -> tuple[str, Run]:
    require("openvino")
    core = openvino_core()
    # Left alone, OpenVINO computes in bfloat16 wherever the processor can.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if precision == "bfloat16":
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError(
                "this processor does not compute in bfloat16 (see `cyclemlp info`); leave it out"
            )
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(str(file))
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ExportError(f"{file}: OpenVINO cannot read it: {error}") from error
    requests = threading.local()  # one runs one batch at a time

    def run(images: np.ndarray, further: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        values = [further.get(port.get_any_name(), images) for port in compiled.inputs]
        results = requests.own.infer(values, share_inputs=True)
        return [results[port] for port in compiled.outputs]

    place = [KEY] if model.has_rt_info([KEY]) else ["framework", KEY]  # the second: of an ONNX file
    return str(model.get_rt_info(place).value) if model.has_rt_info(place) else "", run


def _open_paddle(file: Path, precision: str | None, threads: int | None) -> tuple[str, Run]:
    from cyclemlp._paddle import require_paddle

    require_paddle()
    from paddle import inference

    config = inference.Config(str(file), str(file.with_suffix(".pdiparams")))
    config.disable_glog_info()
    config.disable_mkldnn()  # see PADDLE_INFERENCE
    if threads is not None:
        config.set_cpu_math_library_num_threads(threads)
    try:
        predictor = inference.create_predictor(config)
    except Exception as error:  # Paddle raises several kinds
        raise ExportError(f"{file}: Paddle Inference cannot read it: {error}") from error
    inputs = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
    outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]
    lock = threading.Lock()

    def run(images: np.ndarray, further: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with lock:
            for name, handle in inputs.items():
                handle.copy_from_cpu(further.get(name, images))
            predictor.run()
            return [output.copy_to_cpu() for output in outputs]

    beside = file.with_name("metadata.json")
    return beside.read_text("utf-8") if beside.is_file() else "", run


_OPEN = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino, "paddle": _open_paddle}

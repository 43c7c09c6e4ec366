"""Static quantisation of ONNX models to int8, by ONNX Runtime's own tool."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cyclemlp.deploy.metadata import ExportError
from cyclemlp.deploy.runtimes import require


def quantise(path: Path, batches: Iterable[np.ndarray]) -> int:
    """Replace an ONNX file by its int8 form.

    Weights are quantised by output channel, symmetrically, activations by tensor with the range that they have on the
    calibration images. Only convolutions and matrix products are: norms, the gate's softmax and sums stay float32.

    Args:
        path: of the ONNX file, with one input.
        batches: calibration images, float32 `[B, C, H, W]`, prepared for the model.

    Returns:
        The number of calibration images.

    Raises:
        ExportError: there are none.
        MissingDependencyError: onnxruntime, or what it quantises with, is not installed.
    """
    for module in ("onnxruntime", "onnx", "ml_dtypes"):
        require(module)
    import onnx
    import onnxruntime
    from onnxruntime import quantization as tool
    from onnxruntime.quantization.shape_inference import quant_pre_process

    rest = iter(batches)
    first = next(rest, None)
    if first is None or not len(first):
        raise ExportError("there are no calibration images")

    class Reader(tool.CalibrationDataReader):
        def __init__(self) -> None:
            self.name = onnx.load(str(path), load_external_data=False).graph.input[0].name
            self.batches, self.images = itertools.chain([first], rest), 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            if batch is None:
                return None
            self.images += len(batch)
            return {self.name: np.ascontiguousarray(batch, dtype=np.float32)}

    reader = Reader()
    onnxruntime.set_default_logger_severity(3)  # errors: it warns of every constant that it folds
    with tempfile.TemporaryDirectory(prefix="cyclemlp_int8_") as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        # Folds constants and fuses biases; symbolic shape inference does not know LayerNormalization.
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        tool.quantize_static(
            str(prepared),
            str(path),
            reader,
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul"],
            per_channel=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            calibrate_method=tool.CalibrationMethod.MinMax,
            # Rounded to 8 bits, they would be unpacked again for GELU, norms and sums.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
    return reader.images

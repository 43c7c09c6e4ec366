"""What do bfloat16 and int8 cost in accuracy, and what do they gain, on a real, trained task?

    python benchmarks/export_accuracy.py runs/demo            the digits, of `make demo`
    python benchmarks/export_accuracy.py runs/pets --data pets/val --calibration pets/train

Exports the run in float32 and int8 and evaluates it in every runtime and precision through the same commands that
users type. Speed: benchmarks/runtimes.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path

from cyclemlp._tune import bfloat16_instructions
from cyclemlp.cli.main import main as command_line
from cyclemlp.report import format_table

#: Exported form, runtime, precision.
WAYS = [
    ("onnx", "onnxruntime", "float32"),
    ("onnx", "openvino", "float32"),
    ("paddle", "paddle", "float32"),
    ("onnx", "openvino", "bfloat16"),
    ("int8", "onnxruntime", "int8"),
    ("int8", "openvino", "int8"),
]


def command(*words: str) -> str:
    """What a command prints on stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if code := command_line(list(words)):
            raise SystemExit(code)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="run folder of `cyclemlp train`")
    parser.add_argument("--data", default="digits", help="labelled images (default: %(default)s)")
    parser.add_argument("--calibration", default="digits", help="for int8 (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {form: str(Path(scratch) / form) for form in ("onnx", "paddle", "int8")}
        command("export", args.run, "--output", folders["onnx"])
        command("export", args.run, "--output", folders["paddle"], "--format", "paddle")
        command("export", args.run, "--output", folders["int8"], "--int8", "--calibration", args.calibration)
        size = {
            form: sum(path.stat().st_size for path in Path(folder).iterdir())
            for form, folder in folders.items()
        }
        reference = json.loads(command("eval", args.run, "--data", args.data, "--json"))
        rows = [
            ["training network", "float32", f"{reference['top1']:.2f}", "", f"{reference['loss']:.4f}", ""]
        ]
        for form, runtime, precision in WAYS:
            if precision == "bfloat16" and not bfloat16_instructions():
                rows.append([runtime, precision, "not in this processor", "", "", ""])
                continue
            words = ["--data", args.data, "--runtime", runtime, "--precision", precision, "--json"]
            found = json.loads(command("eval", folders[form], *words))
            change = found["top1"] - reference["top1"]
            rows.append(
                [
                    runtime,
                    precision,
                    f"{found['top1']:.2f}",
                    f"{change:+.2f}",
                    f"{found['loss']:.4f}",
                    f"{size[form] / 1e6:.2f}",
                ]
            )
    print(format_table(["runtime", "precision", "top-1 %", "change", "loss", "MB"], rows))


if __name__ == "__main__":
    main()

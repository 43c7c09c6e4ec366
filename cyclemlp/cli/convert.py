"""`cyclemlp convert IN OUT`: between the published, Paddle and safetensors forms."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cyclemlp.cli.common import print_json
from cyclemlp.cli.options import add
from cyclemlp.errors import WeightsError
from cyclemlp.text import counted
from cyclemlp.weights import LAYOUTS, WeightFile, read_weights, write_weights

EPILOG = """examples:
  the authors' published file for Paddle, in a form that any Paddle program reads:
    cyclemlp convert CycleMLP_B1.pth cyclemlp_b1.pdparams
  our own training result for the authors' PyTorch code (safetensors.torch.load_file reads it):
    cyclemlp convert runs/digits digits.safetensors --to-layout authors
  half the size; a model computes in its own type all the same:
    cyclemlp convert runs/digits digits.safetensors --dtype float16
  only look: what is in this file? (nothing of it is ever run)
    cyclemlp info FILE

IN's kind is found from its content. PyTorch is not needed, and neither is Paddle.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help=".pth (state dict or training checkpoint, new or old form), .pdparams, .safetensors, or a run folder",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help=".pdparams or .safetensors")
    add(
        parser,
        "--layout",
        "layout of IN's linear weights, [out, in] or [in, out]; needed only if a message asks for it",
        choices=LAYOUTS,
    )
    add(
        parser,
        "--to-layout",
        "layout of OUT (default: %(default)s); authors: as their PyTorch code loads it, with offset buffers",
        choices=LAYOUTS,
        default="paddle",
    )
    add(parser, "--dtype", "type of OUT's numbers (default: as in IN)", choices=("float16", "float32"))
    add(parser, "--force", "replace OUT if it exists")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was read and written."""
    output: Path = args.output
    if output.exists() and not args.force:
        raise WeightsError(f"{output} exists; --force replaces it")
    file = read_weights(args.input, layout=args.layout)
    tensors = file.tensors
    if args.dtype is not None:
        real = {name for name, tensor in tensors.items() if tensor.dtype.kind == "f"}
        with np.errstate(over="ignore"):
            tensors = {n: t.astype(args.dtype) if n in real else t for n, t in tensors.items()}
        for name in real:
            if (np.isfinite(tensors[name]) != np.isfinite(file.tensors[name])).any():
                raise WeightsError(f"{args.input}: {name} has numbers that are too large for {args.dtype}")
    write_weights(
        output,
        tensors,
        layout=args.to_layout,
        metadata=file.metadata or None,
        step_sizes=file.step_sizes or None,
    )
    facts = describe(file)
    if args.json:
        written = {"path": str(output), "layout": args.to_layout, "bytes": output.stat().st_size}
        print_json({"input": facts, "output": written}, indent=2)
        return 0
    types = ", ".join(f"{count} {name}" for name, count in facts["dtypes"].items())
    print(f"read    {file.path} ({file.layout} layout)")
    print(
        f"        {counted(facts['tensors'], 'tensor')} ({types}), {counted(facts['parameters'], 'number')}"
    )
    for note in file.notes:
        print(f"        {note}")
    print(f"        model: {file.metadata.get('model', 'not named in the file')}")
    print(f"wrote   {output} ({args.to_layout} layout), {output.stat().st_size:,} bytes")
    return 0


def describe(file: WeightFile) -> dict[str, Any]:
    """A weight file's facts as JSON values."""
    return {
        "path": str(file.path),
        "layout": file.layout,
        "tensors": len(file.tensors),
        "parameters": sum(tensor.size for tensor in file.tensors.values()),
        "dtypes": dict(Counter(str(tensor.dtype) for tensor in file.tensors.values())),
        "step_sizes": {name: list(step) for name, step in file.step_sizes.items()},
        "notes": list(file.notes),
        "metadata": file.metadata,
    }

"""Paddle Inference models → ONNX, through paddle2onnx, and what is checked of the result.

Nothing here knows the network: any exported Paddle model is taken, the dense ones too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclemlp.deploy.metadata import KEY, ExportError, ExportMetadata
from cyclemlp.deploy.runtimes import require
from cyclemlp.files import replacing
from cyclemlp.text import counted

#: The newest operator set that is written.
NEWEST_OPSET = 17


def paddle_to_onnx(
    model_prefix: str | os.PathLike[str], path: str | os.PathLike[str], *, opset: int = NEWEST_OPSET
) -> None:
    """Translate a Paddle Inference model into an ONNX file, which is checked before it takes its place.

    Args:
        model_prefix: the model is `<model_prefix>.json` (or `.pdmodel`) and `<model_prefix>.pdiparams`.
        path: of the ONNX file; one that exists is replaced.
        opset: ONNX operator set, 7 to 17.

    Raises:
        ExportError: the model is missing, an operator of it has no translation, or the result is no valid ONNX file
            of standard operators.
        MissingDependencyError: paddle2onnx or onnx is not installed.
    """
    if not 7 <= opset <= NEWEST_OPSET:
        raise ExportError(f"opset is {opset}; use 7 to {NEWEST_OPSET}")
    require("paddle2onnx")
    require("onnx")
    program, weights = _model_files(Path(model_prefix))
    with disk_errors(Path(path)), replacing(Path(path)) as part:
        _translate(program, weights, part, opset)
        check_onnx(part)


def check_onnx(path: str | os.PathLike[str], *, newest_opset: int = NEWEST_OPSET) -> None:
    """Raise ExportError unless a file is a valid ONNX model of standard operators up to an operator set."""
    import onnx

    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and the parser each have their own kinds
        raise ExportError(f"{path}: is no valid ONNX model: {error}") from error
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("", 0) > newest_opset:
        raise ExportError(
            f"{path}: needs ONNX operator set {opsets['']}; {newest_opset} is the newest allowed"
        )
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in _nodes(model.graph)
            if node.domain not in ("", "ai.onnx")
        }
    )
    if foreign or model.functions:
        raise ExportError(
            f"{path}: has operators that ONNX does not define, which few runtimes know: "
            + ", ".join(foreign or [function.name for function in model.functions])
        )


def annotate_onnx(path: str | os.PathLike[str], metadata: ExportMetadata) -> None:
    """Give a file's outputs and free axes their names, remove what nothing reads, and put the metadata into it.

    Raises:
        ExportError: the metadata name another number of outputs than there are.
    """
    import onnx

    model = onnx.load(os.fspath(path))
    graph, names = model.graph, [output.name for output in metadata.outputs]
    if len(names) != len(graph.output):
        raise ExportError(
            f"the model gives {counted(len(graph.output), 'output')}, and {len(names)} are named: {names}"
        )
    new = dict(zip([output.name for output in graph.output], names, strict=True))
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for output, name in zip(graph.output, names, strict=True):
        output.name = name
    _name_axes(graph)
    _remove_unused(graph)
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, os.fspath(path))


def _name_axes(graph: Any) -> None:
    """Free axes of images are batch, height and width; a map's are its own, for it has another size.

    Where the batch is not free, neither is it an output's first axis.
    """
    axes = {4: ("batch", "channels", "height", "width")}
    fixed = all(value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in graph.input)
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        names = axes.get(len(dims), ("batch", *(f"axis{i}" for i in range(1, len(dims)))))
        for dim, name in zip(dims, names, strict=True):
            if not dim.HasField("dim_value"):
                own = value in graph.output and (name != "batch" or fixed)
                name = "axis0" if fixed and name == "batch" else name
                dim.dim_param = f"{value.name}_{name}" if own else name
    del graph.value_info[:]  # sizes within, by the names that the axes had


def _remove_unused(graph: Any) -> None:
    """Constants and nodes that no output needs: runtimes warn of them."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        needed.update(name for inner in _with_inner(node) for name in inner.input)
        needed.update(value.name for inner in _graphs(node) for value in inner.output)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _graphs(node: Any) -> Iterator[Any]:
    """The graphs inside a node (branches, loops), and inside those."""
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield inner
            for below in inner.node:
                yield from _graphs(below)


def _with_inner(node: Any) -> Iterator[Any]:
    yield node
    for graph in _graphs(node):
        yield from graph.node


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph and of the graphs inside it (branches, loops)."""
    for node in graph.node:
        yield from _with_inner(node)


def _model_files(prefix: Path) -> tuple[Path, Path]:
    programs = [prefix.with_name(prefix.name + suffix) for suffix in (".json", ".pdmodel")]
    program = next((path for path in programs if path.is_file()), None)
    weights = prefix.with_name(prefix.name + ".pdiparams")
    if program is None or not weights.is_file():
        missing = " or ".join(map(str, programs)) if program is None else str(weights)
        raise ExportError(
            f"there is no {missing}; expected a Paddle Inference model, as paddle.jit.save writes it"
        )
    return program, weights


#: Its own process, because a model that paddle2onnx cannot translate may end the whole process by an abort signal.
_TRANSLATE = """
import sys, paddle2onnx
program, weights, path, opset = sys.argv[1:]
# Without optimize_tool="None" it starts further processes to simplify the graph.
paddle2onnx.export(program, weights, save_file=path, opset_version=int(opset), optimize_tool="None")
"""


def _translate(program: Path, weights: Path, path: Path, opset: int) -> None:
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        _TRANSLATE,
        str(program),
        str(weights),
        str(path),
        str(opset),
    ]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode or not path.is_file():
        # A failed export calls sys.exit or aborts; its reason is in one of the lines marked ERROR.
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        listed = [line for line in lines if "ERROR" in line or "not support" in line] or lines[-3:]
        raise ExportError(
            f"paddle2onnx cannot translate {program} to operator set {opset}: {' / '.join(listed) or 'it said nothing'}"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Within it, an error of the disk is an ExportError that says what cannot be written."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error

"""`cyclemlp bench`: how fast, on this machine."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp._tune import processor_facts
from cyclemlp._version import __version__
from cyclemlp.bench.figure import plot_speed
from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.files import write_text
from cyclemlp.report import format_table
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.bench import Case, Machine, Model

EXAMPLES = """examples:
  cyclemlp bench
      cyclemlp_b1 at 224², one image and eight, in every runtime that is installed
  cyclemlp bench cyclemlp_b1 cyclemlp_b2 cyclemlp_b3 --runtime openvino --batch 8 --output bench
      bench/bench.csv, .json and .png: speed against published accuracy
  cyclemlp bench runs/pets exported/pets_int8 --size 224 384 512x1024 --batch 1
      what one trained, at three sizes (height first)
  cyclemlp bench --runtime network openvino --precision float32 bfloat16 --threads 1
      `network` is the network as it is trained, in Paddle

A variant gets random weights: its speed does not depend on them. Exit code: 0 all measured; 1 a case failed, which
its row says; 2 an error in the options or the input.
"""
COLUMNS = {
    "name": "model",
    "runtime": "runtime",
    "precision": "precision",
    "size": "size",
    "batch": "batch",
    "images_per_second": "images/s",
    "latency_p50_ms": "p50, ms",
    "latency_p95_ms": "p95, ms",
    "peak_memory_mib": "peak memory, MiB",
    "giga_macs": "MACs, G",
    "share_of_peak_percent": "of peak, %",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from cyclemlp.bench import NETWORK, WAYS
    from cyclemlp.deploy import PRECISIONS

    parser.epilog = EXAMPLES
    parser.add_argument(
        "models",
        nargs="*",
        default=["cyclemlp_b1"],
        metavar="MODEL",
        help="variants by name, run folders, weight files, exported models (default: cyclemlp_b1)",
    )
    options.add_override_argument(parser)
    add(parser, "--size", "224, or height×width as 512x1024", default=["224"])
    add(parser, "--batch", default=[1, 8])
    add(
        parser,
        "--runtime",
        f"(default: all; {NETWORK}: as trained, in Paddle)",
        nargs="+",
        choices=tuple(WAYS),
    )
    add(parser, "--precision", nargs="+", choices=PRECISIONS, default=["float32"])
    add(parser, "--threads", "default: one a core that may be used")
    add(parser, "--seconds", "for each case (default: %(default)g)", default=5.0)
    add(parser, "--output", "write DIR/bench.csv, bench.json and bench.png")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from cyclemlp.bench import measure, measure_machine

    if args.seconds <= 0:
        raise ConfigError(f"--seconds is {args.seconds:g}; give a number above 0")
    output = common.output_folder(args.output)
    threads = args.threads or len(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="cyclemlp-bench-") as scratch:
        plan = []  # whole before the first measurement: what is wrong with the last model is known at once
        for number, given in enumerate(dict.fromkeys(args.models)):
            common.message(f"cyclemlp bench: preparing {given}")
            plan += _plan(args, given, threads, Path(scratch) / str(number))
        machine = measure_machine(threads)
        facts = {
            "version": __version__,
            "machine": f"{platform.system()} {platform.machine()}, {processor_facts()['name']}",
            "threads": threads,
            "matrix_product_peak_giga_macs_per_second": machine.macs_per_second / 1e9,
            "seconds_a_case": args.seconds,
        }
        try:
            for case, model in plan:
                common.message(f"cyclemlp bench: {_words(case, model)}, {len(rows) + 1} of {len(plan)}")
                rows.append(_row(case, model, machine, measure(case, model, args.seconds)))
                if output is not None:
                    _write(output, {**facts, "complete": len(rows) == len(plan)}, rows)
        finally:  # stopped by Ctrl-C too
            if rows and not args.json:
                print(_table(rows, machine))
    if args.json:
        common.print_json({**facts, "complete": True, "cases": rows}, indent=1)
    if output is not None:
        _draw(output / "bench.png", rows)
    failed = [row for row in rows if "error" in row]
    for row in failed:
        common.message(f"cyclemlp bench: {row['name']}, {row['runtime']}, {row['precision']}: {row['error']}")
    return 1 if failed else 0


def _plan(args: argparse.Namespace, given: str, threads: int, scratch: Path) -> list[tuple[Case, Model]]:
    """The cases of one model, made ready to be measured."""
    from cyclemlp.bench import WAYS, Case, prepare
    from cyclemlp.deploy import RUNS, is_exported
    from cyclemlp.preprocessing import parse_size, sides

    sizes = [sides(parse_size(text)) for text in args.size]
    runtimes = args.runtime or list(WAYS)
    if is_exported(given):
        forms = {".onnx": "onnx", ".xml": "openvino", ".json": "paddle"}
        path = Path(given)
        names = [entry.name for entry in path.iterdir()] if path.is_dir() else [path.name]
        able = {runtime for name in names for runtime in RUNS.get(forms.get(Path(name).suffix, ""), ())}
        runtimes = [runtime for runtime in runtimes if runtime in able]
    ways = [(r, p) for r, p in product(runtimes, args.precision) if p in WAYS[r]]
    if not ways:
        raise ConfigError(
            f"nothing to measure of {given}: {', '.join(args.runtime or WAYS)} in {', '.join(args.precision)} does not "
            "fit it; see `cyclemlp bench --help`"
        )
    overrides = common.model_overrides(args.override) if args.override else {}
    if overrides and Path(given).exists():
        raise ConfigError(f"--override goes with a variant's name; {given} knows its architecture")
    model = prepare(given, ways, sizes, scratch, overrides)
    for height, width in sizes:
        if min(height, width) < model.min_size:
            raise ConfigError(
                f"--size {height}x{width}: {model.name} needs at least {counted(model.min_size, 'pixel')}"
            )
    return [
        (Case(given, runtime, precision, height, width, batch, threads, overrides), model)
        for (runtime, precision), (height, width), batch in product(ways, sizes, args.batch)
    ]


def _words(case: Case, model: Model) -> str:
    return f"{model.name}, {case.runtime}, {case.precision}, {case.size}, batch of {case.batch}"


def _row(case: Case, model: Model, machine: Machine, measured: dict[str, Any]) -> dict[str, Any]:
    cost = model.macs.get(case.size)
    speed = measured.get("images_per_second")
    return {
        **asdict(case),
        "name": model.name,
        "size": case.size,
        "published_top1_percent": model.published_top1_percent,
        "giga_macs": None if cost is None else cost / 1e9,
        "share_of_peak_percent": (100 * cost * speed / machine.macs_per_second if cost and speed else None),
        **measured,
    }


def _table(rows: list[dict[str, Any]], machine: Machine) -> str:
    cells = [[row.get(key) for key in COLUMNS] for row in rows]
    peak = machine.macs_per_second / 1e9
    return (
        format_table(list(COLUMNS.values()), cells)
        + f"\n{counted(machine.threads, 'thread')}; latency is that of a batch; memory is that of the whole "
        f"process. Peak: {peak:.1f} G MACs/s, NumPy's product of float32 matrices of side {machine.matrix_side}."
    )


def _write(output: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "bench.csv", text.getvalue())
    write_text(output / "bench.json", json.dumps({**facts, "cases": rows}, indent=1) + "\n")


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        plot_speed(rows, path)
    except DataError as error:
        common.message(f"cyclemlp bench: no {path.name}: {error}")

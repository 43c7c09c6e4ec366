"""`cyclemlp doctor`: whether this machine computes the networks rightly, and what a bug report needs."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common
from cyclemlp.cli.options import add
from cyclemlp.report import format_table

if TYPE_CHECKING:
    from cyclemlp.doctor.checks import Check
    from cyclemlp.doctor.speed import Row

EXAMPLES = """examples:
  cyclemlp doctor                            on a new machine; paste all that it prints into a bug report
  cyclemlp doctor --device cpu               of a machine with a GPU, its processor
  cyclemlp doctor --device gpu:1 --no-speed  the checks alone, on the second GPU
  cyclemlp doctor --json > doctor.json       for a program

A check ends with `ok`, `FAILED: what, by how much` or `not run: why`. Exit code: 0 no check failed; 1 one did; 2 an
error in the options.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    add(parser, "--device")
    add(parser, "--no-speed", "leave out the table of speed, which takes up to a minute")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Check and print, each line as soon as it is known."""
    device = common.choose_device(args.device)
    from cyclemlp.doctor.checks import run_checks
    from cyclemlp.doctor.machine import machine_facts
    from cyclemlp.doctor.speed import measure_speed

    def say(text: str) -> None:
        if not args.json:
            print(text, flush=True)

    facts = machine_facts(device)
    say(common.pairs_text(facts))
    checks: list[Check] = []
    say("\nchecks:")
    for check in run_checks(device):
        checks.append(check)
        say(f"  {check}")
    rows: list[Row] = []
    if not args.no_speed:
        common.message("cyclemlp doctor: measuring speed, up to a minute")
        rows = list(measure_speed(device))
        say(f"\nspeed on {device}:\n{_table(rows)}")
    counts = Counter(check.verdict for check in checks)
    summary = f"{counts['ok']} ok, {counts['failed']} failed, {counts['not run']} not run"
    say(f"\ncyclemlp doctor on {device}: {summary}")
    if args.json:
        common.print_json(
            {
                **facts,
                "checks": [asdict(check) for check in checks],
                "speed": [asdict(row) for row in rows] if not args.no_speed else None,
                "summary": summary,
            },
            indent=2,
        )
    return 1 if counts["failed"] else 0


def _table(rows: list[Row]) -> str:
    header = ["model", "size", "work", "precision", "batch", "images/s", "p50, ms", "note"]
    cells: list[list[Any]] = [
        [r.model, f"{r.size}²", r.work, r.precision, r.batch, r.images_per_second, r.milliseconds, r.note]
        for r in rows
    ]
    if not any(row.note for row in rows):
        header, cells = header[:-1], [row[:-1] for row in cells]
    return format_table(header, cells)

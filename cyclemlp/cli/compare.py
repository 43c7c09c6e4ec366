"""`cyclemlp compare`: two evaluations on the same images, compared by a paired test."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text

if TYPE_CHECKING:
    from cyclemlp.data import Source
    from cyclemlp.evaluation.comparison import Comparison, RecordedEvaluation

EXAMPLES = """examples:
  cyclemlp eval runs/a --data photos/val --output results/a --predictions
  cyclemlp eval runs/b --data photos/val --output results/b --predictions
  cyclemlp compare results/a results/b
      which is better, and whether that may be chance
  cyclemlp compare results/a results/b --output results/a-b --sheet
      also compare.json, differences.csv, and sheets of the images that only one gets right

The test is McNemar's, exact; the intervals are the paired bootstrap's. Images are matched by their names; if one of
the two evaluations has others, it is an error. Exit code: 0 done; 2 an error in the options or the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    for name, metavar in (("first", "A"), ("second", "B")):
        parser.add_argument(
            name,
            type=Path,
            metavar=metavar,
            help="a folder that `cyclemlp eval … --output` wrote with --predictions or --report",
        )
    group = parser.add_argument_group("results")
    add(group, "--output", "write compare.json and differences.csv there")
    add(
        group,
        "--sheet",
        "also draw at most 32 images each that only A and only B gets right: only_a.png, only_b.png",
    )
    add(group, "--json")
    options.add_data_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("compare"):
        from cyclemlp.evaluation import compare, read_evaluation
        from cyclemlp.evaluation.comparison import draw_differences, write_differences

        _check(args)
        output = common.output_folder(args.output)
        a, b = read_evaluation(args.first), read_evaluation(args.second)
        found = compare(a, b)
        report: dict[str, Any] = {"a": _facts(a), "b": _facts(b), **found.to_dict()}
        written: list[Path] = []
        if output is not None:
            written += [output / "compare.json", output / "differences.csv"]
            write_text(written[0], json.dumps(report, indent=2) + "\n")
            write_differences(written[1], a, b, found)
            if args.sheet:
                written += draw_differences(output, _open_images(args, a), a, b, found)
    if args.json:
        common.print_json(report, indent=2)
    else:
        _print(a, b, found, written)
    return 0


def _print(a: RecordedEvaluation, b: RecordedEvaluation, found: Comparison, written: list[Path]) -> None:
    for letter, side in (("A", a), ("B", b)):
        print(f"{letter:<11} {side.folder}: {side.facts.get('model')}, {side.facts.get('weights')}")
        print(f"{'':<11} top-1 {side.facts['top1']:.3f} %, loss {side.losses.mean():.4f}")
    print(
        f"images      {len(found.order):,}: both right {found.both_right:,}, only A {len(found.only_a):,}, "
        f"only B {len(found.only_b):,}, both wrong {found.both_wrong:,}"
    )
    print(f"top-1       B − A {found.difference:+.3f} points   {_interval(found.difference_interval, 2)}")
    print(f"loss        B − A {found.loss_difference:+.4f}   {_interval(found.loss_interval, 4)}")
    print(f"McNemar     p = {found.p_value:.4g}, exact, two-sided")
    print(textwrap.fill(found.meaning(), 100, initial_indent="meaning     ", subsequent_indent=" " * 12))
    if a.facts.get("data") != b.facts.get("data"):
        print(
            f"note        A's images are of {a.facts.get('data')}, B's of {b.facts.get('data')}: they have the same "
            "names and labels; that they are the same images was not checked"
        )
    if written:
        print(f"written     {', '.join(map(str, written))}")


def _check(args: argparse.Namespace) -> None:
    if args.sheet and args.output is None:
        raise ConfigError("--sheet needs --output DIR, where the sheets are written")
    for option in ("data", "list", "class_map"):
        if getattr(args, option) is not None and not args.sheet:
            raise ConfigError(
                f"--{option.replace('_', '-')} says where the images for --sheet are; without it, it has no effect"
            )
    if args.class_map and args.data is None and args.list is None:
        raise ConfigError("--class-map goes with --data or --list")


def _facts(of: RecordedEvaluation) -> dict[str, Any]:
    keys = ("model", "weights", "data", "list", "top1", "loss", "preprocessing")
    return {"folder": str(of.folder), **{key: of.facts.get(key) for key in keys}}


def _interval(interval: tuple[float, float], digits: int) -> str:
    low, high = interval
    return f"(95 % interval {low:+.{digits}f} to {high:+.{digits}f})"


def _open_images(args: argparse.Namespace, a: RecordedEvaluation) -> Source:
    """The images as --data says, else as A's evaluation found them."""
    from cyclemlp.data import open_source

    data, listed, class_map = args.data, args.list, args.class_map
    if data is None and listed is None:
        data, class_map = a.facts.get("data"), a.facts.get("class_map")
        listed = None if a.facts.get("list") is None else Path(a.facts["list"])
    if data is None and listed is None:
        raise ConfigError(
            f"{a.folder / 'eval.json'} does not say where the images are; name them with --data"
        )
    return open_source(data, listed, mode="val", class_map=class_map)

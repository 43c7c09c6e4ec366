"""`cyclemlp explain WHAT`: figures of what a network reads, where it looks and what it is made of."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.report import require_matplotlib
from cyclemlp.report.figures import FORMS

TOPICS = {
    "kernel": "where a Cycle FC reads, by channel, and what is reached through several blocks",
    "field": "how far the centre of each stage's map sees: effective receptive fields, from gradients",
    "gradcam": "which parts of an image speak for a class",
    "gates": "how the gates weight the branches, block by block, over many images",
    "features": "feature maps of an image, stage by stage",
    "network": "a drawing of the network with shapes, parameters and MACs",
    "family": "published accuracy and cost of the MLP-like family",
}
EPILOG = """
MODEL is a run folder or a weight file; or a variant by its name, which gets random weights if none are given (a
warning says so). Without --data, images are the bundled handwritten digits. Each figure is drawn from data that a
function of `cyclemlp.explain` returns; --json prints its figures. docs/explain.md shows them all.

examples:
  cyclemlp explain kernel                          the paper's: steps of 3, through 1, 2 and 4 blocks
  cyclemlp explain kernel --step 3x3 7x1           other step sizes, of branch h and of branch w
  cyclemlp explain field cyclemlp_b1               beside the same network made of channel FCs only
  cyclemlp explain gradcam runs/pets cat.jpg --class dog --stage 3 4 --whole
  cyclemlp explain gates runs/demo                 over the held-out digits
  cyclemlp explain features runs/demo --stage 1 2 --channels 0 1 2 3
  cyclemlp explain network cyclemlp_b2 --size 512x1024 --figure b2.svg
  cyclemlp explain family

Exit code: 0 done; 1 the network gives no finite numbers; 2 an error in the options or the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the topics and their arguments."""
    parser.epilog = EPILOG
    for name, sub in options.add_subcommands(parser, TOPICS, dest="topic", metavar="WHAT", epilog=EPILOG):
        _module(name).add_arguments(sub)
        group = sub.add_argument_group("results")
        add(
            group,
            "--figure",
            "the figure, .png, .svg or .pdf (default: %(default)s)",
            metavar="FILE",
            default=Path(f"{name}.png"),
        )
        add(group, "--json")


def run(args: argparse.Namespace) -> int:
    """Explain one thing; returns the exit code."""
    if args.figure.suffix.lower() not in FORMS:
        raise ConfigError(
            f"--figure {args.figure}: its suffix decides the form; give one of {', '.join(FORMS)}"
        )
    if hasattr(args, "files"):
        options.take_model_word_as_image(args, "files")
    common.output_folder(args.figure.parent)
    require_matplotlib()
    with common.plain_warnings(f"explain {args.topic}"):
        if hasattr(args, "device"):
            common.choose_device(args.device)
        facts, words = _module(args.topic).run(args)
    if args.json:
        common.print_json(facts, indent=1)
    else:
        print(words)
        print(f"\nwritten   {args.figure}")
    return 0


def _module(topic: str) -> Any:
    return importlib.import_module(f"cyclemlp.cli.explain.{topic}")

"""`cyclemlp COMMAND …`: finds the command, runs it, and turns a user's mistake into a message.

Exit codes: 0 success; 1 the work itself failed (a non-finite loss, say); 2 the input was at fault;
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cyclemlp._paddle import require_paddle
from cyclemlp._tune import tune_quietly
from cyclemlp._version import __version__
from cyclemlp.cli import options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, CycleMLPError
from cyclemlp.text import line_of, printable_output

COMMANDS = {
    "train": "train a model on images and write checkpoints, a log and curves",
    "eval": "measure top-1, top-5 and loss of a trained model",
    "reproduce": "measure the published ImageNet figures of B1 to B5 again, from weight files",
    "compare": "compare two evaluations of the same images, with a paired test",
    "sweep": "measure accuracy, speed and cost of a model at many input sizes",
    "robustness": "measure accuracy on ImageNet-V2, -A, -R, -Sketch, -C and ReaL's labels, and on corrupted images",
    "predict": "classify images and write CSV and JSON",
    "seg": "semantic segmentation with PaddleSeg: check, train, eval, predict, export",
    "det": "detection and instance segmentation with PaddleDetection: check, train, eval, predict, export",
    "export": "write a trained model for ONNX Runtime, OpenVINO or Paddle Inference, in float32 or int8",
    "serve": "serve a model over HTTP, with a page on which to drop an image",
    "bench": "measure speed, latency and memory of variants, sizes, batches, precisions and runtimes",
    "data": "make data sets that need no download, and ImageNet's lists from any form of it",
    "show-data": "draw a batch of training images as the network gets them, with their soft labels",
    "plot": "draw the curves of one or several training runs in one figure",
    "explain": "draw what a network reads, where it looks, how it weights and what it is made of",
    "info": "list the models, or show one model's or weight file's facts",
    "doctor": "check that this machine computes the networks rightly, and print what a bug report needs",
    "convert": "convert weights between the published, Paddle and safetensors forms",
}
#: Commands whose work several processes share; any other would do all of it in each.
TOGETHER = {"train", "eval", "seg", "det"}
WITHOUT_PADDLE = {"compare", "convert", "plot", "serve", "bench"}


class Parser(argparse.ArgumentParser):
    """Its errors are one line, whatever a shell's `*` stood for; `--pretrained` takes a tag only where one follows."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, which would take any word after `--pretrained`, such as an image, as its tag."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args(options.with_pretrained_tag(words), namespace)

    def error(self, message: str) -> NoReturn:
        """Print usage and message; exit with 2."""
        super().error(line_of(message))


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only `command`'s own module is imported, so that `--help` is quick."""
    parser = Parser(
        prog="cyclemlp",
        description="CycleMLP for PaddlePaddle: train, evaluate, predict, convert.",
        epilog="`cyclemlp COMMAND --help` explains a command and ends with examples.",
    )
    add(parser, "--version", version=f"paddle-cyclemlp {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == command:
            _module(name).add_arguments(sub)
    return parser


def _module(command: str) -> Any:
    return importlib.import_module(f"cyclemlp.cli.{command.replace('-', '_')}")


@printable_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if word in COMMANDS), None)
    for before, word in zip(["", *argv], argv, strict=False):
        if word == "" or (word.startswith("--") and word.endswith("=") and word.count("=") == 1):
            option = word.rstrip("=") or before or "the first argument"
            print(
                f"cyclemlp: error: the value of {option} is empty; is a variable of the shell unset?",
                file=sys.stderr,
            )
            return 2
    args = build_parser(command).parse_args(argv)
    program, needs_paddle = f"cyclemlp {args.command}", args.command not in WITHOUT_PADDLE
    part = getattr(args, "action", getattr(args, "det_command", "train"))  # of `seg` and `det`
    together = args.command in TOGETHER and part == "train"

    def work() -> int:
        if int(os.environ.get("PADDLE_TRAINERS_NUM") or 1) > 1 and not together:
            raise ConfigError(f"{program} runs in one process; start it without paddle.distributed.launch")
        return int(_module(args.command).run(args))

    return answer(program, work, needs_paddle=needs_paddle)


@printable_output()
def answer(program: str, work: Callable[[], int], *, needs_paddle: bool = True) -> int:
    """Do the work and return its exit code; a user's mistake, or NaN from a model, becomes a message of `program`."""
    try:
        if needs_paddle:
            require_paddle()
            tune_quietly()  # before the work imports Paddle
            warnings.filterwarnings(
                "ignore", message="No ccache found"
            )  # Paddle's; nothing here compiles C++
            logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
        return int(work())
    except CycleMLPError as error:
        print(f"{program}: error: {line_of(error)}", file=sys.stderr)
        return 2
    except FloatingPointError as error:  # NaN or infinity, found by our own checks
        print(f"{program}: error: {line_of(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `cyclemlp … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that cannot be made
        print(f"{program}: failed: {line_of(error)}", file=sys.stderr)
        return 1

"""`cyclemlp serve`: a model as an HTTP service with a page."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cyclemlp._paddle import require_paddle
from cyclemlp._tune import tune_quietly
from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, MissingDependencyError
from cyclemlp.serve import Limits

if TYPE_CHECKING:
    from cyclemlp.predictor.tasks import Task

EXAMPLES = """examples:
  cyclemlp serve runs/pets
      a run's best model: exported for ONNX Runtime on the way, with class maps; the page is http://127.0.0.1:8000/
  cyclemlp serve exported/b1 --runtime openvino --precision bfloat16 --port 8080
      what `cyclemlp export` wrote (--with-maps: the page shows where the network looked)
  curl -F image=@cat.jpg http://127.0.0.1:8000/predict
  curl -T cat.jpg -X POST 'http://127.0.0.1:8000/predict?top=3'
      an image in, JSON out; /openapi.json describes it, /health and /metrics are for machines

Exit code: 0 ended by Ctrl-C or SIGTERM, with every running request answered; 2 an error in the options or the input.
"""
_LIMITS = Limits()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a folder that an export command wrote, or a run folder or weight file of `cyclemlp train`",
    )
    options.add_runtime_arguments(parser)
    options.add_classes_argument(parser)
    group = parser.add_argument_group("where")
    add(
        group,
        "--host",
        "name or address to listen at; the default is reached from this machine only",
        default="127.0.0.1",
    )
    add(
        group,
        "--port",
        "0 for a free one (default: 8000)",
        type=options.whole_number(0, 65_535),
        metavar="N",
        default=8000,
    )
    add(
        group,
        "--allow-host",
        "a host name under which the service is asked for, beside this machine's own; may be repeated; * for any",
    )
    group = parser.add_argument_group("batches")
    add(
        group,
        "--max-batch",
        "most images that the network gets at once (default: %(default)s)",
        default=_LIMITS.batch,
    )
    add(
        group,
        "--max-wait",
        "milliseconds that an image waits for others, while others are on their way (default: %(default)g)",
        default=1000 * _LIMITS.wait_seconds,
    )
    group = parser.add_argument_group("limits")
    add(
        group,
        "--max-megabytes",
        "of one request, else 413 (default: %(default)g)",
        default=_LIMITS.body_bytes / 2**20,
    )
    add(
        group,
        "--max-megapixels",
        "of one image, as its header says, else 413 (default: %(default)g)",
        default=_LIMITS.pixels / 1e6,
    )
    add(
        group,
        "--read-timeout",
        "seconds in which a request must have come, else 408 (default: %(default)g)",
        default=_LIMITS.read_seconds,
    )
    add(
        group,
        "--queue",
        "images under way; one more is refused with 503 (default: %(default)s)",
        default=_LIMITS.queue,
    )
    add(
        group,
        "--max-memory",
        "of all requests that are being received, else 503 (default: %(default)g)",
        default=_LIMITS.memory_bytes / 2**20,
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    for module in ("fastapi", "h11", "multipart", "prometheus_client", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(
                f'{module} is not installed; `pip install "paddle-cyclemlp[serve]"` brings what serving needs'
            )
    limits = Limits(
        body_bytes=round(args.max_megabytes * 2**20),
        pixels=round(args.max_megapixels * 1e6),
        queue=args.queue,
        memory_bytes=round(args.max_memory * 2**20),
        read_seconds=args.read_timeout,
        batch=args.max_batch,
        wait_seconds=args.max_wait / 1000,
    )
    with common.plain_warnings("serve"), _exported(args) as folder:
        from cyclemlp.serve.server import is_loopback, serve

        task = _open_task(args, folder)
        if not is_loopback(args.host):
            common.message(
                f"cyclemlp serve: warning: --host {args.host} lets other machines in, without password or encryption; "
                "put a server that asks for both before it, or keep to 127.0.0.1"
            )
        facts = task.facts

        def started(address: str) -> None:
            print(
                f"cyclemlp serve: {facts['name']} ({facts['runtime']}, {facts['precision']}) at {address}/ ; "
                "Ctrl-C ends it",
                flush=True,
            )

        serve(task, limits, args.host, args.port, names=args.allow_host, started=started)
    print("cyclemlp serve: ended", file=sys.stderr)
    return 0


def _open_task(args: argparse.Namespace, folder: Path) -> Task:
    from cyclemlp.data import open_class_names
    from cyclemlp.deploy import load_exported
    from cyclemlp.predictor.tasks import open_task

    model = load_exported(folder, args.runtime, args.precision, args.threads)
    return open_task(model, open_class_names(args.classes))


@contextmanager
def _exported(args: argparse.Namespace) -> Iterator[Path]:
    """The folder of an exported model: MODEL itself, or made of it for as long as it is needed."""
    from cyclemlp.deploy import is_exported

    path, exported = Path(args.model), is_exported(args.model)
    if args.runtime == "paddle" or not exported:
        require_paddle()
        tune_quietly()
    if exported:
        yield path
        return
    if not path.exists():
        raise ConfigError(
            f"{path}: there is no such file or folder; expected what `cyclemlp export` wrote, or a run folder"
        )
    from cyclemlp.deploy import export_model
    from cyclemlp.models import load_model

    with tempfile.TemporaryDirectory(prefix="cyclemlp-serve-") as scratch:
        form = {"openvino": "openvino", "paddle": "paddle"}.get(args.runtime, "onnx")
        model = load_model(path)
        export_model(model, Path(scratch) / "model", form, with_maps=bool(model.config.num_classes))
        yield Path(scratch) / "model"

"""`cyclemlp sweep`: accuracy, speed and cost of a model by the size of its input."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.preprocessing import Preprocessing, Size, sides, size_words
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.data import Source
    from cyclemlp.network import CycleMLPConfig

USAGE = """cyclemlp sweep MODEL --data digits|DIR [--list FILE] [--sizes PIXELS …] [options]
       cyclemlp sweep --model NAME (--weights FILE | --pretrained [TAG]) --data DIR [--list FILE] [options]"""

EXAMPLES = f"""{options.DATA_HELP}
examples:
  cyclemlp sweep --model cyclemlp_b1 --weights CycleMLP_B1.pth --data imagenet/val --output sweep
      from 128 to 416 pixels, as in the paper's figure 5; writes sweep/sweep.json, .csv and .png
  cyclemlp sweep runs/digits --data digits --sizes 12 16 20 24 32
  cyclemlp sweep exported/pets --data pets --runtime openvino --threads 2 --crop-pct 1.0

At each size the shorter side is first resized to size / crop share, and every image is evaluated. Speed is that of
the network alone, by the median time of a batch, measured after each evaluation. The files are written after each size.
Exit code: 0 done; 1 the model gives no finite numbers; 2 an error in the options or the input.
"""
COLUMNS = {
    "size": "size",
    "resize": "resized to",
    "top1": "top-1, %",
    "top1_interval": "95 % interval",
    "top5": "top-5, %",
    "loss": "loss",
    "images_per_second": "images/s",
    "macs": "MACs",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    options.add_model_arguments(parser)
    options.add_data_arguments(parser)
    group = parser.add_argument_group("sizes")
    add(
        group,
        "--sizes",
        "sizes of the network's input: the side of a square, or height x width (default: 128, 160, … 416 "
        "for a model whose own size is 224, for others in proportion, in multiples of 4)",
    )
    add(
        group, "--seconds", "for which the speed is measured at each size (default: %(default)g)", default=3.0
    )
    options.add_preprocessing_arguments(parser, input_size=False)
    options.add_running_arguments(parser, batch_size=32)
    options.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    add(group, "--output", "write DIR/sweep.json, sweep.csv and sweep.png")
    add(group, "--json")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("sweep"):
        return _sweep(args)


def _sweep(args: argparse.Namespace) -> int:
    from cyclemlp.bench.worker import exported_config
    from cyclemlp.deploy import ExportedModel
    from cyclemlp.evaluation.sweep import choose_sizes, plot_sweep, write_sweep_csv
    from cyclemlp.report import require_matplotlib

    if args.seconds <= 0:
        raise ConfigError(f"--seconds is {args.seconds:g}; give a number above 0")
    output = common.output_folder(args.output)
    if output is not None:  # not found out after hours of work
        require_matplotlib()
    model, classify, device = common.open_classifier(args)
    common.require_one_class(model, "sweep")
    exported = isinstance(model, ExportedModel)
    config = exported_config(model) if exported else model.config
    least = model.metadata.min_size if exported else config.min_size
    preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
    sizes = choose_sizes(args.sizes, preprocessing.input_size, least)
    source = common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)
    report = {**common.provenance(args, model, preprocessing, device), "seconds_a_size": args.seconds}
    rows: list[dict[str, Any]] = []
    for size in sizes:
        common.message(
            f"cyclemlp sweep: {' × '.join(map(str, sides(size)))} pixels, {len(rows) + 1} of {len(sizes)}"
        )
        rows.append(
            _measure(args, model, classify, device, source, replace(preprocessing, input_size=size), config)
        )
        if output is not None:
            values = {**report, "complete": len(rows) == len(sizes), "sizes": rows}
            write_text(output / "sweep.json", json.dumps(values, indent=2) + "\n")
            write_sweep_csv(output / "sweep.csv", rows)
    own = preprocessing.input_size
    if output is not None:
        images = counted(len(source), "image")
        title = f"{report['model']} by input size · {images} each; dashed: the size in its file, "
        plot_sweep(rows, output / "sweep.png", own_size=own, title=title + size_words(own))
    if args.json:
        common.print_json({**report, "complete": True, "sizes": rows}, indent=2)
    else:
        _print(rows, report, own, len(source))
        if output is not None:
            print("written   " + ", ".join(str(output / f"sweep.{form}") for form in ("json", "csv", "png")))
    return 0


def _measure(
    args: argparse.Namespace,
    model: Any,
    classify: Any,
    device: str,
    source: Source,
    preprocessing: Preprocessing,
    config: CycleMLPConfig | None,
) -> dict[str, Any]:
    """One size's figures."""
    import numpy as np

    from cyclemlp.bench import time_batches
    from cyclemlp.data import evaluation_transform
    from cyclemlp.deploy import ExportedModel
    from cyclemlp.evaluation import accuracy_intervals, evaluate
    from cyclemlp.network import count_macs

    height, width = preprocessing.input_height, preprocessing.input_width
    loader = common.open_loader(args, model, source, evaluation_transform(preprocessing), device)
    result = evaluate(classify, loader)
    loader.close()  # its processes would take the network's time
    batch = min(args.batch_size, len(source))
    # The time does not depend on what the images show.
    images: Any = np.random.default_rng(0).standard_normal(
        (batch, preprocessing.channels, height, width), dtype=np.float32
    )
    if not isinstance(model, ExportedModel):
        import paddle

        images = paddle.to_tensor(images)
    timed = time_batches(classify, images, args.seconds)
    return {
        "size": preprocessing.input_size,
        "resize": preprocessing.resize_size,
        "top1": result.top1,
        "top1_interval": list(accuracy_intervals(result)[1]),
        "top5": result.top5,
        "loss": result.loss,
        "images": result.images,
        "macs": None if config is None else count_macs(config, height, width),
        "timed_batch": batch,
        # By the median: a size has few seconds, and what else the machine does in one of them must not bend the curve.
        "images_per_second": 1000 * batch / timed["latency_p50_ms"],
        **{key: timed[key] for key in ("latency_p50_ms", "latency_p95_ms", "runs")},
    }


def _print(rows: list[dict[str, Any]], report: dict[str, Any], own: Size, images: int) -> None:
    from cyclemlp.report import format_table

    print(f"model     {report['model']}, {report['weights']}; the size in its file is {size_words(own)}")
    print(f"images    {images:,} of {report['data']}, all of them at each size")
    print(f"speed     the network alone on {report['device']}, batches of {rows[0]['timed_batch']}\n")
    shown = [
        {
            **row,
            "top1_interval": "{:.2f} to {:.2f}".format(*row["top1_interval"]),
            **{
                key: row[key] if isinstance(row[key], int) else size_words(row[key])
                for key in ("size", "resize")
            },
        }
        for row in rows
    ]
    print(format_table(list(COLUMNS.values()), [[row[key] for key in COLUMNS] for row in shown]))

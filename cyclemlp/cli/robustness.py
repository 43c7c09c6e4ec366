"""`cyclemlp robustness`: accuracy on ImageNet's robustness sets, and error by corruption and severity."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError

if TYPE_CHECKING:
    from cyclemlp.data import Loader, Source, Transform
    from cyclemlp.evaluation.robustness import Plan, Results
    from cyclemlp.preprocessing import Preprocessing

USAGE = """cyclemlp robustness MODEL [--imagenet-v2 DIR] [--imagenet-a DIR] [--imagenet-r DIR]
                           [--imagenet-sketch DIR] [--imagenet-c DIR] [--data DIR [--real FILE]] [options]
       cyclemlp robustness MODEL --data digits|DIR [--list FILE] --corrupt NAME … [--severity N …] [options]"""

EXAMPLES = """examples:
  cyclemlp robustness --model cyclemlp_b1 --weights CycleMLP_B1.pth --imagenet-v2 imagenetv2 --imagenet-a imagenet-a.tar
      the published sets, each by its own protocol; imagenetv2/ holds any of its three selections
  cyclemlp robustness --model cyclemlp_b1 --weights CycleMLP_B1.pth --imagenet-c imagenet-c --output results/b1
      error by corruption and severity, mean corruption error; writes robustness.json, .md and .png there
  cyclemlp robustness --model cyclemlp_b1 --weights CycleMLP_B1.pth --data imagenet --real real.json
      the validation images by ReaL's labels and by their own
  cyclemlp robustness runs/digits --data digits --corrupt gaussian_noise blur --severity 1 3 5
      corruptions made here, of any labelled images; a group's name stands for its corruptions

Every set is checked before anything is measured. What was done is written after each set.
Exit code: 0 done; 1 the model gives no finite numbers; 2 an error in the options or the input.
"""
#: Options for published sets.
PUBLISHED = ("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_c")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    options.add_model_arguments(parser)
    group = parser.add_argument_group("published sets, for a model of ImageNet's 1000 classes")
    for name, what in {
        "v2": "ImageNet-V2: class folders 0 to 999, or one or more of its three selections in a folder",
        "a": "ImageNet-A: 200 class folders, or its tar; the model chooses among these classes",
        "r": "ImageNet-R: 200 class folders, or its tar; the model chooses among these classes",
        "sketch": "ImageNet-Sketch: 1000 class folders",
        "c": "ImageNet-C: corruption/severity/class folders",
    }.items():
        group.add_argument(f"--imagenet-{name}", metavar="DIR", help=what)
    add(
        group,
        "--real",
        "ReaL's real.json: reassessed labels of ImageNet's validation images, which --data names",
    )
    add(
        group,
        "--partial",
        "measure what is there of an incomplete set, and say so in the results, instead of refusing it",
    )
    options.add_data_arguments(parser)
    group = parser.add_argument_group("corruptions made here, of the images that --data names")
    add(
        group,
        "--corrupt",
        "corruptions by name (fog, jpeg_compression, …), by group (noise, blur, weather, digital, extra), or "
        "`all` for ImageNet-C's 15",
    )
    add(
        group,
        "--severity",
        "1 (weak) to 5 (default: all five)",
        type=int,
        metavar="N",
        nargs="+",
        choices=range(1, 6),
    )
    add(group, "--seed", "of the corruptions (default: 0)")
    options.add_preprocessing_arguments(parser)
    options.add_running_arguments(parser, batch_size=64)
    options.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    add(group, "--output", "write DIR/robustness.json, .md and, of corruptions, .png")
    add(group, "--json")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("robustness"):
        from cyclemlp.report import require_matplotlib

        _check(args)
        corruptions = corruptions_named(args.corrupt or ())
        output = common.output_folder(args.output)
        if output is not None and (args.corrupt or args.imagenet_c):  # not found out after hours of work
            require_matplotlib()
        model, classify, device = common.open_classifier(args)
        common.require_one_class(model, "robustness")
        _check_classes(args, model)
        plan, preprocessing = _plan(args, model, device, corruptions)
        facts = {
            **common.provenance(args, model, preprocessing, device),
            "real": None if args.real is None else str(args.real),
            "partial": args.partial,
            "seed": (args.seed or 0) if corruptions else None,
        }
        written: list[Path] = []

        def write(complete: bool = False) -> None:
            if output is not None:
                written[:] = plan.results.write(output, facts, complete=complete)

        results = plan.run(classify, before_each=write)
        write(complete=True)
    if args.json:
        common.print_json({**facts, "complete": True, **results.to_dict()}, indent=2)
    else:
        _print(facts, results, written)
    return 0


def _plan(
    args: argparse.Namespace, model: Any, device: str, corruptions: Sequence[str]
) -> tuple[Plan, Preprocessing]:
    """What is to be measured, with every set checked, and how images are prepared."""
    from cyclemlp.evaluation import robustness

    def load(source: Source, transform: Transform) -> Loader:
        return common.open_loader(args, model, source, transform, device, seed=args.seed or 0)

    preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
    plan = robustness.Plan(load, preprocessing, common.model_class_count(model))
    source = None
    if args.data is not None or args.list is not None:
        source = common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)
        if args.real is None:
            plan.add_clean(source)
        else:
            real = robustness.read_real_labels(args.real, partial=args.partial)
            numbers = robustness.validation_numbers(source, len(real), partial=args.partial)
            plan.add_real(source, numbers, real)
    if args.imagenet_v2 is not None:
        for selection in robustness.open_imagenet_v2(args.imagenet_v2, partial=args.partial):
            plan.add_published(selection)
    for name in ("a", "r", "sketch"):
        if (path := getattr(args, f"imagenet_{name}")) is not None:
            published = robustness.published_set(name)
            plan.add_published(robustness.open_published(published, path, partial=args.partial))
    if args.imagenet_c is not None:
        plan.add_imagenet_c(robustness.ImageNetC(args.imagenet_c, partial=args.partial))
    if source is not None and corruptions:
        plan.add_corrupted(source, corruptions, args.severity or robustness.SEVERITIES)
    return plan, preprocessing


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that ask for nothing, or that would have no effect."""
    any_published = any(getattr(args, option) is not None for option in PUBLISHED)
    if not any_published and args.real is None and args.corrupt is None:
        raise ConfigError(
            "nothing is asked for: give a published set (--imagenet-v2, -a, -r, -sketch or -c DIR), or with --data "
            "the labels of --real or the corruptions of --corrupt; accuracy on --data alone is `cyclemlp eval`"
        )
    for option in ("real", "corrupt", "class_map"):
        if getattr(args, option) is not None and args.data is None and args.list is None:
            raise ConfigError(f"--{option.replace('_', '-')} needs --data or --list, which name the images")
    for option in ("severity", "seed"):
        if getattr(args, option) is not None and args.corrupt is None:
            raise ConfigError(
                f"--{option} is of the corruptions that --corrupt names; without it, it has no effect"
            )
    if args.partial and not any_published and args.real is None:
        raise ConfigError("--partial is for published sets; without one it has no effect")


def corruptions_named(words: Sequence[str]) -> list[str]:
    """`--corrupt` as corruptions, each once. Raises ConfigError for an unknown word."""
    from cyclemlp.evaluation.robustness import CORRUPTIONS, COUNTED, EXTRA

    groups = {**CORRUPTIONS, "extra": EXTRA, "all": COUNTED}
    for word in words:
        if word not in groups and word not in (*COUNTED, *EXTRA):
            raise ConfigError(
                f"--corrupt {word!r} is unknown; use {', '.join((*COUNTED, *EXTRA))}, or a group: {', '.join(groups)}"
            )
    return list(dict.fromkeys(name for word in words for name in groups.get(word, (word,))))


def _check_classes(args: argparse.Namespace, model: Any) -> None:
    """Raise ConfigError if a set of ImageNet's is asked for and the model does not have its 1000 classes."""
    from cyclemlp.data import imagenet_class_map, imagenet_classes

    count = common.model_class_count(model)
    asked = next((option for option in (*PUBLISHED, "real") if getattr(args, option) is not None), None)
    if asked is None:
        return
    if count != len(imagenet_class_map()):
        raise ConfigError(
            f"--{asked.replace('_', '-')} is for models of ImageNet's 1000 classes, and this one has {count}; "
            "--corrupt works with any labelled images"
        )
    names = model.metadata.classes
    if names and names not in (imagenet_classes(), list(imagenet_class_map())):
        common.message(
            f"cyclemlp robustness: warning: the model's class names ({', '.join(names[:3])} …) are not ImageNet's; its "
            "1000 classes are taken for ImageNet's, in the usual order"
        )


def _print(facts: dict[str, Any], results: Results, written: Sequence[Path]) -> None:
    print(f"model     {facts['model']}, {facts['weights']}")
    for title, table in results.tables():
        print(f"\n{title}\n{table}")
    for result in results.corruptions:
        if result.published:
            mce = result.mean_corruption_error
            lacking = "–, not all of the 15 corruptions in 5 severities are there"
            text = lacking if mce is None else f"{mce:.2f} %"
            print(f"\nmean corruption error, each corruption normalised by AlexNet's: {text}")
    for note in results.notes():
        print(f"note      {note}")
    if written:
        print(f"written   {', '.join(map(str, written))}")

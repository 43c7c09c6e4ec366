"""`cyclemlp robustness`: accuracy on ImageNet's robustness sets, and error by corruption and severity."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cyclemlp.data import Loader, Source
    from cyclemlp.data.robustness import Opened
    from cyclemlp.evaluation import EvaluationResult
    from cyclemlp.evaluation.robustness import CorruptionResult, SetResult

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
Exit code: 0 done; 1 the model gives no finite numbers; 2 something to mend in what was asked.
"""
#: The images of ImageNet-C have this many pixels a side, and its corruptions are meant for them.
IMAGENET_C_PIXELS = 224


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    common.add_model_arguments(parser)
    group = parser.add_argument_group("published sets, for a model of ImageNet's 1000 classes")
    for name, what in {
        "v2": "ImageNet-V2: class folders 0 to 999, or one or more of its three selections in a folder",
        "a": "ImageNet-A: 200 class folders, or its tar; the model chooses among these classes",
        "r": "ImageNet-R: 200 class folders, or its tar; the model chooses among these classes",
        "sketch": "ImageNet-Sketch: 1000 class folders",
        "c": "ImageNet-C: corruption/severity/class folders",
    }.items():
        group.add_argument(f"--imagenet-{name}", metavar="DIR", help=what)
    group.add_argument(
        "--real",
        type=Path,
        metavar="FILE",
        help="ReaL's real.json: reassessed labels of ImageNet's validation images, which --data names",
    )
    group.add_argument(
        "--partial",
        action="store_true",
        help="measure what is there of an incomplete set, and say so in the results, instead of refusing it",
    )
    common.add_data_arguments(parser)
    group = parser.add_argument_group("corruptions made here, of the images that --data names")
    group.add_argument(
        "--corrupt",
        nargs="+",
        metavar="NAME",
        help="corruptions by name (fog, jpeg_compression, …), by group (noise, blur, weather, digital, extra), or "
        "`all` for ImageNet-C's 15",
    )
    group.add_argument(
        "--severity",
        nargs="+",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help="1 (weak) to 5 (default: all five)",
    )
    group.add_argument(
        "--seed", type=common.whole_number(0), metavar="N", help="of the corruptions (default: 0)"
    )
    common.add_preprocessing_arguments(parser)
    common.add_running_arguments(parser, batch_size=64)
    common.add_runtime_arguments(parser)
    group = parser.add_argument_group("results")
    group.add_argument(
        "--output", type=Path, metavar="DIR", help="write DIR/robustness.json, .md and, of corruptions, .png"
    )
    group.add_argument("--json", action="store_true", help="print JSON on stdout instead of the tables")


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("robustness"):
        return _measure(args)


@dataclass
class _Job:
    """One evaluation to do, and where its result goes."""

    title: str
    images: int
    loader: Callable[[], Loader]
    classes: Sequence[int]  # the model's, among which it chooses
    record: Callable[[EvaluationResult], None]


@dataclass
class _Plan:
    """What is to be done, and what was found so far."""

    args: argparse.Namespace
    preprocessing: Preprocessing
    load: Callable[[Source, Any], Loader]
    jobs: list[_Job] = field(default_factory=list)
    sets: list[SetResult] = field(default_factory=list)
    corruptions: list[CorruptionResult] = field(default_factory=list)

    def to_dict(self, complete: bool) -> dict[str, Any]:
        return {
            "complete": complete,
            "sets": [result.to_dict() for result in self.sets],
            "corruptions": [result.to_dict() for result in self.corruptions],
        }


def _measure(args: argparse.Namespace) -> int:
    from cyclemlp.data import build_loader
    from cyclemlp.data.robustness import read_real_labels, validation_numbers
    from cyclemlp.deploy import ExportedModel
    from cyclemlp.evaluation.robustness import counting, evaluate_among, evaluate_real
    from cyclemlp.report import Progress
    from cyclemlp.report.plots import require_matplotlib

    _check(args)
    corruptions = _corruptions(args.corrupt or ())
    output = common.output_folder(args.output)
    if output is not None and (args.corrupt or args.imagenet_c):  # not found out after hours of work
        require_matplotlib()
    model, classify, device = common.open_classifier(args)
    _check_classes(args, model)

    def load(source: Source, transform: Any) -> Loader:
        return build_loader(
            source,
            transform,
            batch_size=args.batch_size,
            num_workers=common.choose_workers(args.workers, source, device),
            seed=args.seed or 0,
            tensors=not isinstance(model, ExportedModel),
        )

    plan = _Plan(args, common.choose_preprocessing(model.metadata.preprocessing, args), load)
    images = 0
    if args.data is not None or args.list is not None:
        source = common.open_labelled_source(model, args.data, args.list, class_map=args.class_map)
        if args.real is not None:
            real = read_real_labels(args.real, partial=args.partial)
            numbers = validation_numbers(source, len(real), partial=args.partial)
            images = len(numbers)
        else:
            _plan_clean(plan, source, range(common.model_class_count(model)))
    _plan_published(plan)
    if corruptions:
        _plan_corruptions(plan, source, range(common.model_class_count(model)), corruptions)
    report = {
        **common.provenance(args, model, plan.preprocessing, device),
        "real": None if args.real is None else str(args.real),
        "partial": args.partial,
        "seed": (args.seed or 0) if corruptions else None,
    }
    total = images + sum(job.images for job in plan.jobs)
    bar: Progress[Any] = Progress(desc="robustness", total=total, unit="image")
    with bar:
        counted = counting(classify, bar)
        if args.real is not None:
            bar.figures(set="ReaL")
            loader = load(source, _evaluation(plan))
            plan.sets += evaluate_real(counted, loader, numbers, real)
            loader.close()
        for job in plan.jobs:
            if output is not None:
                _write(output, report, plan, complete=False)
            bar.figures(set=job.title)
            loader = job.loader()
            job.record(evaluate_among(counted, loader, job.classes))
            loader.close()
    if output is not None:
        _write(output, report, plan, complete=True)
    if args.json:
        common.print_json({**report, **plan.to_dict(complete=True)}, indent=2)
    else:
        _print(report, plan, output)
    return 0


# ---- what is asked


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for arguments that ask for nothing, or that would have no effect."""
    published = [args.imagenet_v2, args.imagenet_a, args.imagenet_r, args.imagenet_sketch, args.imagenet_c]
    any_published = any(path is not None for path in published)
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


def _corruptions(words: Sequence[str]) -> list[str]:
    """`--corrupt` as corruptions, each once. Raises ConfigError for an unknown word."""
    from cyclemlp.data.robustness import CORRUPTIONS, COUNTED, EXTRA

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
    options = ("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_c", "real")
    asked = next((option for option in options if getattr(args, option) is not None), None)
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


# ---- what is to be done


def _evaluation(plan: _Plan) -> Any:
    from cyclemlp.data import evaluation_transform

    return evaluation_transform(plan.preprocessing)


def _plan_clean(plan: _Plan, source: Source, classes: Sequence[int]) -> None:
    """The images of `--data` as they are."""
    from cyclemlp.evaluation.robustness import SetResult

    def record(result: EvaluationResult) -> None:
        plan.sets.append(SetResult.of("clean", result))

    plan.jobs.append(
        _Job("clean", len(source), lambda: plan.load(source, _evaluation(plan)), classes, record)
    )


def _plan_published(plan: _Plan) -> None:
    """The published sets that are asked for, each checked now."""
    from cyclemlp.data import robustness as data

    args, opened = plan.args, []
    if args.imagenet_v2 is not None:
        opened += data.open_imagenet_v2(args.imagenet_v2, partial=args.partial)
    for path, published in (
        (args.imagenet_a, data.imagenet_a()),
        (args.imagenet_r, data.imagenet_r()),
        (args.imagenet_sketch, data.imagenet_sketch()),
    ):
        if path is not None:
            opened.append(data.open_published(published, path, partial=args.partial))
    for one in opened:
        _plan_set(plan, one)
    if args.imagenet_c is not None:
        _plan_imagenet_c(plan)


def _plan_set(plan: _Plan, one: Opened) -> None:
    from cyclemlp.evaluation.robustness import SetResult

    notes = [f"{one.title} is incomplete: {text}" for text in one.missing]

    def record(result: EvaluationResult) -> None:
        plan.sets.append(SetResult.of(one.title, result, notes))

    def loader() -> Loader:
        return plan.load(one.source, _evaluation(plan))

    plan.jobs.append(_Job(one.title, len(one.source), loader, one.published.classes, record))


def _plan_imagenet_c(plan: _Plan) -> None:
    from cyclemlp.data.robustness import CentreCropTransform, ImageNetC
    from cyclemlp.evaluation.robustness import CorruptionResult

    folder = ImageNetC(plan.args.imagenet_c, partial=plan.args.partial)
    found = CorruptionResult("ImageNet-C", published=True)
    transform = CentreCropTransform(plan.preprocessing)
    lacking: Counter[str] = Counter()
    for corruption, severities in folder.severities.items():
        for severity in severities:
            # Opened now to be checked, and again to be read: the names in all 95 folders would fill the memory.
            one = folder.open(corruption, severity)
            lacking.update(one.missing)

            def loader(at: tuple[str, int] = (corruption, severity)) -> Loader:
                return plan.load(folder.open(*at).source, transform)

            def record(result: EvaluationResult, at: tuple[str, int] = (corruption, severity)) -> None:
                found.add(*at, 100 - result.top1)

            plan.jobs.append(_Job(one.title, len(one.source), loader, one.published.classes, record))
    notes = [f"ImageNet-C is incomplete: {text}" for text in folder.missing]
    notes += [
        f"ImageNet-C is incomplete: {text} (in {count} of its folders)" for text, count in lacking.items()
    ]
    if plan.preprocessing.input_size != IMAGENET_C_PIXELS:
        notes.append(
            f"ImageNet-C: the model sees the central {plan.preprocessing.size_text} of "
            f"{IMAGENET_C_PIXELS}×{IMAGENET_C_PIXELS} pixels; published figures are of all"
        )
    found.notes = tuple(notes)
    plan.corruptions.append(found)


def _plan_corruptions(
    plan: _Plan, source: Source, classes: Sequence[int], corruptions: Sequence[str]
) -> None:
    """The images of `--data`, corrupted here."""
    from cyclemlp.data.robustness import SEVERITIES, CorruptionTransform
    from cyclemlp.evaluation.robustness import CorruptionResult

    notes = [
        (
            "corruptions made here are not ImageNet-C's files (an older library's, saved as JPEG): compare these "
            "errors with one another, not with published ones"
        )
    ]
    if plan.preprocessing.input_size != IMAGENET_C_PIXELS:
        notes.append(
            f"severities are meant for {IMAGENET_C_PIXELS} pixels a side, and the model sees "
            f"{plan.preprocessing.size_text}"
        )
    found = CorruptionResult("Corrupted here", published=False, notes=tuple(notes))
    plan.corruptions.append(found)
    for corruption in corruptions:
        for severity in sorted(set(plan.args.severity or SEVERITIES)):
            transform = CorruptionTransform(plan.preprocessing, corruption, severity)

            def loader(transform: CorruptionTransform = transform) -> Loader:
                return plan.load(source, transform)

            def record(result: EvaluationResult, at: tuple[str, int] = (corruption, severity)) -> None:
                found.add(*at, 100 - result.top1)

            plan.jobs.append(_Job(f"{corruption} {severity}", len(source), loader, classes, record))


# ---- what was found


def _write(output: Path, report: dict[str, Any], plan: _Plan, *, complete: bool) -> None:
    from cyclemlp.evaluation.robustness import all_notes, result_tables
    from cyclemlp.report.robustness_plot import plot_severities

    common.write_text(
        output / "robustness.json", json.dumps({**report, **plan.to_dict(complete)}, indent=2) + "\n"
    )
    lines = [f"# Robustness of {report['model']}", "", f"Weights: {report['weights']}."]
    if not complete:
        lines += ["", "Not complete yet."]
    for title, table in result_tables(plan.sets, plan.corruptions, markdown=True):
        lines += ["", f"## {title}", "", table]
    if notes := all_notes(plan.sets, plan.corruptions):
        lines += ["", "## Notes", "", *(f"- {note}" for note in notes)]
    common.write_text(output / "robustness.md", "\n".join(lines) + "\n")
    if not complete:
        return
    clean = next((100 - result.top1 for result in plan.sets if result.title == "clean"), None)
    for result in plan.corruptions:
        plot_severities(
            result.by_group(),
            output / _image(result),
            clean_error=clean,
            title=f"{result.title}: {report['model']}, {report['weights']}",
        )


def _image(result: CorruptionResult) -> str:
    return "robustness_imagenet_c.png" if result.published else "robustness.png"


def _print(report: dict[str, Any], plan: _Plan, output: Path | None) -> None:
    from cyclemlp.evaluation.robustness import all_notes, result_tables

    print(f"model     {report['model']}, {report['weights']}")
    for title, table in result_tables(plan.sets, plan.corruptions):
        print(f"\n{title}\n{table}")
    for result in plan.corruptions:
        if result.published:
            mce = result.mean_corruption_error
            text = (
                "–, not all of the 15 corruptions in 5 severities are there"
                if mce is None
                else f"{mce:.2f} %"
            )
            print(f"\nmean corruption error, each corruption normalised by AlexNet's: {text}")
    for note in all_notes(plan.sets, plan.corruptions):
        print(f"note      {note}")
    if output is not None:
        images = [_image(result) for result in plan.corruptions]
        names = ["robustness.json", "robustness.md", *images]
        print("written   " + ", ".join(str(output / name) for name in names))

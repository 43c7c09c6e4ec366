"""What `cyclemlp eval` does with a model of several labels an image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclemlp.cli import common
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.text import counted, listed, shown

if TYPE_CHECKING:
    from cyclemlp.data import Loader
    from cyclemlp.evaluation import MultiLabelResult
    from cyclemlp.training.distributed import World

MOST_ABSENT = 5  # names of classes in a note
SUFFIXES = (".safetensors", ".pdparams")


def check_chosen(args: argparse.Namespace) -> None:
    """Look at `--choose-thresholds FILE` before anything is read.

    Raises:
        ConfigError: it cannot be written so, would replace something, or has no effect.
    """
    path: Path = args.choose_thresholds
    if args.threshold is not None:
        raise ConfigError(
            "--threshold sets one threshold for all classes, and --choose-thresholds chooses one for each; give one of "
            "the two"
        )
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--choose-thresholds {path}: give a file ending in {' or '.join(SUFFIXES)}")
    beside = [path.with_suffix(".json")] if path.suffix == ".pdparams" else []  # its metadata
    for place in (path, *beside):
        if place.exists():
            raise ConfigError(f"--choose-thresholds {path}: {place} is there already; give a new name")
    if not path.parent.is_dir():
        raise ConfigError(f"--choose-thresholds {path}: there is no folder {path.parent}; make it first")


def require_labels(model: Any, thresholds: np.ndarray | None) -> None:
    """Raise ConfigError if `--choose-thresholds` is given for a model without thresholds, or for an exported one."""
    from cyclemlp.deploy import ExportedModel

    if thresholds is None:
        raise ConfigError(
            "--choose-thresholds is for models of several labels an image, and this one gives one class"
        )
    if isinstance(model, ExportedModel):
        raise ConfigError(
            f"--choose-thresholds writes a weight file, and {model.path} is exported; give the run or the weights that "
            "it was made of, and export what is written"
        )


@dataclass(frozen=True)
class LabelEvaluation:
    """The evaluation that the options ask for.

    Attributes:
        args: the options.
        thresholds: of the classes, [K].
        classes: their names.
        facts: what it is made with: model, weights, data and so on.
        output: where the figures go, if anywhere.
    """

    args: argparse.Namespace
    thresholds: np.ndarray
    classes: Sequence[str]
    facts: Mapping[str, Any]
    output: Path | None

    def run(self, classify: Any, loader: Loader, world: World) -> int:
        """Do it, print it, write it; 0."""
        from cyclemlp.evaluation import MultiLabelResult
        from cyclemlp.evaluation.multilabel.run import Answers, collect_answers

        for option in ("topk", "bins"):
            if getattr(self.args, option):
                raise ConfigError(
                    f"--{option} is for models of one class an image; this one gives any number of labels"
                )
        own = collect_answers(classify, loader, progress=world.is_first) if loader.images else None
        parts = world.gather(own)
        if not world.is_first:
            return 0
        result = MultiLabelResult.of(Answers.joined(parts), self.thresholds)
        report = {**result.to_dict(), **self.facts, "class_names": list(self.classes)}
        path, chosen = self.args.choose_thresholds, None
        if path is not None:
            chosen = result.with_best_thresholds()
            report["chosen"] = {"file": str(path), **_by_thresholds(chosen)}
        written = self._write(result, report, loader)
        if chosen is not None:
            self._write_model(path, chosen)
        if self.args.json:
            common.print_json(report, indent=2)
        else:
            self._print(result, chosen)
            if written:
                print(f"written    in {self.output}: {', '.join(path.name for path in written)}")
            if chosen is not None:
                print(f"written    {path}: the weights of {self.facts['weights']} with the chosen thresholds")
        return 0

    def _write_model(self, path: Path, chosen: MultiLabelResult) -> None:
        """The model's weight file again, with all that it says but its thresholds."""
        from cyclemlp.weights import read_weights, write_weights

        file = read_weights(self.facts["weights"])
        origin = {key: self.facts[key] for key in ("data", "list", "tta")}
        metadata = {
            **file.metadata,
            "thresholds": chosen.thresholds.tolist(),
            "thresholds_chosen_on": {**origin, "images": chosen.images},
        }
        write_weights(path, file.tensors, metadata=metadata, step_sizes=file.step_sizes or None)

    def _write(self, result: MultiLabelResult, report: Mapping[str, Any], loader: Loader) -> list[Path]:
        from cyclemlp.evaluation.multilabel.report import write_label_csv, write_label_report

        if self.output is None:
            return []
        written = [self.output / "eval.json"]
        write_text(written[0], json.dumps(report, indent=2) + "\n")
        if self.args.predictions or self.args.report:
            written.append(self.output / "eval.csv")
            write_label_csv(written[1], result, loader.source, self.classes)
        if self.args.report:
            written += write_label_report(self.output, result, self.classes, self.facts)
        return written

    def _print(self, result: MultiLabelResult, chosen: MultiLabelResult | None) -> None:
        facts, macro, micro = self.facts, result.macro(), result.micro()
        print(f"model      {facts['model']}, {facts['weights']}")
        print(
            f"images     {result.images:,} of {facts['data']}, {counted(result.classes, 'class')}, any number of them "
            "an image"
        )
        print(f"mAP        {result.map:.2f} %")
        print(f"thresholds {_thresholds_text(self.thresholds)}")
        for name, found in (("macro", macro), ("micro", micro)):
            text = ", ".join(
                f"{key.replace('f1', 'F1')} {'–' if np.isnan(value) else f'{value:.2f} %'}"
                for key, value in found.items()
            )
            print(f"{name:<10} {text}")
        print(f"exact      {result.exact_match():.2f} % of the images have all of their labels and no others")
        print(f"loss       {result.loss:.4f}")
        if chosen is not None:
            print(
                f"chosen     {_thresholds_text(chosen.thresholds)}, by the highest F1 of each class on these images"
            )
            print(
                f"           with them macro F1 {chosen.macro()['f1']:.2f} %, micro F1 {chosen.micro()['f1']:.2f} %, "
                f"exact {chosen.exact_match():.2f} %"
            )
        absent = [name for name, count in zip(self.classes, result.outcomes[0], strict=True) if not count]
        if absent:
            names = listed([shown(name) for name in absent], MOST_ABSENT)
            others = result.classes - len(absent)
            kept = "" if chosen is None else "; these keep their thresholds"
            print(f"note       no image has {names}: mAP and macro are of the other {others:,}{kept}")
        print(f"speed      {result.images_per_second:.1f} images/s on {facts['device']}, reading included")


def _thresholds_text(limits: np.ndarray) -> str:
    if np.ptp(limits) == 0:
        return f"{limits[0]:g}"
    return f"{limits.min():.3f} to {limits.max():.3f}, one a class"


def _by_thresholds(result: MultiLabelResult) -> dict[str, Any]:
    """Of the figures those that thresholds change, as JSON values."""
    figures = result.to_dict()
    return {
        key: value
        for key, value in figures.items()
        if key.startswith(("macro_", "micro_")) or key in ("exact_match", "thresholds", "class_f1")
    }

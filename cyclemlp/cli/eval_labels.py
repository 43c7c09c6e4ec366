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
from cyclemlp.text import listed, shown

if TYPE_CHECKING:
    from cyclemlp.data import Loader
    from cyclemlp.evaluation import MultiLabelResult
    from cyclemlp.training.distributed import World

MOST_ABSENT = 5  # names of classes in a note


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
        written = self._write(result, report, loader)
        if self.args.json:
            common.print_json(report, indent=2)
        else:
            self._print(result)
            if written:
                print(f"written   in {self.output}: {', '.join(path.name for path in written)}")
        return 0

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

    def _print(self, result: MultiLabelResult) -> None:
        facts, macro, micro = self.facts, result.macro(), result.micro()
        limits = self.thresholds
        chosen = (
            f"{limits[0]:g}"
            if np.ptp(limits) == 0
            else f"{limits.min():.3f} to {limits.max():.3f}, one a class"
        )
        print(f"model      {facts['model']}, {facts['weights']}")
        print(
            f"images     {result.images:,} of {facts['data']}, {result.classes} classes, any number of them an image"
        )
        print(f"mAP        {result.map:.2f} %")
        print(f"thresholds {chosen}")
        for name, found in (("macro", macro), ("micro", micro)):
            text = ", ".join(
                f"{key.replace('f1', 'F1')} {'–' if np.isnan(value) else f'{value:.2f} %'}"
                for key, value in found.items()
            )
            print(f"{name:<10} {text}")
        print(f"exact      {result.exact_match():.2f} % of the images have all of their labels and no others")
        print(f"loss       {result.loss:.4f}")
        absent = [name for name, count in zip(self.classes, result.outcomes[0], strict=True) if not count]
        if absent:
            names = listed([shown(name) for name in absent], MOST_ABSENT)
            others = result.classes - len(absent)
            print(f"note       no image has {names}: mAP and macro are of the other {others:,}")
        print(f"speed      {result.images_per_second:.1f} images/s on {facts['device']}, reading included")

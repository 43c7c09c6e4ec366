"""Does a small student with few labels learn more when a larger CycleMLP teaches it?

    python benchmarks/distillation.py [--labelled 5] [--teacher-sees all|same] [--seeds 0 1 2]
    python benchmarks/distillation.py --config RECIPE --data DIR --list FILE --val-data DIR --val-list FILE …

For each seed: some images of each class are drawn; a teacher is trained, on all training images or on those drawn
ones; students are trained on the drawn ones, alone and with the teacher, from the same weights, with the same recipe,
steps, order and augmentation. What counts is the last step's top-1 on the validation images, which nothing else
looks at. Prints a table: mean over seeds with its 95 % interval by Student's t, and the same for the differences from
the student alone, seed by seed. The bundled digits take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from drawn import Mean, draw, shown, top1

from cyclemlp.config import parse_assignments
from cyclemlp.data import open_source
from cyclemlp.teachers.distillation import DistillationConfig
from cyclemlp.training import Recipe

CONFIG = Path(__file__).parents[1] / "configs" / "digits.yaml"
#: The student is this much smaller than the recipe's model, which is the teacher's.
STUDENT = ["model.overrides.embed_dims=[12, 24, 36, 48]", "model.overrides.depths=[1, 1, 1, 1]"]

#: The recipe's defaults, softer answers with more weight (as Hinton et al. advise), and hard ones.
VARIANTS = {
    "alone": DistillationConfig(),
    "soft, α 0.5, τ 1": DistillationConfig(kind="soft"),
    "soft, α 0.9, τ 4": DistillationConfig(kind="soft", alpha=0.9, tau=4.0),
    "hard, α 0.5": DistillationConfig(kind="hard"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="the teacher's recipe (default: digits)")
    parser.add_argument(
        "--student-set",
        nargs="*",
        default=STUDENT,
        metavar="KEY=VALUE",
        help=f"what differs in the student's recipe (default: {' '.join(STUDENT)})",
    )
    parser.add_argument("--data", default="digits", help="digits, or a folder (default: digits)")
    parser.add_argument("--list", type=Path, help="list of training images in that folder")
    parser.add_argument("--val-data", help="validation images; not needed for the digits")
    parser.add_argument("--val-list", type=Path)
    parser.add_argument("--labelled", type=int, default=5, help="images a class for the student (5)")
    parser.add_argument("--teacher-sees", choices=("all", "same"), default="all", help="training images")
    parser.add_argument("--steps", type=int, default=400, help="of each student (400)")
    parser.add_argument("--batch-size", type=int, default=50, help="of the student (50)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, help="keep the runs here")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    args = parser.parse_args()

    train_source = open_source(args.data, args.list, mode="train")
    val_data = args.val_data or args.data
    val_source = open_source(val_data, args.val_list, mode="val", num_classes=train_source.num_classes)
    base = Recipe.load(args.config).updated({"data.train": args.data, "run.checkpoint_epochs": 10**6})

    began = time.perf_counter()
    scores: dict[str, list[float]] = {"teacher": [], **{variant: [] for variant in VARIANTS}}
    with tempfile.TemporaryDirectory() as temporary:
        output = args.output or Path(temporary)
        for seed in args.seeds:
            indices = draw(train_source, args.labelled, seed)
            recipe = base.updated({"run.seed": seed})
            few = recipe.updated({"data.batch_size": args.batch_size})
            drawn = shown(train_source, indices, few, args.steps)
            student = few.updated(parse_assignments(args.student_set))
            teacher = output / f"teacher_{seed}"
            if args.teacher_sees == "all":
                scores["teacher"].append(top1(recipe, train_source, val_source, teacher))
            else:
                scores["teacher"].append(top1(few, drawn, val_source, teacher))
            for number, (variant, part) in enumerate(VARIANTS.items()):
                settings = {f"distillation.{key}": value for key, value in part.model_dump().items()}
                if part.kind != "none":
                    settings["distillation.teacher"] = str(teacher)
                folder = output / f"student_{seed}_{number}"
                scores[variant].append(top1(student.updated(settings), drawn, val_source, folder))
            print(f"seed {seed}: " + ", ".join(f"{k} {v[-1]:.2f}" for k, v in scores.items()), flush=True)

    print(
        f"\n{len(indices)} drawn of {len(train_source)} training images, {len(val_source)} validation images; "
        f"{base.run.epochs * (len(drawn) // args.batch_size)} steps of {args.batch_size} for each student; the teacher "
        f"sees {args.teacher_sees}; {len(args.seeds)} seeds, {time.perf_counter() - began:.0f} s"
    )
    print("top-1 in %, mean ± half of the 95 % interval (Student's t)\n")
    print("|  | top-1 | minus alone, seed by seed |\n|---|---|---|")
    for name, values in scores.items():
        difference = [a - b for a, b in zip(values, scores["alone"], strict=True)]
        told = "" if name in ("teacher", "alone") else str(Mean(difference))
        print(f"| {name} | {Mean(values)} | {told} |")
    if args.json:
        args.json.write_text(json.dumps({"seeds": args.seeds, "top1": scores}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""`cyclemlp train`: from a recipe file and flags to a run's folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclemlp.cli.common import (
    choose_device,
    choose_workers,
    config_file,
    model_overrides,
    plain_warnings,
    print_json,
)
from cyclemlp.cli.options import (
    DATA_HELP,
    add,
    add_class_map_argument,
    add_exif_argument,
    add_labels_argument,
    add_override_argument,
    add_run_arguments,
    resolve_pretrained,
)
from cyclemlp.cli.training import result_or_exit_code, speaker, typed_command
from cyclemlp.report.writers import WRITERS
from cyclemlp.run import find_checkpoint, places_of_resume

if TYPE_CHECKING:
    from cyclemlp.training import Recipe

EPILOG = f"""
{DATA_HELP}
what is trained is decided by the recipe file, then by the flags, then by --set; `--show-recipe` prints the
outcome, with every key that --set knows, and does nothing.

without a file it is the paper's recipe for ImageNet, whole. For fewer images or from published weights begin with
one of configs/finetune/.

the output folder holds recipe.yaml, log.jsonl (a line an epoch), checkpoints/ (to go on from), best.safetensors
(the best model, for `cyclemlp eval` and `predict`; best_ema.safetensors is the weights' average), curves.png and a
README.md. Ctrl-C saves before it stops.

examples:
  handwritten digits, two minutes on two cores:
    cyclemlp train --config configs/digits.yaml --output runs/digits
  your own images, one folder a class below photos/train and photos/val, from random weights:
    cyclemlp train --model cyclemlp_micro --data photos --epochs 50
  the same from the published ImageNet weights:
    cyclemlp train --config configs/finetune/own_folder.yaml --pretrained --data photos/train --val-data photos/val
  ImageNet as in the paper, on 8 GPUs:
    python -m paddle.distributed.launch "$(command -v cyclemlp)" train --config configs/imagenet/cyclemlp_b1.yaml \\
        --data ILSVRC2012/train --val-data ILSVRC2012/val
  images named in text files:
    cyclemlp train --data photos --list train.txt --val-list val.txt --classes names.txt
  several labels an image, in lists with lines `name dog,outdoor`:
    cyclemlp train --data photos --list train.txt --val-list val.txt --classes names.txt --labels multi
  go on with a run that was stopped:
    cyclemlp train --resume runs/digits
  anything else in the recipe:
    cyclemlp train --config configs/digits.yaml --set optimizer.clip_norm=1 --set schedule.warmup_epochs=0
"""

# Flag → key of the recipe that it overrides.
KEYS = {
    "model": "model.name",
    "weights": "model.weights",
    "data": "data.train",
    "list": "data.train_list",
    "val_data": "data.val",
    "val_list": "data.val_list",
    "class_map": "data.class_map",
    "classes": "data.classes",
    "labels": "data.labels",
    "batch_size": "data.batch_size",
    "workers": "data.workers",
    "lr": "optimizer.lr",
    "accumulate": "optimizer.accumulate",
    "amp": "amp.dtype",
    "freeze": "model.freeze_stages",
    "unfreeze": "model.unfreeze_epochs",
    "input_size": "data.preprocessing.input_size",
    "exif": "data.preprocessing.exif",
    "epochs": "run.epochs",
    "seed": "run.seed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cyclemlp train`."""
    parser.epilog = EPILOG
    add(parser, "--config", "recipe, a YAML file such as configs/digits.yaml")
    group = parser.add_argument_group("model")
    add(group, "--model", "a variant, see `cyclemlp info` (default: cyclemlp_b1)")
    add_override_argument(group)
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--weights", metavar="FILE", help="start from these weights: .pth, .pdparams, .safetensors, a run"
    )
    add(start, "--pretrained")

    add(group, "--freeze", "stages, from the first, that keep their weights")
    add(
        group,
        "--unfreeze",
        "train them too after so many epochs: one number for all, or one for each, the last of them first",
    )

    group = parser.add_argument_group("images")
    add(group, "--data", "training images, see below")
    group.add_argument(
        "--list", metavar="FILE", help="text file with a line `name label` an image, or a CSV file"
    )
    add(group, "--val-data", "images to evaluate each epoch (default: the val/ of --data)")
    group.add_argument("--val-list", metavar="FILE", help="their list")
    add_class_map_argument(group)
    add(
        group,
        "--classes",
        "names of the classes, one a line, kept with the model (default: the folders' names)",
    )
    add_labels_argument(group)
    add(
        group,
        "--input-size",
        "size of the network's input: the side of a square, or height x width such as 192x256 (default: the "
        "model's own, 224 for the paper's)",
    )
    add_exif_argument(group)
    add(group, "--workers", "processes that read images")
    add(group, "--skip-bad", "decode every image before training and leave out those that cannot be read")
    add(
        group,
        "--no-check",
        "do not look at a sample of the images before training (see `cyclemlp data check`)",
    )

    group = parser.add_argument_group("training")
    add(group, "--epochs", "passes over the images (default: 300)")
    add(group, "--batch-size", "images a step on each device (default: 128)")
    add(
        group,
        "--accumulate",
        "compute each step in N parts, where a batch does not fit in memory; the result is the same",
    )
    add(
        group,
        "--lr",
        "highest learning rate, for a batch of 512 images: it is scaled to the batch size, unless "
        "`--set optimizer.lr_for_batch=null` (default: 5e-4)",
    )
    add(
        group,
        "--amp",
        "mixed precision, on GPUs (default: float16, as the authors')",
        choices=("float16", "bfloat16", "none"),
    )
    add(group, "--seed", "of everything random (default: 0)")
    add(group, "--set", "any key of the recipe; may be repeated")
    add(group, "--device")

    group = parser.add_argument_group("results")
    add_run_arguments(group, default="runs/NAME OF THE MODEL")
    add(group, "--writer", "write the curves for this viewer too, while it trains", choices=tuple(WRITERS))
    add(group, "--show-recipe", "print the whole recipe as YAML and stop")


def run(args: argparse.Namespace) -> int:
    """Train; the exit code is `run_recipe`'s."""
    from cyclemlp.config import commented_yaml

    recipe = resolve_recipe(args)
    if args.show_recipe:
        print(commented_yaml(recipe))
        return 0
    output = places_of_resume(args.resume, args.output)[1] or Path("runs") / recipe.model.name.lower()
    return run_recipe(
        recipe,
        output,
        command=_command(args),
        device=args.device,
        resume=args.resume,
        force=args.force,
        writer=args.writer,
        check=not args.no_check,
        skip_bad=args.skip_bad,
        show_progress=not args.no_progress,
        json=args.json,
    )


def resolve_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe file (or that of the run to resume, or the defaults), then flags, then `--set`.

    Raises:
        ConfigError: something unknown or impossible.
    """
    from cyclemlp.config import parse_assignments
    from cyclemlp.training import Recipe

    path = args.config or places_of_resume(args.resume, args.output)[0]
    if path is None and args.resume is not None:
        # A folder that is no run is an error of its own, not one of missing images.
        find_checkpoint(args.resume, args.output or Path())
    recipe = Recipe.load(config_file(path, "train")) if path else Recipe()
    flags = {key: getattr(args, flag) for flag, key in KEYS.items() if getattr(args, flag) is not None}
    if args.unfreeze is not None and len(args.unfreeze) == 1:
        (flags["model.unfreeze_epochs"],) = args.unfreeze
    if args.amp == "none":
        flags["amp.dtype"] = None
    if args.pretrained:
        resolve_pretrained(args, args.model or recipe.model.name)
        flags["model.weights"] = args.pretrained
    if args.data is not None or args.list is not None:
        # Another training set: what the file says of lists and validation images is about the old one.
        flags = {**dict.fromkeys(("data.train", "data.train_list", "data.val", "data.val_list")), **flags}
    flags |= {f"model.overrides.{key}": value for key, value in model_overrides(args.override).items()}
    return recipe.updated(flags, where="command line").updated(parse_assignments(args.set), where="--set")


def run_recipe(
    recipe: Recipe,
    output: Path,
    *,
    command: str,
    device: str | None = None,
    resume: str | None = None,
    json: bool = False,
    **options: Any,
) -> int:
    """Train what a recipe names, and print how it goes.

    Args:
        output: the run's folder.
        command: what was typed.
        device: `--device`.
        json: print the final figures as JSON, all else on stderr.
        resume, options: as for `cyclemlp.training.train`.

    Returns:
        0; 1 for a loss that is not finite or a full disk; 128 + signal when stopped (130 by Ctrl-C).
    """
    from cyclemlp.data import open_class_names
    from cyclemlp.training import train
    from cyclemlp.training.data import open_sources
    from cyclemlp.training.distributed import join

    with plain_warnings("train"):
        world = join(device)
        choose_device(device)
        classes = open_class_names(recipe.data.classes)
        train_source, val_source = open_sources(recipe.data, classes)
        say = speaker(json, is_first=world.is_first)
        if val_source is None:
            say("no validation images (--val-data, --val-list): the last model is kept as the best")
        result = result_or_exit_code(
            "cyclemlp train",
            lambda: train(
                recipe,
                train_source,
                val_source,
                output,
                classes=classes,
                resume=resume,
                workers=choose_workers(recipe.data.workers, train_source),
                command=command,
                say=say,
                **options,
            ),
            output,
        )
    if isinstance(result, int):
        return result
    if not world.is_first:
        return 0
    if json:
        best = next((record for record in result.epochs if record["epoch"] == result.best_epoch), {})
        figure = "map" if recipe.multi_label else "top1"
        figures: dict[str, Any] = {"output": str(output), figure: best.get(f"val_{figure}")}
        print_json({**figures, "epoch": result.best_epoch, "epochs": result.epochs})
    elif result.best is not None:
        say(f"best {result.metric.text(result.best)} in epoch {result.best_epoch}; everything is in {output}")
    else:
        say(f"done; everything is in {output}")
    return 0


def _command(args: argparse.Namespace) -> str:
    flags = (
        "config",
        *KEYS,
        "pretrained",
        "skip_bad",
        "no_check",
        "set",
        "writer",
        "device",
        "output",
        "resume",
    )
    return typed_command(["cyclemlp", "train"], args, flags)

"""`cyclemlp explain WHAT`: pictures of what a network reads, where it looks and what it is made of."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclemlp.cli import common
from cyclemlp.errors import ConfigError
from cyclemlp.report import format_table
from cyclemlp.report.plots import require_matplotlib

if TYPE_CHECKING:
    from cyclemlp.explain import Shown

FORMS = (".png", ".svg", ".pdf")
TOPICS = {
    "kernel": "where a Cycle FC reads, by channel, and what is reached through several blocks",
    "field": "how far the centre of each stage's map sees: effective receptive fields, from gradients",
    "gradcam": "which parts of a picture speak for a class",
    "gates": "how the gates weight the branches, block by block, over many pictures",
    "features": "feature maps of a picture, stage by stage",
    "network": "a drawing of the network with shapes, parameters and multiply-adds",
    "family": "published accuracy and cost of the MLP-like family",
}
EPILOG = """
MODEL is a run folder or a weight file; or a variant by its name, which gets random weights if none are given (a
warning says so). Without --data, pictures are the bundled handwritten digits. Each picture is drawn from data that a
function of `cyclemlp.explain` returns; --json prints its figures. docs/explain.md shows them all.

examples:
  cyclemlp explain kernel                          the paper's: steps of 3, through 1, 2 and 4 blocks
  cyclemlp explain kernel --step 3x3 7x1           other step sizes, of branch h and of branch w
  cyclemlp explain field cyclemlp_b1               beside the same network made of channel FCs only
  cyclemlp explain gradcam runs/pets cat.jpg --class dog --stage 3 4 --whole
  cyclemlp explain gates runs/demo                 over the held-out digits
  cyclemlp explain features runs/demo --stage 1 2 --channels 0 1 2 3
  cyclemlp explain network cyclemlp_b2 --size 512x1024 --output b2.svg
  cyclemlp explain family

Exit code: 0 done; 1 the network gives no finite numbers; 2 something to mend in what was asked.
"""
FIELD_SHARES = (0.25, 0.5, 0.75, 0.95)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the topics and their arguments."""
    parser.epilog = EPILOG
    topics = parser.add_subparsers(dest="topic", metavar="WHAT", required=True)
    for name, summary in TOPICS.items():
        sub = topics.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in _ARGUMENTS:
            _ARGUMENTS[name](sub)
        group = sub.add_argument_group("results")
        group.add_argument(
            "--output",
            type=Path,
            default=Path(f"{name}.png"),
            metavar="FILE",
            help="the picture, .png, .svg or .pdf (default: %(default)s)",
        )
        group.add_argument("--json", action="store_true", help="print the figures as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Explain one thing; returns the exit code."""
    if args.output.suffix.lower() not in FORMS:
        raise ConfigError(
            f"--output {args.output}: its suffix decides the form; give one of {', '.join(FORMS)}"
        )
    if hasattr(args, "files") and args.model is not None and args.model_or_file is not None:
        args.files = [
            args.model_or_file,
            *(args.files or []),
        ]  # with --model there is no MODEL: it is a picture
        args.model_or_file = None
    common.output_folder(args.output.parent)
    require_matplotlib()
    with common.plain_warnings(f"explain {args.topic}"):
        if hasattr(args, "device"):
            common.choose_device(args.device)
        facts, words = _RUN[args.topic](args)
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        print(words)
        print(f"\nwritten   {args.output}")
    return 0


# ---- arguments


def _add_model(parser: argparse.ArgumentParser) -> None:
    common.add_model_arguments(parser)
    parser.add_argument(
        "--seed",
        type=common.whole_number(0),
        default=0,
        metavar="N",
        help="of random weights, where a variant is named without weights (default: %(default)s)",
    )


def _add_pictures(parser: argparse.ArgumentParser, count: int) -> None:
    parser.set_defaults(default_pictures=count)
    group = parser.add_argument_group("pictures")
    given = group.add_argument(
        "files", nargs="+", metavar="PICTURE|FOLDER", help="picture files, and folders to look through"
    )
    given.required = False  # `nargs='*'` would match nothing where options come first
    group.add_argument(
        "--data",
        metavar="digits|DIR",
        help="a data set instead: the bundled digits (default), or a folder with one folder of pictures a class",
    )
    group.add_argument(
        "--list", type=Path, metavar="FILE", help="text file with a line `name label` a picture, below --data"
    )
    group.add_argument(
        "--pictures",
        type=common.whole_number(1),
        metavar="N",
        help="how many, taken at equal distances from the first to the last (default: all that are named, "
        f"{count} of a data set)",
    )
    common.add_preprocessing_arguments(parser)
    parser.add_argument("--device", metavar="cpu|gpu|gpu:N", help="where to compute")


def _add_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step",
        nargs="+",
        default=["3"],
        metavar="S|HxW",
        help="one number S: 1×S for branch h and S×1 for branch w; or HxW for both, or two of them (default: 3)",
    )
    parser.add_argument(
        "--branches",
        nargs="+",
        choices=("h", "w", "c"),
        default=["h", "w", "c"],
        help="of a block (default: all)",
    )
    parser.add_argument(
        "--channels", type=common.whole_number(1), default=64, metavar="C", help="default: %(default)s"
    )
    parser.add_argument(
        "--blocks",
        nargs="+",
        type=common.whole_number(1),
        default=[1, 2, 4],
        metavar="N",
        help="through how many blocks to follow what is read (default: 1 2 4)",
    )


def _add_field(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_pictures(parser, 16)
    parser.add_argument(
        "--beside",
        nargs="+",
        metavar="MODEL",
        help="networks to compare with: run folders, weight files, variants (default: the same architecture with the "
        "channel FC as its only branch, random weights)",
    )
    parser.add_argument("--stage", nargs="+", type=common.whole_number(1), metavar="N", help="default: all")
    parser.add_argument(
        "--without-gate",
        action="store_true",
        help="leave out what goes through the gates, which see all positions through a mean",
    )


def _add_gradcam(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_pictures(parser, 8)
    parser.add_argument(
        "--class",
        dest="of_class",
        nargs="+",
        metavar="NAME|INDEX",
        help="whose maps (default: the most probable class of each picture)",
    )
    common.add_classes_argument(parser)
    parser.add_argument(
        "--stage", nargs="+", type=common.whole_number(1), metavar="N", help="default: the last, exactly"
    )
    parser.add_argument("--whole", action="store_true", help="the whole picture, not its central square")
    parser.add_argument(
        "--overlays", type=Path, metavar="DIR", help="also write each overlay as a picture of its own"
    )


def _add_gates(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_pictures(parser, 256)


def _add_features(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_pictures(parser, 1)
    parser.add_argument("--stage", nargs="+", type=common.whole_number(1), metavar="N", help="default: all")
    parser.add_argument(
        "--count",
        type=common.whole_number(1),
        default=8,
        metavar="N",
        help="channels a stage (default: %(default)s)",
    )
    parser.add_argument(
        "--order",
        choices=("active", "first"),
        default="active",
        help="which: those that differ most from position to position (default), or the first",
    )
    parser.add_argument(
        "--channels", nargs="+", type=common.whole_number(0), metavar="C", help="which, by number, instead"
    )
    parser.add_argument("--whole", action="store_true", help="the whole picture, not its central square")


def _add_network(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        help="of the picture, 224, or height×width as 512x1024 (default: the model's)",
    )


# ---- topics: each returns JSON values, and text


def _kernel(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain import cycle_kernel
    from cyclemlp.explain.plots import plot_kernel

    kernel = cycle_kernel(_steps(args.step), args.channels, args.blocks, args.branches)
    plot_kernel(kernel, args.output)
    facts = {
        "branches": kernel.branches,
        "step_sizes": kernel.step_sizes,
        "channels": kernel.channels,
        "offsets": {branch: offsets.tolist() for branch, offsets in kernel.offsets.items()},
        "positions": {blocks: sorted(kernel.positions(blocks)) for blocks in kernel.paths},
    }
    rows = [
        [blocks, len(kernel.positions(blocks)), paths.shape[0] // 2, paths.shape[1] // 2]
        for blocks, paths in kernel.paths.items()
    ]
    lines = [
        f"branch {branch}: step {step[0]}×{step[1]}, offsets (δ H, δ W) by channel: "
        + ", ".join(f"({h}, {w})" for h, w in kernel.offsets[branch][: max(4, min(step[0] * step[1], 12))])
        + ", …"
        for branch, step in kernel.step_sizes.items()
    ]
    lines += ["", format_table(["blocks", "positions read", "farthest along H", "along W"], rows)]
    lines += [
        "",
        "The cycle starts at 0, as the published weights were trained; the paper's formula and figure start it at −1.",
    ]
    return facts, "\n".join(lines)


def _field(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain import effective_field
    from cyclemlp.explain.pictures import batches
    from cyclemlp.explain.plots import plot_fields

    models = {}
    first, name = _open(args)
    models[name] = first
    if args.beside is None:
        models["channel FC only, random"] = _channel_fc_twin(first, args.seed)
    for other in args.beside or []:
        model, label = _open(_only(other, args.seed))
        models[label if label not in models else f"{label} ({other})"] = model
    fields = {
        name: effective_field(
            model, batches(_pictures(args, model)), args.stage, through_gate=not args.without_gate
        )
        for name, model in models.items()
    }
    plot_fields(fields, args.output)
    rows, facts = [], []
    for name, field in fields.items():
        areas = [field.area(share) for share in FIELD_SHARES]
        sides = [field.side(share) for share in FIELD_SHARES]
        touched, size = field.touched(), field.maps.shape[1:]
        for i, stage in enumerate(field.stages):
            extent = f"{touched[i][1] - touched[i][0] + 1}×{touched[i][3] - touched[i][2] + 1}"
            shares = [f"{100 * area[i]:.2f} %" for area in areas]
            rows.append([name, "×".join(map(str, size)), stage, *shares, int(sides[-1][i]), extent])
            facts.append(
                {
                    "model": name,
                    "stage": stage,
                    "pictures": field.pictures,
                    "size": list(size),
                    "area": {
                        f"{share:g}": float(area[i]) for share, area in zip(FIELD_SHARES, areas, strict=True)
                    },
                    "side_pixels": {
                        f"{share:g}": int(side[i]) for share, side in zip(FIELD_SHARES, sides, strict=True)
                    },
                    "any_gradient_pixels": extent,
                }
            )
    shares = [f"{100 * share:g} %" for share in FIELD_SHARES]
    header = ["network", "picture", "stage", *shares, "side, 95 %", "any, pixels"]
    words = (
        format_table(header, rows)
        + "\n\nThe smallest part of the picture that holds so much of the gradient; the side, in pixels, of the square "
        "round\nthe centre that holds 95 % of it; and rows × columns with any gradient."
    )
    return {"without_gate": args.without_gate, "fields": facts}, words


def _gradcam(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from PIL import Image

    from cyclemlp.explain import grad_cam
    from cyclemlp.explain.plots import CamPanel, overlay_heat, plot_cams

    overlays = common.output_folder(args.overlays)
    model, name = _open(args)
    names = common.model_class_names(model, args.classes)
    wanted = [_class_index(word, names) for word in args.of_class] if args.of_class else [None]
    drawn, facts, rows = [], [], []
    for number, picture in enumerate(_pictures(args, model, whole=args.whole)):
        panels = []
        for index in wanted:
            cam = grad_cam(model, picture.image[None], None if index is None else [index], args.stage)
            label, probability = names[int(cam.classes[0])], float(cam.probabilities()[0])
            rows.append(
                [picture.name, label, f"{probability:.2%}", *(_peak(cam.heat(s)[0]) for s in cam.maps)]
            )
            facts.append(
                {
                    "picture": picture.name,
                    "class": label,
                    "index": int(cam.classes[0]),
                    "probability": probability,
                    "maps": {
                        stage: [[float(f"{value:.4g}") for value in row] for row in maps[0]]
                        for stage, maps in sorted(cam.maps.items())
                    },
                }
            )
            for stage in sorted(cam.maps):
                heat = cam.heat(stage)[0]
                nothing = "" if heat.any() else "\nnothing speaks for it"
                panels.append(
                    CamPanel(heat, f"stage {stage}", f"{label} ({100 * probability:.0f} %){nothing}")
                )
                if overlays is not None:
                    stem = f"{number:03d}_{Path(picture.name).stem}_class{cam.classes[0]}"
                    overlay = Image.fromarray(overlay_heat(picture.pixels, heat))
                    overlay.save(overlays / f"{stem}_stage{stage}.png")
        true = f"\ntrue: {picture.true}" if picture.true else ""
        drawn.append((Path(picture.name).name + true, picture.pixels, panels))
    plot_cams(drawn, args.output, title=f"Grad-CAM of {name}: orange speaks for the class")
    stages = sorted(cam.maps)
    header = ["picture", "class", "probability", *(f"stage {stage}, strongest at" for stage in stages)]
    words = format_table(header, rows)
    if overlays is not None:
        words += f"\n\noverlays  {overlays}"
    return {"model": name, "pictures": facts}, words


def _gates(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain import gate_weights
    from cyclemlp.explain.pictures import batches
    from cyclemlp.explain.plots import plot_gates

    model, name = _open(args)
    gates = gate_weights(model, batches(_pictures(args, model)))
    plot_gates(gates, args.output)
    blocks, rows = [], []
    for block in gates.blocks:
        means = dict(zip(gates.branches, block.branch_mean.tolist(), strict=True))
        pictures = dict(zip(gates.branches, block.over_pictures.tolist(), strict=True))
        channels = dict(zip(gates.branches, block.over_channels.tolist(), strict=True))
        rows.append(
            [
                f"{block.stage}.{block.block}",
                *(f"{value:.3f}" for value in means.values()),
                f"{max(channels.values()):.3f}",
                f"{max(pictures.values()):.3f}",
            ]
        )
        blocks.append(
            {
                "stage": block.stage,
                "block": block.block,
                "mean": means,
                "over_channels": channels,
                "over_pictures": pictures,
                "channel_means": {
                    branch: [round(value, 5) for value in block.mean[:, k].tolist()]
                    for k, branch in enumerate(gates.branches)
                },
            }
        )
    header = ["stage.block", *gates.branches, "spread over channels", "over pictures"]
    words = (
        format_table(header, rows)
        + f"\n\nMean weight of each branch over {gates.pictures:,} pictures and all channels; standard deviations, the "
        "greatest of the branches."
    )
    return {"model": name, "pictures": gates.pictures, "branches": gates.branches, "blocks": blocks}, words


def _features(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain import feature_maps
    from cyclemlp.explain.plots import plot_features

    model, name = _open(args)
    pictures = list(_pictures(args, model, whole=args.whole))
    if len(pictures) > 1:
        raise ConfigError(
            f"a sheet is of one picture, and {len(pictures)} are given: run it for each of them"
        )
    (picture,) = pictures
    found = feature_maps(
        model, picture.image, args.stage, count=args.count, order=args.order, channels=args.channels
    )
    plot_features(found, picture.pixels, args.output, title=f"{name}: {picture.name}")
    facts = [
        {"stage": stage.stage, "channels": stage.channels.tolist(), "activity": stage.activity.tolist()}
        for stage in found
    ]
    rows = [
        [stage.stage, "×".join(map(str, stage.maps.shape[1:])), " ".join(map(str, stage.channels))]
        for stage in found
    ]
    words = format_table(["stage", "map", "channels"], rows)
    return {"model": name, "picture": picture.name, "stages": facts}, words


def _network(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain.plots import plot_network
    from cyclemlp.network import part_costs

    config, preprocessing, name = _architecture(args)
    height, width = _size(args.size or str(preprocessing.input_size), config.min_size)
    parts = part_costs(config, height, width)
    plot_network(name, config, parts, (height, width), args.output)
    total = [sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts)]
    rows: list[list[object]] = []
    for i, part in enumerate(parts):
        place = part.place if i == 0 or part.place != parts[i - 1].place else ""
        shape = f"{part.height}×{part.width}×{part.channels}"
        share = f"{100 * part.multiply_adds / total[1]:.1f} %"
        rows.append([place, part.name, part.times, shape, part.parameters, part.multiply_adds, share])
    rows.append(["all", "", None, "", *total, "100.0 %"])
    header = ["part", "", "times", "gives", "parameters", "multiply-adds", "share"]
    words = f"{name} at {height}×{width}\n\n{format_table(header, rows)}"
    facts = {
        "model": name,
        "size": [height, width],
        "parameters": total[0],
        "multiply_adds": total[1],
        "parts": [asdict(part) for part in parts],
    }
    return facts, words


def _family(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from cyclemlp.explain import mlp_family
    from cyclemlp.explain.plots import plot_family

    networks = mlp_family()
    plot_family(networks, args.output)
    rows = [
        [n.name, n.parameters_millions, n.multiply_adds_billions, n.top1_percent, n.source] for n in networks
    ]
    header = ["network", "parameters, M", "multiply-adds, G", "top-1 %", "source"]
    words = (
        format_table(header, rows)
        + "\n\nAll figures are published ones: ImageNet-1k alone, 224². Nothing was measured here."
    )
    return {"networks": [asdict(network) for network in networks]}, words


# ---- what was typed → the thing


def _steps(words: Sequence[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    if len(words) == 1 and words[0].isdigit():
        return (1, int(words[0])), (int(words[0]), 1)
    pairs = [word.lower().replace("×", "x").split("x") for word in words]
    if len(pairs) > 2 or not all(len(pair) == 2 and all(part.isdigit() for part in pair) for pair in pairs):
        raise ConfigError(f"--step {' '.join(words)}: give one number as 3, or one or two sizes as 3x3 7x1")
    steps = [(int(height), int(width)) for height, width in pairs]
    return steps[0], steps[-1]


def _size(text: str, least: int) -> tuple[int, int]:
    from cyclemlp.bench.cases import parse_size

    height, width = parse_size(text)
    if min(height, width) < least:
        raise ConfigError(f"--size {text}: this network needs at least {least} pixels in both directions")
    return height, width


def _class_index(word: str, names: Sequence[str]) -> int:
    if word in names:
        return list(names).index(word)
    if word.isdigit() and int(word) < len(names):
        return int(word)
    raise ConfigError(
        f"--class {word!r} is no class of this model; it has 0 to {len(names) - 1}: {', '.join(names[:8])}"
        f"{' …' if len(names) > 8 else ''}"
    )


def _peak(heat: np.ndarray) -> str:
    if not heat.any():
        return "–"
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return f"({row}, {column}) of {heat.shape[0]}×{heat.shape[1]}"


def _only(given: str, seed: int) -> argparse.Namespace:
    """Model arguments of a model that is just named."""
    return argparse.Namespace(
        model_or_file=given, model=None, weights=None, pretrained=False, layout=None, seed=seed
    )


def _variant_named(args: argparse.Namespace) -> str | None:
    """The variant that is named without weights, if one is."""
    import cyclemlp
    from cyclemlp.network import canonical_name

    if args.weights or args.pretrained:
        return None
    if args.model_or_file is None or args.model is not None:
        return args.model if args.model_or_file is None else None
    given = args.model_or_file
    known = canonical_name(given) in cyclemlp.list_models()
    return given if known and not Path(given).exists() else None


def _open(args: argparse.Namespace) -> tuple[Any, str]:
    """The model, with random weights where a variant is named without any, and what to call it in a picture."""
    import paddle

    import cyclemlp
    from cyclemlp.network import canonical_name

    name = _variant_named(args)
    if name is not None:
        paddle.seed(args.seed)
        common.message(
            f"cyclemlp explain: warning: {name} has RANDOM weights (seed {args.seed}): this shows the architecture, "
            "not what a trained network does; give a run folder, --weights FILE or --pretrained"
        )
        return cyclemlp.create_model(name), f"{canonical_name(name)}, random"
    model = common.open_model(args)
    return model, _label(args)


def _label(args: argparse.Namespace) -> str:
    if args.model_or_file is not None:
        return Path(args.model_or_file).name
    return f"{args.model}, {args.weights.name if args.weights else 'published weights'}"


def _channel_fc_twin(model: Any, seed: int) -> Any:
    """The same architecture with the channel FC as the only branch, and random weights."""
    import paddle

    from cyclemlp.network import CycleMLP

    paddle.seed(seed)
    twin = CycleMLP(model.config.replace({"branches": ("c",)}))
    twin.metadata = model.metadata
    return twin


def _architecture(args: argparse.Namespace) -> tuple[Any, Any, str]:
    """Configuration, preprocessing and name; no weights are needed, or made, for a variant."""
    import cyclemlp

    name = _variant_named(args)
    if name is not None:
        config, metadata = cyclemlp.models.describe_model(name)
        return config, metadata.preprocessing, metadata.model
    model = common.open_model(args)
    return model.config, model.metadata.preprocessing, f"{model.metadata.model}, {_label(args)}"


def _pictures(args: argparse.Namespace, model: Any, *, whole: bool = False) -> Iterator[Shown]:
    """The pictures that are asked for, as this model gets them."""
    from cyclemlp.data import PictureFiles
    from cyclemlp.explain import read_pictures

    if args.files and (args.data or args.list):
        raise ConfigError("give either pictures and folders, or --data, not both")
    if args.list and not args.data:
        raise ConfigError(f"--list {args.list} needs --data DIR, the folder that its names are relative to")
    source = (
        PictureFiles(args.files)
        if args.files
        else common.open_source(args.data or "digits", args.list, mode="val")
    )
    preprocessing = common.choose_preprocessing(model.metadata.preprocessing, args)
    count = args.pictures or (len(source) if args.files else args.default_pictures)
    return read_pictures(source, preprocessing, count, whole=whole)


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "kernel": _add_kernel,
    "field": _add_field,
    "gradcam": _add_gradcam,
    "gates": _add_gates,
    "features": _add_features,
    "network": _add_network,
}
_RUN: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Any], str]]] = {
    "kernel": _kernel,
    "field": _field,
    "gradcam": _gradcam,
    "gates": _gates,
    "features": _features,
    "network": _network,
    "family": _family,
}

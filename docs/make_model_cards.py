"""Writes the model cards, docs/models/*.md, from the table of variants and the heads of the configurations.

    python docs/make_model_cards.py            writes them
    python docs/make_model_cards.py --check    says which differ from what is there; exit code 1 if one does

Sections as in "Model Cards for Model Reporting" (Mitchell et al., 2019), as far as they apply to a backbone.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclemlp.network import VARIANTS, Variant, count_macs, parameter_count
from cyclemlp.report import markdown_table
from cyclemlp.weights import read_weights
from cyclemlp.weights.pretrained import bundled_weights, pretrained_tags

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "docs" / "models"
WIDTH = 118  # of a line of a card, in characters
SIDES = (224, 256, 384, 512)  # of images whose cost a card states, in pixels
RELEASE = "[release v0.1](https://github.com/ShoufaChen/CycleMLP/releases/tag/v0.1)"
MARK = "<!-- made by `python docs/make_model_cards.py` from the table of variants: change that, not this -->"

CITATION = """```bibtex
@inproceedings{chen2022cyclemlp,
  title     = {CycleMLP: A MLP-like Architecture for Dense Prediction},
  author    = {Chen, Shoufa and Xie, Enze and Ge, Chongjian and Chen, Runjian and Liang, Ding and Luo, Ping},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}
```"""

#: What is known of the small variants from runs of this project: sentences with their pages.
SMALL_RUNS = {
    "cyclemlp_nano": """
- Handwritten digits, greyscale, at 16²: best top-1 of the 359 held out 98.89, 98.33 and 99.16 % for seeds 0, 1
  and 2; 98.33, 98.33 and 98.61 % after the last epoch (`cyclemlp train --config configs/digits.yaml --seed N`,
  [training.md](../training.md#first-runs)).
- The same run exported: the same top-1 in ONNX Runtime, OpenVINO and Paddle Inference in float32, and in int8
  ([export.md](../export.md#bfloat16-and-int8)).""",
    "cyclemlp_micro": """
- CIFAR-10 at 64², from random weights: top-1 87.54 % of the 10,000 test images
  (`cyclemlp train --config configs/cifar10/cyclemlp_micro.yaml`, [results.md](../results.md#cifar-10)).
- As a backbone, from random weights, in a quarter of an hour on one CPU thread (`python benchmarks/backbones.py`): mean
  IoU 0.650 on cats and dogs with Semantic FPN ([segmentation.md](../segmentation.md#results-here)), AP50 0.855 on
  blood cells with RetinaNet ([detection.md](../detection.md#results-here)).""",
}

#: Figures of the paper that the heads of configurations quote: file, what its head says, task, figure, unit.
DENSE = (
    (
        "configs/seg/semantic_fpn_{}_ade20k.yaml",
        r"mean IoU (?P<value>[\d.]+) % with (?P<params>[\d.]+) M parameters",
        "ADE20K, Semantic FPN",
        "mean IoU",
        " %",
    ),
    (
        "configs/det/retinanet_{}_1x_coco.yaml",
        r"(?P<params>[\d.]+) M parameters.*Expected: AP (?P<value>[\d.]+) on val2017",
        "COCO, RetinaNet, 1×",
        "AP",
        "",
    ),
    (
        "configs/det/mask_rcnn_{}_1x_coco.yaml",
        r"(?P<params>[\d.]+) M parameters.*Expected: box AP (?P<value>[\d.]+), mask AP (?P<mask>[\d.]+) on val2017",
        "COCO, Mask R-CNN, 1×",
        "box AP / mask AP",
        "",
    ),
)


#: What a tag's weights were trained on.
DATA_OF_TAG = {"cifar10": "CIFAR-10, as JPEG files"}
CIFAR10 = """The weights were trained on CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009): 32×32 images of ten classes, a labelled part of 80 Million Tiny Images, which were collected from the
web. Its page states no licence; it asks to cite that report. 80 Million Tiny Images was withdrawn by its authors in
2020 because of offensive labels and images; CIFAR-10's ten classes are animals and vehicles."""


def _bundled(name: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The weights of a variant in the package: tag → file, and what its metadata say of the training."""
    found = bundled_weights(name)
    return {tag: (path, read_weights(path).metadata["training"]) for tag, path in found.items()}


def title(name: str) -> str:
    """`CycleMLP-B1`, `CycleMLP-T, inferred`; a variant of our own has its name only."""
    variant = VARIANTS[name]
    if not variant.from_paper:
        return name
    return f"CycleMLP-{name.split('_')[1].upper()}" + (", inferred" if variant.inferred else "")


def card(name: str) -> str:
    """The whole card of a variant, as Markdown.

    Raises:
        ValueError: a configuration's head does not tell its published figures as the others do.
    """
    variant = VARIANTS[name]
    return _wrapped(f"""# {title(name)}

{MARK}

{_summary(name, variant)}

## At a glance

{_glance(name, variant)}

## Architecture

{_architecture(variant)}

## Use

{_use(name, variant)}

## Accuracy

{_accuracy(name, variant)}

## What was run here, and what was not

{_run_here(name, variant)}

## Training data and licence

{_licence(name, variant)}

## Limits

{_limits(variant)}

## Citation

{CITATION}
""")


def index() -> str:
    """The page that lists the cards."""
    rows = []
    for name, variant in VARIANTS.items():
        size = variant.preprocessing.input_size
        cost = f"{count_macs(variant.config, size, size) / 1e9:.3f} at {size}²"
        top1 = "–" if variant.top1_published is None else f"{variant.top1_published:.1f}"
        rows.append(
            [f"[{title(name)}]({name}.md)", f"{parameter_count(variant.config) / 1e6:.2f}", cost, top1]
        )
    header = ["model", "parameters, M", "MACs, G", "ImageNet top-1 (%), published"]
    return f"""# Model cards

{MARK}

What each variant is for, what was published of it, what was run here, its terms and its limits.

{markdown_table(header, rows)}
"""


def cards() -> dict[Path, str]:
    """Every card and the page that lists them: path → text."""
    return {CARDS / "index.md": index()} | {CARDS / f"{name}.md": card(name) for name in VARIANTS}


# ---- the sections


def _summary(name: str, variant: Variant) -> str:
    if not variant.from_paper:
        weights = "there are no weights of it to download"
        if tags := pretrained_tags(name):
            weights = "small weights come with the package: " + ", ".join(f"`{tag}`" for tag in tags)
        return f"""`{name}` is a small CycleMLP of this project's own, for small images, demonstrations and tests. The
paper has no such variant, and {weights}."""
    text = """An MLP-like vision backbone for images of any size at a cost linear in their pixels
("CycleMLP: A MLP-like Architecture for Dense Prediction", Chen et al., ICLR 2022, [arXiv 2107.10224](https://arxiv.org/abs/2107.10224))."""
    if variant.inferred:
        text += """ **The authors published no code of this variant. Its architecture was inferred from the paper's
words and its counts of parameters and MACs; no weights confirm it** ([variants.md](../variants.md))."""
    return text


def _glance(name: str, variant: Variant) -> str:
    config, images = variant.config, variant.preprocessing
    size, recipe = images.input_size, f"configs/imagenet/{name}.yaml"
    parameters = f"{parameter_count(config):,}"
    cost = f"{count_macs(config, size, size) / 1e9:.3f} G"
    if variant.from_paper:
        parameters += f" (published: {variant.params_published:g} M)"
        cost += f' (published as "FLOPs": {variant.macs_published:g} G)'
    weights = "none were ever published"
    if variant.weights is not None:
        weights = f"`{variant.weights}` of the authors' {RELEASE}"
        weights += "; whether it fits is not known" if variant.inferred else ""
    for tag, (path, training) in _bundled(name).items():
        weights = f"`{tag}`, {path.stat().st_size / 1e6:.1f} MB in float16, in the package"
        recipe = training["recipe"]
    prepared = f"""shorter side to {round(size / images.crop_pct)} ({images.interpolation}), centre crop {size}²;
mean {_list(images.mean)}, standard deviation {_list(images.std)}"""
    output = f"""{config.num_classes} classes (`num_classes`), or four feature maps with strides {_list(config.strides)}
and {_list(config.embed_dims)} channels (`features_only=True`)"""
    rows = [
        ["input", f"RGB image of any height and width from {config.min_size} pixels"],
        ["preprocessing", prepared],
        ["output", output],
        ["parameters", parameters],
        [f"MACs at {size}²", cost],
        ["weights", weights],
        [
            "recipe",
            f"`{recipe}`" if (ROOT / recipe).exists() or _bundled(name) else "[training.md](../training.md)",
        ],
    ]
    return markdown_table(["name here", f"`{name}`"], rows)


def _architecture(variant: Variant) -> str:
    config, size = variant.config, variant.preprocessing.input_size
    stages = [
        [
            i + 1,
            stride,
            f"{-(-size // stride)}²",
            config.embed_dims[i],
            config.depths[i],
            config.mlp_ratios[i],
        ]
        for i, stride in enumerate(config.strides)
    ]
    costs = [[f"{side}²", f"{count_macs(config, side, side) / 1e9:.2f}"] for side in sorted({size, *SIDES})]
    patches = "do not overlap" if config.patch_size == config.patch_stride else "overlap"
    norm = ", and a norm after them" if config.patch_norm else ""
    between = "a 3×3 convolution with stride 2"
    if config.downsample == "merge":
        between = "Swin's patch merging (a norm and a linear layer over 2×2 positions)"
    mixed = "summed, without a gate,"
    if config.gate:
        mixed = "weighted by a gate MLP (C → C / 4 → 3C, softmax over the three)"
    return f"""{markdown_table(["stage", "stride", f"map at {size}²", "channels", "blocks", "MLP ratio"], stages)}

Patch embedding: {config.patch_size}×{config.patch_size} patches with stride {config.patch_stride} that {patches}{norm}.
Between stages: {between}. A block: a norm and three branches with step size {config.step_size} (Cycle FC along the
width, Cycle FC along the height, channel FC), {mixed} and projected; then a norm and a channel MLP with GELU; both with
a residual connection. LayerNorm with ε 1e-5. [How the Cycle FC works](../how-it-works.md).

{markdown_table(["image", "MACs, G"], costs)}

Convolutions, linear layers and Cycle FCs are counted, as in the paper (`cyclemlp info NAME --input-size PIXELS`)."""


def _use(name: str, variant: Variant) -> str:
    call = f'cyclemlp.create_model("{name}"'
    make = f"{call}, num_classes=10)  # random weights, to be trained"
    if _loads(variant):
        make = f"{call}, pretrained=True)  # the authors' weights; they are fetched once"
        purpose = """Classification into ImageNet's 1000 classes, the start of fine-tuning on other images, and the
backbone of segmentation and detection models, in research and in products whose terms the weights allow (below)."""
    elif variant.inferred:
        purpose = f"""Training from random weights, and comparison with networks of Swin's shape.
`create_model("{name}", pretrained="{variant.weights}")` tells whether the authors' file fits, and if not, which
assumption fails."""
    else:
        purpose = (
            "Training from random weights in minutes on a processor: small images, demonstrations, tests."
        )
    weighted = "".join(
        f'\nclassifier = {call}, pretrained="{tag}")  # weights of the package' for tag in _bundled(name)
    )
    return f"""{purpose}

```python
import cyclemlp

model = {make}{weighted}
backbone = {call}, features_only=True, out_indices=(1, 2, 3))
```

Forms of weight files: [weights.md](../weights.md). Export: [export.md](../export.md). Fine-tuning:
[training.md](../training.md#fine-tuning)."""


def _accuracy(name: str, variant: Variant) -> str:
    if variant.top1_published is None:
        rows = [
            [DATA_OF_TAG[tag], part, f"{100 * facts['right'] / facts['images']:.2f} % of {facts['images']:,}"]
            for tag, (_, training) in _bundled(name).items()
            for part in ("validation", "test")
            if (facts := training.get(part))
        ]
        text = "Nothing is published of it. What it reached here is told in the next section."
        if rows:
            notes = "".join(
                f"\n\n{training['note']}" for _, training in _bundled(name).values() if training["note"]
            )
            text = f"""Of the weights in the package, measured by `python benchmarks/bundle_weights.py`:

{markdown_table(["trained on", "images", "top-1"], rows)}{notes}"""
        return text
    rows = [["ImageNet-1k, 224²", "top-1", f"{variant.top1_published:.1f} %", "the paper, table 2"]]
    if variant.reproduced_top1 is not None:
        value = f"{variant.reproduced_top1:.3f} % / {variant.reproduced_top5:.3f} % / {variant.reproduced_loss:.4f}"
        source = "Paddle-CycleMLP"
        rows.append(["the same, the published weights", "top-1 / top-5 / loss", value, source])
    rows += _dense_rows(name)
    return f"""**Published figures; none of them was measured by this project.**

{markdown_table(["task", "figure", "value", "source"], rows)}"""


def _dense_rows(name: str) -> list[list[str]]:
    """What the heads of the configurations for this backbone quote from the paper; none if it has none."""
    rows = []
    for pattern, wanted, task, figure, unit in DENSE:
        config = pattern.format(name)
        if not (ROOT / config).exists():
            continue
        lines = (ROOT / config).read_text(encoding="utf-8").splitlines(keepends=True)
        head = "".join(line for line in lines if line.startswith("#"))
        found = re.search(wanted, head, re.DOTALL)
        if found is None or "as published" not in head:
            raise ValueError(f"{config}: its head does not match {wanted!r} with the words `as published`")
        value = " / ".join(found[key] for key in ("value", "mask") if key in found.re.groupindex) + unit
        rows.append([f"{task}, {found['params']} M parameters", figure, value, f"the paper; `{config}`"])
    return rows


def _run_here(name: str, variant: Variant) -> str:
    counted = """- Parameters and MACs are counted from the architecture, and the parameters also in the
  network that is built."""
    if not variant.from_paper:
        return f"""{counted}{SMALL_RUNS.get(name, "")}

Not run: GPUs."""
    if variant.inferred:
        return f"""{counted}
- Both agree with the published counts in the paper's precision ([variants.md](../variants.md)).

Not run: training on ImageNet, the published weight file, GPUs. There is no output of the authors' network to compare
with."""
    speed = """
- Its speed and memory on a processor: [speed.md](../speed.md), [export.md](../export.md#speed)."""
    return f"""{counted}
- With the same weights, logits and feature maps are those of the authors' network, within 2e-5
  (`tests/network/test_golden.py`, figures computed with the authors' code).{speed if name == "cyclemlp_b1" else ""}

Not run: ImageNet, ADE20K and COCO, neither training nor evaluation; the published weight file itself (files of the same
form were); GPUs. `cyclemlp reproduce` measures the first two figures above where the weights and ImageNet are."""


def _licence(name: str, variant: Variant) -> str:
    code = "The code is under Apache-2.0."
    if _bundled(name):
        return f"""{code} {CIFAR10} A model that you train is bound by the terms of what you train it on."""
    if variant.weights is None:
        return f"{code} A model that you train is bound by the terms of what you train it on."
    return f"""The published weights were trained by the authors on the training set of ImageNet-1k (ILSVRC 2012):
1.28 million photographs from the web in 1000 classes, for 300 epochs, without other data. They are under the MIT
licence, © 2021 Shoufa Chen. ImageNet's terms of access allow non-commercial research and education only; whether that
binds weights trained on it is for you to settle ([weights.md](../weights.md#the-published-weights)). {code}"""


def _limits(variant: Variant) -> str:
    text = f"""- At least {variant.config.min_size} pixels in both directions; smaller images are refused.
- An image of another size than it was trained on is taken, but accuracy changes with the size: measure it
  (`cyclemlp sweep`)."""
    if _loads(variant):
        text += """
- It gives every image one of the 1000 classes, also one that shows none of them, and nobody calibrated its
  probabilities.
- ImageNet's photographs and labels are no sample of the world. Bias was not examined here; do not decide about people
  with it."""
    return text


# ---- words and lines


def _loads(variant: Variant) -> bool:
    """Whether there are published weights that are known to fit."""
    return variant.weights is not None and not variant.inferred


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _wrapped(text: str) -> str:
    """Paragraphs and lists in lines of `WIDTH`; tables, headings and code as they are."""
    pieces = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(
        piece if piece.startswith("```") else "\n\n".join(map(_wrapped_block, piece.split("\n\n")))
        for piece in pieces
    )


def _wrapped_block(block: str) -> str:
    if not block.strip() or block.startswith(("|", "#", "<!--")):
        return block
    fill = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    lines = []
    for item in re.split(r"\n(?=- )", block):
        fill.subsequent_indent = "  " if item.startswith("- ") else ""
        lines.append(fill.fill(" ".join(item.split())))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a card is not as it would be"
    )
    args = parser.parse_args()
    made, there = cards(), set(CARDS.glob("*.md"))
    stale = [p for p, text in made.items() if p not in there or p.read_text(encoding="utf-8") != text]
    for path in sorted(there - set(made)) + stale:
        if args.check:
            print(f"{path.relative_to(ROOT)} is not what docs/make_model_cards.py makes", file=sys.stderr)
        elif path in made:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if args.check and (stale or there - set(made)) else 0


if __name__ == "__main__":
    raise SystemExit(main())

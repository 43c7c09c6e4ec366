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

from cyclemlp.network import VARIANTS, Variant, multiply_adds, parameter_count
from cyclemlp.report import markdown_table

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "docs" / "models"
RELEASE = "https://github.com/ShoufaChen/CycleMLP/releases/tag/v0.1"
PAPER = "[arXiv 2107.10224](https://arxiv.org/abs/2107.10224)"
WIDTH = 118  # of a line of a card, in characters
SIDES = (224, 256, 384, 512)  # of pictures whose cost a card states, in pixels

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
    "cyclemlp_nano": """- Handwritten digits, greyscale, at 16²: best top-1 of the 359 held out 98.89, 98.33 and 99.16 % for seeds 0, 1 and 2;
  98.33, 98.33 and 98.61 % after the last epoch (`cyclemlp train --config configs/digits.yaml --seed N`,
  [training.md](../training.md#first-runs)).
- The same run exported: the same top-1 in ONNX Runtime, OpenVINO and Paddle Inference in float32, and in int8
  ([export.md](../export.md#bfloat16-and-int8)).""",
    "cyclemlp_micro": """- As a backbone, from random weights, in a quarter of an hour on one CPU thread (`python benchmarks/dense.py`): mean IoU
  0.650 on cats and dogs with Semantic FPN ([segmentation.md](../segmentation.md#results-here)), AP50 0.855 on blood
  cells with RetinaNet ([detection.md](../detection.md#results-here)).""",
}


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
    parts = [
        f"# {title(name)}",
        f"<!-- made by `python docs/make_model_cards.py` from the table of variants: change that, not this -->\n\n"
        f"{_summary(name, variant)}",
        f"## At a glance\n\n{_glance(name, variant)}",
        f"## Architecture\n\n{_architecture(variant)}",
        f"## Use\n\n{_use(name, variant)}",
        f"## Accuracy\n\n{_accuracy(name, variant)}",
        f"## What was run here, and what was not\n\n{_run_here(name, variant)}",
        f"## Training data and licence\n\n{_licence(variant)}",
        f"## Limits\n\n{_limits(variant)}",
        f"## Citation\n\n{CITATION}",
    ]
    pieces = re.split(r"(```.*?```)", "\n\n".join(parts) + "\n", flags=re.DOTALL)
    return "".join(
        piece if piece.startswith("```") else "\n\n".join(map(_wrapped, piece.split("\n\n")))
        for piece in pieces
    )


def _wrapped(block: str) -> str:
    """A paragraph or a list in lines of the house's length; tables and headings as they are."""
    if not block.strip() or block.startswith(("|", "#", "<!--")):
        return block
    lines = re.split(r"\n(?=- )", block)
    return "\n".join(
        textwrap.fill(
            " ".join(line.split()),
            WIDTH,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    )


def _summary(name: str, variant: Variant) -> str:
    if not variant.from_paper:
        return (
            f"`{name}` is a small CycleMLP of this project's own, for small pictures, demonstrations and tests. The paper "
            "has no such variant, and there are no weights of it to download."
        )
    text = (
        "An MLP-like vision backbone for pictures of any size at a cost linear in their pixels "
        f'("CycleMLP: A MLP-like Architecture for Dense Prediction", Chen et al., ICLR 2022, {PAPER}).'
    )
    if variant.inferred:
        text += (
            " **The authors published no code of this variant. Its architecture was inferred from the paper's words and "
            "its counts of parameters and multiply-adds; no weights confirm it** ([variants.md](../variants.md))."
        )
    return text


def _glance(name: str, variant: Variant) -> str:
    config, preprocessing = variant.config, variant.preprocessing
    size = preprocessing.input_size
    own = {variant.params_published, variant.macs_published} != {None}
    rows = {
        "name here": f"`{name}`",
        "input": f"RGB picture of any height and width from {config.min_size} pixels",
        "preprocessing": f"shorter side to {round(size / preprocessing.crop_pct)} ({preprocessing.interpolation}), centre crop "
        f"{size}²; mean {_numbers(preprocessing.mean)}, standard deviation {_numbers(preprocessing.std)}",
        "output": f"{config.num_classes} classes (`num_classes`), or four feature maps with strides "
        f"{_numbers(config.strides)} and {_numbers(config.embed_dims)} channels (`features_only=True`)",
        "parameters": f"{parameter_count(config):,}"
        + (f" (published: {variant.params_published:g} M)" if own else ""),
        f"multiply-adds at {size}²": f"{multiply_adds(config, size, size) / 1e9:.3f} G"
        + (f' (published as "FLOPs": {variant.macs_published:g} G)' if own else ""),
        "weights": _weights_row(variant),
        "recipe": f"`configs/imagenet/{name}.yaml`"
        if (ROOT / f"configs/imagenet/{name}.yaml").exists()
        else "[training.md](../training.md)",
    }
    return markdown_table(["", ""], [[key, value] for key, value in rows.items()])


def _weights_row(variant: Variant) -> str:
    if variant.weights is None:
        return "none were ever published"
    if variant.inferred:
        return f"`{variant.weights}` of the authors' [release v0.1]({RELEASE}); whether it fits is not known"
    return f"`{variant.weights}` of the authors' [release v0.1]({RELEASE})"


def _architecture(variant: Variant) -> str:
    config, size = variant.config, variant.preprocessing.input_size
    rows = [
        [
            f"{i + 1}",
            f"{stride}",
            f"{-(-size // stride)}²",
            f"{config.embed_dims[i]}",
            f"{config.depths[i]}",
            f"{config.mlp_ratios[i]:g}",
        ]
        for i, stride in enumerate(config.strides)
    ]
    table = markdown_table(["stage", "stride", f"map at {size}²", "channels", "blocks", "MLP ratio"], rows)
    embedding = f"{config.patch_size}×{config.patch_size} patches with stride {config.patch_stride}"
    overlap = ("that do not overlap" if config.patch_size == config.patch_stride else "that overlap") + (
        ", and a norm after them" if config.patch_norm else ""
    )
    between = (
        "a 3×3 convolution with stride 2"
        if config.downsample == "conv"
        else "Swin's patch merging (norm and a linear layer over 2×2 positions)"
    )
    weighting = (
        "weighted by a gate MLP (C → C / 4 → 3C, softmax over the three) and projected"
        if config.gate
        else "summed, without a gate, and projected"
    )
    costs = [
        [f"{side}²", f"{multiply_adds(config, side, side) / 1e9:.2f}"]
        for side in sorted({size, *SIDES})
        if side >= config.min_size
    ]
    return (
        f"{table}\n\n"
        f"Patch embedding: {embedding} {overlap}. Between stages: {between}. A block: a norm and three branches with step size "
        f"{config.step_size} (Cycle FC along the width, Cycle FC along the height, channel FC), {weighting}; then a norm and a "
        "channel MLP with GELU; both with a residual connection. LayerNorm with ε 1e-5. "
        "[How the Cycle FC works](../how-it-works.md).\n\n"
        + markdown_table(["picture", "multiply-adds, G"], costs)
        + "\n\nConvolutions, linear layers and Cycle FCs are counted, as in the paper (`cyclemlp info NAME --input-size PIXELS`)."
    )


def _use(name: str, variant: Variant) -> str:
    call = f'cyclemlp.create_model("{name}"'
    loads = variant.weights is not None and not variant.inferred
    classifier = f"{call}, pretrained=True)" if loads else f"{call}, num_classes=10)"
    start = "the authors' weights; they are fetched once" if loads else "random weights, to be trained"
    code = (
        "```python\nimport cyclemlp\n\n"
        f"model = {classifier}  # {start}\n"
        f"backbone = {call}, features_only=True, out_indices=(1, 2, 3))\n```"
    )
    if loads:
        purpose = (
            "Classification into ImageNet's 1000 classes, the start of fine-tuning on other pictures, and the backbone of "
            "segmentation and detection models, in research and in products whose terms the weights allow (below)."
        )
    elif variant.inferred:
        purpose = (
            "Training from random weights, and comparison with networks of Swin's shape. "
            f'`create_model("{name}", pretrained="{variant.weights}")` tells whether the authors\' file fits, and if '
            "not, which assumption fails."
        )
    else:
        purpose = (
            "Training from random weights in minutes on a processor: small pictures, demonstrations, tests."
        )
    return (
        f"{purpose}\n\n{code}\n\nForms of weight files: [weights.md](../weights.md). Export: [export.md](../export.md). "
        "Fine-tuning: [training.md](../training.md#fine-tuning)."
    )


def _accuracy(name: str, variant: Variant) -> str:
    if variant.top1_published is None:
        return "Nothing is published of it. What it reached here is told in the next section."
    rows = [["ImageNet-1k, 224²", "top-1", f"{variant.top1_published:.1f} %", "the paper, table 2"]]
    if variant.seed_top1 is not None:
        rows.append(
            [
                "the same, the published weights",
                "top-1 / top-5 / loss",
                f"{variant.seed_top1:.3f} % / {variant.seed_top5:.3f} % / {variant.seed_loss:.4f}",
                "the Paddle 2.1 reproduction Paddle-CycleMLP",
            ]
        )
    if (ROOT / _SEGMENTATION.format(name)).exists():
        rows += _dense_rows(name)
    text = "**Published figures; none of them was measured by this project.**\n\n"
    return text + markdown_table(["task", "figure", "value", "source"], rows)


_SEGMENTATION = "configs/seg/semantic_fpn_{}_ade20k.yaml"
_DENSE = (
    (
        _SEGMENTATION,
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


def _dense_rows(name: str) -> list[list[str]]:
    """What the heads of the configurations for this backbone quote from the paper."""
    rows = []
    for pattern, wanted, task, figure, unit in _DENSE:
        path = ROOT / pattern.format(name)
        head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
        found = re.search(wanted, head, re.DOTALL)
        if found is None or "as published" not in head:
            raise ValueError(f"{path}: its head does not match {wanted!r} with the words `as published`")
        values = [found[key] for key in ("value", "mask") if key in found.re.groupindex]
        value = " / ".join(values) + unit
        source = f"the paper; `{pattern.format(name)}`"
        rows.append([f"{task}, {found['params']} M parameters", figure, value, source])
    return rows


def _run_here(name: str, variant: Variant) -> str:
    counted = "- Parameters and multiply-adds are counted from the architecture, and the parameters also in the network built."
    if not variant.from_paper:
        return f"{counted}\n{SMALL_RUNS[name]}\n\nNot run: GPUs."
    if variant.inferred:
        return (
            f"{counted}\n- Both agree with the published counts in the paper's precision "
            "([variants.md](../variants.md)).\n\n"
            "Not run: training on ImageNet, the published weight file, GPUs. There is no output of the authors' network "
            "to compare with."
        )
    also = (
        "\n- Its speed and memory on a processor: [speed.md](../speed.md), [export.md](../export.md#speed)."
        if name == "cyclemlp_b1"
        else ""
    )
    return (
        f"{counted}\n- With the same weights, logits and feature maps are those of the authors' network, within 2e-5 "
        f"(`tests/network/test_golden.py`, figures computed with the authors' code).{also}\n\n"
        "Not run: ImageNet, ADE20K and COCO, neither training nor evaluation; the published weight file itself (files of "
        "the same form were); GPUs. `cyclemlp reproduce` measures the first two figures above where the weights and ImageNet are."
    )


def _licence(variant: Variant) -> str:
    code = "The code is under Apache-2.0."
    if variant.weights is None:
        return f"{code} A model that you train is bound by the terms of what you train it on."
    return (
        "The published weights were trained by the authors on the training set of ImageNet-1k (ILSVRC 2012): 1.28 million "
        "photographs from the web in 1000 classes, for 300 epochs, without other data. They are under the MIT licence, © 2021 "
        "Shoufa Chen. ImageNet's terms of access allow non-commercial research and education only; whether that binds "
        f"weights trained on it is for you to settle ([weights.md](../weights.md#the-published-weights)). {code}"
    )


def _limits(variant: Variant) -> str:
    lines = [
        f"- At least {variant.config.min_size} pixels in both directions; smaller pictures are refused.",
        "- A picture of another size than it was trained on is taken, but accuracy changes with the size: measure it "
        "(`cyclemlp sweep`).",
    ]
    if variant.weights is not None and not variant.inferred:
        lines += [
            "- It gives every picture one of the 1000 classes, also one that shows none of them, and nobody calibrated its "
            "probabilities.",
            "- ImageNet's photographs and labels are no sample of the world. Bias was not examined here; do not decide about "
            "people with it.",
        ]
    return "\n".join(lines)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def index() -> str:
    """The page that lists the cards."""
    rows = []
    for name, variant in VARIANTS.items():
        size = variant.preprocessing.input_size
        top1 = "–" if variant.top1_published is None else f"{variant.top1_published:.1f}"
        rows.append(
            [
                f"[{title(name)}]({name}.md)",
                f"{parameter_count(variant.config) / 1e6:.2f}",
                f"{multiply_adds(variant.config, size, size) / 1e9:.3f} at {size}²",
                top1,
            ]
        )
    table = markdown_table(["", "parameters, M", "multiply-adds, G", "ImageNet top-1 (%), published"], rows)
    return (
        "# Model cards\n\n<!-- made by `python docs/make_model_cards.py` -->\n\n"
        "What each variant is for, what was published of it, what was run here, its terms and its limits.\n\n"
        f"{table}\n"
    )


def cards() -> dict[Path, str]:
    """Every card and the page that lists them: path → text."""
    return {CARDS / "index.md": index()} | {CARDS / f"{name}.md": card(name) for name in VARIANTS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a card is not as it would be"
    )
    args = parser.parse_args()
    made = cards()
    there = set(CARDS.glob("*.md"))
    stale = sorted(there - set(made)) + [
        path for path, text in made.items() if path not in there or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if args.check:
            print(f"{path.relative_to(ROOT)} is not what docs/make_model_cards.py makes", file=sys.stderr)
        elif path in made:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

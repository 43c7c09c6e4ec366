"""Draws the figures of docs/concepts.md and docs/how-it-works.md that no command of the package draws.

python docs/make_figures.py            writes docs/images/concepts_*.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cyclemlp.network import VARIANTS, count_macs
from cyclemlp.report.figures import BLUE, COLOURS, GREEN, GREY, INK, ORANGE, saved_figure

IMAGES = Path(__file__).resolve().parent / "images"
SIDES = (128, 224, 320, 384, 512, 640, 800, 1024)
ALL_POSITIONS = "B1 with FCs over positions"
LETTERS = 9  # size of the text in boxes, in points


def cost_by_size(path: Path) -> None:
    """MACs of an image against its pixels, and what a fully-connected layer over positions would add to B1."""
    with saved_figure(path, 8.0, 3.6) as figure:
        axes = figure.subplots()
        pixels = [side * side / 1e6 for side in SIDES]
        for name, colour in zip([f"cyclemlp_b{i}" for i in range(1, 6)], COLOURS, strict=False):
            macs = [count_macs(VARIANTS[name].config, side, side) / 1e9 for side in SIDES]
            axes.plot(pixels, macs, color=colour, marker="o", markersize=3, label=f"CycleMLP-B{name[-1]}")
        sides = range(64, 1025, 32)
        dense = [dense_macs(side) / 1e9 for side in sides]
        axes.plot(
            [side * side / 1e6 for side in sides], dense, color=GREY, linestyle="--", label=ALL_POSITIONS
        )
        axes.set(xlabel="pixels of the image", ylabel="GMACs of one image", ylim=(0, 300), xlim=(0, 1.08))
        shown = (224, 384, 512, 640, 800, 1024)
        axes.set_xticks([side * side / 1e6 for side in shown], [f"{side}²" for side in shown])
        axes.legend(fontsize=8, loc="upper left", ncols=2)


def dense_macs(side: int) -> int:
    """MACs of B1 at side² with a fully-connected layer over all positions, a channel at a time, added to each block."""
    config = VARIANTS["cyclemlp_b1"].config
    added, positions = 0, side * side // config.patch_stride**2
    for width, depth in zip(config.embed_dims, config.depths, strict=True):
        added += depth * width * positions**2
        positions //= 4
    return count_macs(config, side, side) + added


def run_folder(path: Path) -> None:
    """The files of a run's folder between the commands that write and read them."""
    files = [
        ("recipe.yaml", "every value of the training"),
        ("log.jsonl", "a line for each epoch or evaluation"),
        ("checkpoints/checkpoint_0007/", "model, optimizer, average, place in the run"),
        ("best.safetensors", "model of the best epoch, its preprocessing and classes"),
        ("curves.png", "loss, accuracy, learning rate"),
    ]
    with saved_figure(path, 8.0, 3.0) as figure:
        axes = _canvas(figure, 16, 6)
        _box(axes, 0.1, 2.4, 2.6, 1.2, "cyclemlp\ntrain", BLUE)
        _box(axes, 13.2, 4.6, 2.7, 1.1, "train --resume", ORANGE)
        _box(axes, 13.2, 2.5, 2.7, 1.1, "eval, predict,\nexport, explain", ORANGE)
        _box(axes, 13.2, 0.4, 2.7, 1.1, "plot", ORANGE)
        for i, (name, what) in enumerate(files):
            y = 5.1 - 1.15 * i
            _box(axes, 3.9, y - 0.3, 7.9, 0.95, f"{name}\n{what}", GREY)
            _arrow(axes, (2.7, 3.0), (3.9, y + 0.15))
        for row, y in ((0, 5.15), (2, 5.15), (3, 3.05), (1, 0.95)):
            _arrow(axes, (11.8, 5.25 - 1.15 * row), (13.2, y))


def resume(path: Path) -> None:
    """A run that is not stopped above one that is killed in epoch 3 and resumed."""
    with saved_figure(path, 8.0, 2.7) as figure:
        axes = _canvas(figure, 16, 5.4)
        axes.text(0.1, 4.9, "not stopped", fontsize=LETTERS, color=INK)
        axes.text(0.1, 2.6, "killed in epoch 3, resumed", fontsize=LETTERS, color=INK)
        for epoch in range(1, 6):
            x = 0.1 + 2.6 * (epoch - 1)
            _box(axes, x, 3.6, 2.4, 1.0, f"epoch {epoch}", BLUE)
            if epoch < 3:
                _box(axes, x, 1.3, 2.4, 1.0, f"epoch {epoch}", BLUE)
        _box(axes, 5.3, 1.3, 1.0, 1.0, "✗", GREY)
        for epoch in (3, 4, 5):
            _box(axes, 5.3 + 2.6 * (epoch - 3), 0.1, 2.4, 1.0, f"epoch {epoch}", ORANGE)
        _arrow(axes, (5.2, 1.3), (5.5, 1.1))
        axes.text(6.5, 1.7, "goes on from checkpoint_0002", fontsize=LETTERS, color=INK)
        _arrow(axes, (12.9, 4.1), (13.7, 3.3))
        _arrow(axes, (12.9, 0.6), (13.7, 2.2))
        _box(axes, 13.2, 2.2, 2.7, 1.1, "the same\nweights, to the bit", GREEN)


def classes(path: Path) -> None:
    """How the classes of images and of a model are matched: three questions."""
    with saved_figure(path, 8.0, 3.2) as figure:
        axes = _canvas(figure, 16, 6.4)
        rows = [
            ("both sides have names", "by name, in any order", "a name that is not known:\nerror, names it"),
            (
                "the images' folders are\ncalled 0, 1, 2 …",
                "by number",
                "a number that is too large:\nerror, names it",
            ),
            (
                "only one has names",
                "by place in sorted order,\nwith a warning",
                "numbers of classes that\ndo not fit: error",
            ),
        ]
        for i, (question, answer, otherwise) in enumerate(rows):
            y = 4.6 - 2.1 * i
            _box(axes, 0.1, y, 4.6, 1.4, question, GREY)
            _box(axes, 5.9, y, 4.4, 1.4, answer, BLUE)
            _box(axes, 11.5, y, 4.4, 1.4, otherwise, ORANGE)
            _arrow(axes, (4.7, y + 0.7), (5.9, y + 0.7))
            _arrow(axes, (10.3, y + 0.7), (11.5, y + 0.7))
            if i:
                _arrow(axes, (2.4, y + 2.1), (2.4, y + 1.4))
                axes.text(2.6, y + 1.62, "else", fontsize=LETTERS, color=INK)


def _canvas(figure: Any, width: float, height: float) -> Any:
    axes = figure.subplots()
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor="white",
            edgecolor=colour,
            linewidth=1.6,
        )
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=LETTERS, color=INK)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})


FIGURES = {"cost_by_size": cost_by_size, "run_folder": run_folder, "resume": resume, "classes": classes}


def main() -> int:
    for name, draw in FIGURES.items():
        draw(IMAGES / f"concepts_{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())

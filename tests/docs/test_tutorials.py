"""The tutorials run as they are written: their blocks are taken out of the pages and run one after the other.

A `bash` block is run by bash, a `python` block by Python; a block with a title is that file. `text` shows
something, and `sh` is a command that cannot be run here, as its page says. What would take long, or wants what
is not here, is made smaller by exact replacements of text, each of which must be found.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import imagenet_fixtures
import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.weights import write_weights

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = "--input-size 32 --batch-size 4 --epochs 1 --workers 0"
NANO = f"--model cyclemlp_nano {SMALL}"
BENCH = "--size 32 --batch 1 --seconds 0.1 --runtime network"


def photographs(folder: Path, parts: tuple[str, ...] = ("photos/train", "photos/val")) -> None:
    """Two classes of small images in colour."""
    generator = np.random.default_rng(0)
    for part in parts:
        for i in range(8):
            path = folder / part / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)


def of_three_breeds(folder: Path) -> None:
    """Three classes in one folder each, ten images of each."""
    for breed in ("abyssinian", "bengal", "bulldog"):
        (folder / "photos" / breed).mkdir(parents=True)
        for i in range(10):
            path = folder / "photos" / breed / f"{i}.png"
            Image.fromarray(_noise(len(breed) * 10 + i)).save(path)


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def with_masks(folder: Path) -> None:
    """Photographs and masks of three classes, of the same names."""
    for part in ("images", "masks"):
        (folder / "data/mine" / part).mkdir(parents=True)
    for i in range(20):
        Image.fromarray(_noise(i)).save(folder / f"data/mine/images/{i:02}.jpg")
        mask = np.zeros((40, 48), np.uint8)
        mask[10:20, 10:20], mask[20:30, 20:40] = 1, 2
        Image.fromarray(mask).save(folder / f"data/mine/masks/{i:02}.png")


def with_masks_of_0_and_255(folder: Path) -> None:
    """What many programs write for two classes."""
    (folder / "data/mine/masks").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(255 * (_noise(i)[:, :, 0] > 99).astype(np.uint8)).save(
            folder / f"data/mine/masks/{i}.png"
        )


def with_boxes(folder: Path) -> None:
    """Photographs with two boxes each, in COCO's form."""
    categories = [{"id": i, "name": name} for i, name in enumerate(("RBC", "WBC", "Platelets"), 1)]
    (folder / "data/mine/images").mkdir(parents=True)
    (folder / "data/mine/annotations").mkdir()
    (folder / "new").mkdir()
    Image.fromarray(_noise(0)).save(folder / "new/0.jpg")
    for part, first in (("train", 0), ("val", 8)):
        images, annotations = [], []
        for i in range(first, first + 8):
            Image.fromarray(_noise(i)).save(folder / f"data/mine/images/{i}.jpg")
            images.append({"id": i, "file_name": f"{i}.jpg", "width": 48, "height": 40})
            for k, box in enumerate(([4, 4, 20, 16], [24, 8, 16, 24])):
                given = {"id": 2 * i + k + 1, "image_id": i, "category_id": (i + k) % 3 + 1}
                annotations.append({**given, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"data/mine/annotations/{part}.json").write_text(json.dumps(content))


def published_weights(folder: Path) -> None:
    """A file of the authors' form with random weights of B1, beside the user and in the cache."""
    paddle.seed(0)
    tensors = {k: v.numpy() for k, v in cyclemlp.create_model("cyclemlp_b1").state_dict().items()}
    write_weights(folder / "b1.safetensors", tensors, layout="authors")
    (folder / "b1.safetensors").rename(folder / "CycleMLP_B1.pth")  # what a file is, its content says
    (folder / "cache").mkdir()
    os.link(folder / "CycleMLP_B1.pth", folder / "cache" / "CycleMLP_B1.pth")


def imagenet(folder: Path) -> None:
    """The stand-in, as ImageNet is downloaded."""
    imagenet_fixtures.build(folder / "all")
    (folder / "all/tar").rename(folder / "ILSVRC2012")


def of_the_authors(folder: Path) -> None:
    """Their weights, their folders of ImageNet, and photographs."""
    photographs(folder)
    published_weights(folder)
    for part in ("imagenet/train", "imagenet/val"):
        for i, name in enumerate(imagenet_fixtures.IDS[:2]):
            path = folder / part / name / "1.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (40, 40), (90 * i, 90, 200)).save(path)


@dataclass(frozen=True)
class Tutorial:
    """How a page is run.

    Attributes:
        page: below docs/.
        leaves: files that must be there afterwards.
        smaller: text of the page → what is run in its place.
        prepare: makes what the user has before the first command.
    """

    page: str
    leaves: tuple[str, ...]
    smaller: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None


TUTORIALS = [
    Tutorial(
        "getting-started/photographs.md",
        (
            "lists/classes.txt",
            "runs/photos/best.safetensors",
            "results/report.md",
            "predictions/predictions.csv",
        ),
        {"--output runs/photos": "--output runs/photos --epochs 1 --workers 0"},
        of_three_breeds,
    ),
    Tutorial(
        "getting-started/segmentation.md",
        (
            "data/mine/train.txt",
            "runs/mine/best.pdparams",
            "predictions/overlays",
            "exported/mine/model.onnx",
        ),
        {"iters: 300": "iters: 2\nbatch_size: 4", "save_interval: 100": "save_interval: 2"},
        with_masks,
    ),
    Tutorial(
        "getting-started/coco.md",
        ("runs/mine/best.pdparams", "predictions/predictions.csv", "exported/mine/metadata.json"),
        {"--epochs 6": "--epochs 1"},
        with_boxes,
    ),
    Tutorial(
        "getting-started/coming-from.md",
        ("cyclemlp_b1.pdparams",),
        {},
        of_the_authors,
    ),
    Tutorial("faq.md", ("masks.py",), {}, with_masks_of_0_and_255),
    Tutorial(
        "concepts.md",
        ("runs/digits/best.safetensors",),
        {"--config configs/digits.yaml": "--config configs/digits.yaml --epochs 1"},
    ),
    Tutorial("results.md", ()),
    Tutorial(
        "tutorials/finetune.md",
        (
            "batch.png",
            "runs/photos/best.safetensors",
            "results/report.md",
            "predictions/predictions.csv",
            "runs/photos_b1/best.safetensors",
        ),
        # The last command only: B1 is for a few images here.
        {"--freeze 4 --lr 1e-3 --epochs 10": "--freeze 4 --lr 1e-3 --epochs 1 --input-size 32"},
        published_weights,
    ),
    Tutorial(
        "tutorials/multilabel.md",
        (
            "batch.png",
            "runs/asymmetric/best.safetensors",
            "results/curves.png",
            "predictions/predictions.csv",
            "exported/multi/model.onnx",
            "runs/photos/best.safetensors",
        ),
        {
            "epochs: 12": "epochs: 2",
            "--pretrained": "--model cyclemlp_nano --input-size 32 --epochs 1 --workers 0",
        },
    ),
    Tutorial(
        "tutorials/imagenet.md",
        ("batch.png", "runs/cyclemlp_b1/best.safetensors", "results/report.md", "curves.png"),
        {
            "--devices 0,1,2,3,4,5,6,7": "--nproc_per_node 2",
            "--resume\n": f"--resume {NANO} --batch-size 100 --device cpu\n",
        },
        imagenet,
    ),
    Tutorial(
        "tutorials/distil.md",
        ("runs/taught/best.safetensors", "results/taught/eval.csv", "curves.png"),
        {"--config configs/digits.yaml": "--config configs/digits.yaml --epochs 1"},
    ),
    Tutorial(
        "tutorials/segment.md",
        (
            "data/three/preview.png",
            "runs/three/best.pdparams",
            "runs/three/curves.png",
            "predictions/overlays",
            "exported/three/model.onnx",
        ),
        {
            "--train 400 --val 100": "--train 12 --val 2",
            "iters: 1600": "iters: 2",
            "save_interval: 400": "save_interval: 2",
        },
    ),
    Tutorial(
        "tutorials/detect.md",
        (
            "data/small/preview.png",
            "runs/small/best.pdparams",
            "predictions/predictions.csv",
            "exported/small/metadata.json",
        ),
        {"--train 1000 --val 100": "--train 16 --val 2", "epoch: 4": "epoch: 1"},
    ),
    Tutorial(
        "tutorials/serve.md",
        ("exported/digits/model.onnx", "exported/digits_int8/model.onnx", "digit.png"),
        {
            "--config configs/digits.yaml": "--config configs/digits.yaml --epochs 1",
            "--seconds 1": "--seconds 0.1",
            "8000": "{port}",
        },
    ),
    Tutorial(
        "migrating-from-the-authors.md",
        ("save/best.safetensors", "runs/photos/best.safetensors", "for_pytorch.safetensors"),
        {
            'launch "$(command -v cyclemlp)"': 'launch --nproc_per_node 1 "$(command -v cyclemlp)"',
            "--output save": f"--output save --device cpu {NANO}",
            "--output runs/photos\n": f"--output runs/photos {SMALL}\n",
        },
        of_the_authors,
    ),
    Tutorial(
        "migrating-from-timm.md",
        ("runs/photos/best.safetensors", "predictions/predictions.csv", "exported/photos/model.onnx"),
        {
            "--epochs 100": SMALL,
            "cyclemlp bench cyclemlp_b1": f"cyclemlp bench cyclemlp_nano {BENCH}",
            "train --model cyclemlp_b1": "train --model cyclemlp_nano",
        },
        photographs,
    ),
]


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(kind, title, text) of the fenced blocks of a page."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def test_every_tutorial_is_run():
    folders = ("tutorials", "getting-started")
    pages = {path.relative_to(DOCS).as_posix() for folder in folders for path in (DOCS / folder).glob("*.md")}
    assert {tutorial.page for tutorial in TUTORIALS} >= pages - {"tutorials/index.md"}


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: Path(tutorial.page).stem)
def test_the_blocks_are_of_known_kinds_and_the_replacements_are_found(tutorial):
    found = blocks(tutorial.page)
    assert {kind for kind, _, _ in found} <= {"bash", "python", "yaml", "text", "sh"}
    assert all(title for kind, title, _ in found if kind == "yaml")
    run = "".join(text for kind, _, text in found if kind not in ("text", "sh"))
    assert [old for old in tutorial.smaller if old not in run] == []


@pytest.mark.heavy
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda tutorial: Path(tutorial.page).stem)
def test_it_runs_as_written(tutorial, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    if tutorial.prepare:
        tutorial.prepare(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CYCLEMLP_HOME": str(tmp_path / "cache"),
    }
    for kind, title, text in blocks(tutorial.page):
        for old, new in tutorial.smaller.items():
            text = text.replace(old, new.format(port=port))
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
            continue
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}.get(kind)
        if command:
            done = subprocess.run(
                [*command, text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    for name in tutorial.leaves:
        assert (tmp_path / name).exists(), name

"""PaddleDetection's trainer as our commands use it: model, weights and COCO's figures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn
from ppdet.core.config.schema import SchemaDict
from ppdet.core.workspace import create
from ppdet.engine import Trainer, set_random_seed
from ppdet.engine.callbacks import Callback
from ppdet.metrics import COCOMetric

from cyclemlp.dense.compat import apply_patches, in_words
from cyclemlp.dense.det.configuration import Configuration, read_categories
from cyclemlp.dense.det.quiet import no_prints, warnings_only
from cyclemlp.dense.detections import Category, Detections, run_lengths
from cyclemlp.dense.images import read_image
from cyclemlp.dense.loading import checked_loading
from cyclemlp.errors import ConfigError, CycleMLPError, WeightsError
from cyclemlp.files import write_text
from cyclemlp.models import fill
from cyclemlp.run import run_folder
from cyclemlp.text import counted, printable, shortened
from cyclemlp.weights import read_weights

CATEGORIES = "categories.json"
#: What the engine raises for values that it did not expect; not those of the system, of memory and of connections.
ENGINE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError)
LONGEST_REASON = 300


@contextlib.contextmanager
def engine(say: Callable[[str], None]) -> Iterator[None]:
    """Within it, the engine works under this Paddle, and speaks from warnings on, on stderr.

    Args:
        say: takes a sentence on which patches are in force.
    """
    if patches := apply_patches("ppdet"):
        say(in_words(patches))
    with warnings_only(), checked_loading():
        yield


def make_trainer(
    config: Configuration, mode: str, *, device: str = "cpu", seed: int = 0, pretrained: bool = True
) -> Trainer:
    """The engine's trainer with its model; data sets are read where the mode needs them.

    Args:
        mode: "train" or "test" (no data set is read).
        device: what Paddle computes on, such as "gpu:0".
        seed: of the weights, of the order of the images and of their augmentation.
        pretrained: give the backbone its `pretrained` weights; False where others take their place at once.

    Raises:
        ConfigError: the engine cannot build what is configured.
    """
    cfg = config.activate()
    cfg.use_gpu = device.startswith("gpu")
    if not pretrained:
        for module in cfg.values():
            if isinstance(module, SchemaDict) and "pretrained" in module:
                module["pretrained"] = None
    set_random_seed(seed)
    with contextlib.nullcontext() if pretrained else no_prints():  # it tells how the backbone begins
        cfg.model = build_model(config)
    with refusals(config, "trainer"), no_prints():
        return Trainer(cfg, mode=mode)


@contextlib.contextmanager
def refusals(config: Configuration, what: str) -> Iterator[None]:
    """Within it, what the engine raises where it builds or runs what was configured is a ConfigError.

    Args:
        what: is built, such as "trainer".
    """
    try:
        yield
    except CycleMLPError:  # ours: it says everything
        raise
    except ENGINE_ERRORS as error:
        raise ConfigError(
            f"{config.path}: PaddleDetection cannot build its {what}: {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """What the engine's error says, in a line."""
    text = printable(" ".join(str(error).split()), lines=False)
    return shortened(f"{type(error).__name__}: {text}", LONGEST_REASON)


def build_model(config: Configuration) -> nn.Layer:
    """The network of the active configuration.

    Raises:
        ConfigError: a module is unknown or its options do not fit.
    """
    with refusals(config, config.architecture):
        return create(config.architecture)


def load_all(model: nn.Layer, path: Path) -> None:
    """Give the model all its weights, strictly.

    Args:
        path: a .pdparams file, or a run's folder or checkpoint, see `cyclemlp.run.find_weights`.

    Raises:
        WeightsError: it cannot be read, or any tensor is missing, unexpected or of another shape.
    """
    fill(model, read_weights(path, layout="paddle"))


def load_start(model: nn.Layer, path: Path) -> str:
    """Give the model what fits of a detector's weights, as the configuration's `pretrain_weights` asks.

    Returns:
        What was loaded and what was not, for people.

    Raises:
        WeightsError: it cannot be read, or nothing fits.
    """
    tensors = read_weights(path, layout="paddle").tensors
    state = model.state_dict()
    fitting = {n: t for n, t in tensors.items() if n in state and tuple(state[n].shape) == t.shape}
    if not fitting:
        raise WeightsError(
            f"{path}: none of its {counted(len(tensors), 'tensor')} fits this detector; is it one of a backbone? Give "
            "that as the backbone's `pretrained`"
        )
    for name, tensor in fitting.items():
        state[name].set_value(tensor)
    lines = [f"{len(fitting)} of {counted(len(state), 'tensor')} loaded from {path}"]
    for what, names in (
        ("of another shape, left as initialised", [n for n in tensors if n in state and n not in fitting]),
        ("not in the file, left as initialised", [n for n in state if n not in tensors]),
        ("not used", [n for n in tensors if n not in state]),
    ):
        if names:
            lines.append(f"  {what}: {', '.join(names)}")
    return "\n".join(lines)


def write_categories(categories: Sequence[Category], folder: Path) -> None:
    """Keep the classes' names with a run, so that prediction needs no data set."""
    content = {"categories": [{"id": c.id, "name": c.name} for c in categories]}
    write_text(folder / CATEGORIES, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def find_categories(config: Configuration, weights: Path) -> list[Category]:
    """The classes' ids and names: those of the weights' run, else of the configuration's data set, else numbers."""
    beside = run_folder(weights) / CATEGORIES
    if beside.is_file():
        found = read_categories(beside)
        if len(found) != config.num_classes:
            raise ConfigError(
                f"{beside} names {counted(len(found), 'class')}, and num_classes of {config.path} is "
                f"{config.num_classes}"
            )
        return found
    named = config.categories_for_test()
    return named or [Category(i + 1, str(i + 1)) for i in range(config.num_classes)]


# ---- COCO's figures


@dataclass(frozen=True)
class Figures:
    """COCO's average precision, each from 0 to 1; None where the truth has no object of a kind.

    Attributes:
        values: name → figure: bbox_ap (over IoU 0.50 to 0.95), bbox_ap50, bbox_ap75, bbox_ap_small, _medium, _large
            and bbox_ar (recall with 100 finds an image), and the same with mask_ where there are masks.
        per_class: class name → {"objects", "bbox_ap", "bbox_ap50", "mask_ap", "mask_ap50"}.
        images, objects: how many there are.
    """

    values: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]
    images: int
    objects: int


_STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8}


class CocoFigures(COCOMetric):
    """The engine's COCO metric; it writes bbox.json and mask.json into a folder instead of the current one, and has
    the figures a class without drawing.

    Args:
        annotations: the COCO file with the truth.
        folder: where to write.
        masks: whether masks are measured.
    """

    def __init__(self, annotations: Path, categories: Sequence[Category], folder: Path, masks: bool) -> None:
        from pycocotools.coco import COCO

        self.figures: Figures | None = None
        self._folder, self._masks = folder, masks
        super().__init__(
            anno_file=str(annotations), clsid2catid={i: category.id for i, category in enumerate(categories)}
        )
        with no_prints():
            self._truth = COCO(str(annotations))
            # COCO's program takes an object of id 0, where many annotation programs begin, for one never found.
            for number, entry in enumerate(self._truth.dataset["annotations"], start=1):
                entry["id"] = number
            self._truth.createIndex()

    def update(self, inputs: Any, outputs: Any) -> None:
        """Take the finds of a batch; the engine's RetinaNet leaves boxes that reach outside of the image."""
        known = len(self.results["bbox"])
        super().update(inputs, outputs)
        for find in self.results["bbox"][known:]:
            image = self._truth.imgs[find["image_id"]]
            x, y, w, h = find["bbox"]
            x0, x1 = (min(max(v, 0.0), float(image["width"])) for v in (x, x + w))
            y0, y1 = (min(max(v, 0.0), float(image["height"])) for v in (y, y + h))
            find["bbox"] = [x0, y0, x1 - x0, y1 - y0]

    def images(self) -> list[tuple[int, str]]:
        """Id and file name of each image."""
        return [(image["id"], image["file_name"]) for image in self._truth.imgs.values()]

    def add(self, image_id: int, found: Detections) -> None:
        """Take the finds of an image, whose labels are places in the categories."""
        for i, label in enumerate(found.labels.tolist()):
            x0, y0, x1, y1 = map(float, found.boxes[i])
            find = {
                "image_id": image_id,
                "category_id": self.clsid2catid[label],
                "score": float(found.scores[i]),
            }
            self.results["bbox"].append({**find, "bbox": [x0, y0, x1 - x0, y1 - y0]})
            if self._masks and found.masks is not None:
                self.results["mask"].append({**find, "segmentation": run_lengths(found.masks[i])})

    def accumulate(self) -> None:
        """Measure all that `update` and `add` were given."""
        values: dict[str, float | None] = {}
        per_class: dict[str, dict[str, float | None]] = {
            category["name"]: {"objects": len(self._truth.getAnnIds(catIds=[category["id"]], iscrowd=False))}
            for category in self._truth.dataset["categories"]
        }
        for kind, style in (("bbox", "bbox"), ("mask", "segm"))[: 2 if self._masks else 1]:
            write_text(self._folder / f"{kind}.json", json.dumps(self.results[kind]))
            self._measure(kind, style, values, per_class)
        self.figures = Figures(
            values, per_class, len(self._truth.getImgIds()), len(self._truth.getAnnIds(iscrowd=False))
        )
        self.eval_results = {
            kind: [values[f"{kind}_ap"]] for kind in ("bbox", "mask") if f"{kind}_ap" in values
        }

    def _measure(
        self,
        kind: str,
        style: str,
        values: dict[str, float | None],
        per_class: dict[str, dict[str, float | None]],
    ) -> None:
        from pycocotools.cocoeval import COCOeval

        finds = self.results[kind]
        with no_prints():
            if finds:
                measure = COCOeval(self._truth, self._truth.loadRes(finds), style)
                measure.evaluate()
                measure.accumulate()
                measure.summarize()
        for name, place in _STATS.items():
            # Without finds COCO's program stops before it looks whether there are objects.
            figure = float(measure.stats[place]) if finds else 0.0
            values[f"{kind}_{name}"] = figure if figure >= 0 else None
        for k, category in enumerate(self._truth.dataset["categories"]):
            row = per_class[category["name"]]
            # precision: IoU thresholds, recall levels, classes, areas, most finds an image
            precision = measure.eval["precision"][:, :, k, 0, -1] if finds else np.zeros((10, 101))
            for name, part in (("ap", precision), ("ap50", precision[0])):
                known = part[part > -1]
                row[f"{kind}_{name}"] = float(known.mean()) if known.size and row["objects"] else None


class Evaluation:
    """Measures the trainer's model on "EvalDataset" by the engine's own loop; may be called again as training goes on.

    Args:
        config: its active configuration.
        folder: where bbox.json and mask.json go.
    """

    def __init__(self, config: Configuration, folder: Path) -> None:
        categories = config.categories("EvalDataset")
        files = config.data("EvalDataset")
        with refusals(config, "EvalReader"), no_prints():
            dataset = create("EvalDataset")()
            dataset.check_or_download_dataset()
            dataset.parse_dataset()
            sampler = paddle.io.BatchSampler(dataset, batch_size=_batch_size("EvalReader"))
            self._loader = create("EvalReader")(dataset, _workers(), sampler)
        self._metric = CocoFigures(files.annotations, categories, folder, config.has_masks())

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._loader)

    def __call__(self, trainer: Trainer, *, on_batch: Callable[[], object]) -> Figures:
        """COCO's figures of the model as it is; `on_batch` is called after each batch."""
        before = trainer._metrics, trainer._compose_callback, trainer.status
        trainer._metrics, trainer._compose_callback = [self._metric], _EachBatch(on_batch)
        trainer.status = {}
        try:
            with paddle.no_grad():
                trainer._eval_with_loader(self._loader)
        finally:
            trainer._metrics, trainer._compose_callback, trainer.status = before
        assert self._metric.figures is not None
        return self._metric.figures


def evaluate_exported(
    config: Configuration,
    detector: Callable[[np.ndarray], Detections],
    folder: Path,
    *,
    on_image: Callable[[], object] = lambda: None,
) -> Figures:
    """COCO's figures of a detector that prepares images itself, on "EvalDataset"; within `engine()`.

    Args:
        config: of the data.
        detector: image → its objects, all of them whatever their score.
        folder: where bbox.json and mask.json go.
        on_image: called after each image.

    Raises:
        ConfigError, DataError: the data set is not described, or an image cannot be read.
    """
    files, categories = config.data("EvalDataset"), config.categories("EvalDataset")
    metric = CocoFigures(files.annotations, categories, folder, config.has_masks())
    for image_id, name in metric.images():
        found = detector(np.asarray(read_image(files.images / name)))
        metric.add(image_id, found)
        on_image()
    metric.accumulate()
    assert metric.figures is not None
    return metric.figures


class _EachBatch(Callback):
    def __init__(self, on_batch: Callable[[], object]) -> None:
        super().__init__(None)
        self._on_batch = on_batch

    def on_step_end(self, status: dict[str, Any]) -> None:
        self._on_batch()


def _batch_size(reader: str) -> int:
    from ppdet.core.workspace import global_config

    return int(global_config[reader]["batch_size"])


def _workers() -> int:
    from ppdet.core.workspace import global_config

    return int(global_config.get("worker_num") or 0)

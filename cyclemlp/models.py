"""Models by name: where the table of variants, the network and weight files meet."""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclemlp.errors import ModelError, WeightsError
from cyclemlp.kernels import select_kernels
from cyclemlp.metadata import CLASSIFICATION, FORMAT, MULTI_LABEL
from cyclemlp.network import (
    VARIANTS,
    CycleMLP,
    CycleMLPConfig,
    Variant,
    build_network,
    canonical_name,
    count_macs,
    parameter_count,
)
from cyclemlp.network.config import did_you_mean
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.run import BEST_PADDLE, MODEL_PADDLE, RECIPE, run_folder
from cyclemlp.text import counted
from cyclemlp.weights import (
    MatchReport,
    WeightFile,
    architecture_differences,
    match_weights,
    pretrained_file,
    pretrained_tags,
    read_architecture,
    read_weights,
    write_weights,
)

if TYPE_CHECKING:
    from paddle import nn

#: Of a file that no run of ours wrote.
_CONFIRMED = (
    "what was assumed of {} holds for this file as far as names and shapes show; whether its accuracy is the published "
    "one, only an evaluation can show"
)


@dataclass
class ModelMetadata:
    """What a weight file must carry, beside the architecture, so that a stranger can use the model.

    Attributes:
        model: registered name, as `create_model` takes it.
        preprocessing: how images become its input.
        classes: names of the classes in the order of the logits, if known.
        task: "classification", or "multi-label classification" where each class has a probability of its own.
        thresholds: of such a model, the probability from which on each class counts as a label; None for 0.5.
    """

    model: str
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: list[str] | None = None
    task: str = CLASSIFICATION
    thresholds: list[float] | None = None


#: Settings that say how a network is used or trained, not what it is: of a weight file's they are not taken over.
_OF_USE = frozenset({"drop_rate", "drop_path_rate", "features_only", "out_indices", "recompute"})


def list_models(filter: str = "", pretrained: bool = False) -> list[str]:
    """Names that `create_model` takes, smallest first within a family.

    Args:
        filter: a shell pattern that the names must match, such as "*_b[1-5]"; empty for all.
        pretrained: only those that `create_model(name, pretrained=True)` finds weights of: the authors', or small ones
            of this package.
    """
    pattern = filter or "*"
    return [
        name
        for name in VARIANTS
        if fnmatch.fnmatchcase(name, pattern) and (not pretrained or pretrained_tags(name))
    ]


def create_model(
    name: str,
    pretrained: bool | str | os.PathLike[str] | None = None,
    *,
    kernels: str | None = None,
    **overrides: Any,
) -> CycleMLP:
    """Make a model by name.

    Args:
        name: one of `list_models()`; Paddle-CycleMLP's spelling, `CycleMLP_B1`, is accepted too.
        pretrained: "published" for the authors' weights (fetched once, then cached), "cifar10" for small ones of this
            package, True for the first of these that the variant has; or the path of a weight file in any form that
            `cyclemlp.weights` reads, or of a run's folder. What is not overridden, the number of classes above all,
            is as the file has it; the metadata, too, if it is of this variant.
        kernels: "auto" or "plain", see `cyclemlp.kernels.select_kernels`; None for what the environment says.
        overrides: values of `CycleMLPConfig` that differ from the variant's: num_classes, in_chans,
            embed_dims, depths, mlp_ratios, step_size, patch_size, patch_stride, patch_norm, downsample, drop_rate,
            drop_path_rate, features_only, out_indices, branches, gate, recompute.

    Returns:
        The network, in training mode, with `.config` and `.metadata`. It takes `[B, in_chans, H, W]`
        and gives logits `[B, num_classes]`, or a list of feature maps if `features_only`.

    Raises:
        ModelError: for an unknown name or override, or an impossible value.
        WeightsError: if the weights cannot be had, read or do not fit.

    Warns:
        UserWarning: a head that starts at random, because the file has none or one of another number of classes; a
            stem that was adapted to another number of channels; a file's head of other classes than the variant's.
    """
    config, metadata = describe_model(name, **overrides)  # mistakes are found before any file is read
    if not pretrained:
        return _built(config, metadata, kernels)
    file = read_weights(pretrained_file(metadata.model, pretrained))
    ours = file.metadata.get("model") == metadata.model
    theirs = dict(file.metadata.get("overrides") or {}) if ours else {}
    head = file.tensors.get("head.bias")
    if head is not None and head.ndim == 1:
        theirs.setdefault("num_classes", len(head))
    taken = {key: value for key, value in theirs.items() if key not in _OF_USE}
    config, metadata = describe_model(name, **{**taken, **overrides})
    model = _built(config, metadata, kernels)
    report = load_weights(model, file)
    if ours:
        adopt_metadata(model, file)
    if report.reinitialised or report.adapted:
        warnings.warn(report.changes(), stacklevel=2)
    elif not ours and config.num_classes != describe_model(name, **overrides)[0].num_classes:
        warnings.warn(
            f"{file.path} has a head of {counted(config.num_classes, 'class')}, which the model takes over; for a new "
            "head give num_classes",
            stacklevel=2,
        )
    return model


def _built(config: CycleMLPConfig, metadata: ModelMetadata, kernels: str | None = None) -> CycleMLP:
    model = select_kernels(build_network(config), kernels)
    model.metadata = metadata
    return model


def adopt_metadata(model: CycleMLP, file: WeightFile) -> None:
    """Give a model the preprocessing and the classes, with what they are for, of a file of ours, where they fit its
    input and its head.

    Raises:
        WeightsError: the file has another number of thresholds than of classes, or thresholds of another task.
    """
    if file.metadata.get("preprocessing"):
        preprocessing = Preprocessing.from_dict(file.metadata["preprocessing"])
        if preprocessing.channels == model.config.in_chans:
            model.metadata.preprocessing = preprocessing
    classes = file.metadata.get("classes")
    if classes is not None and len(classes) == model.config.num_classes:
        model.metadata.classes = list(classes)
    head = file.tensors.get("head.bias")
    if head is not None and len(head) == model.config.num_classes:  # else it starts anew
        model.metadata.task = file.metadata.get("task", CLASSIFICATION)
        thresholds = file.metadata.get("thresholds")
        if thresholds is not None and len(thresholds) != len(head):
            raise WeightsError(
                f"{file.path} has {counted(len(thresholds), 'threshold')} for {counted(len(head), 'class')}"
            )
        if thresholds is not None and model.metadata.task != MULTI_LABEL:
            raise WeightsError(
                f"{file.path} has thresholds, which belong to the task {MULTI_LABEL!r}, and its task is "
                f"{model.metadata.task!r}; the metadata are damaged"
            )
        model.metadata.thresholds = thresholds


def describe_model(name: str, **overrides: Any) -> tuple[CycleMLPConfig, ModelMetadata]:
    """What `create_model` would build, for who builds a network of another class over it.

    Raises:
        ModelError: for an unknown name or override, or an impossible value.
    """
    variant = _variant(name)
    config = variant.config.replace(overrides)
    preprocessing = _preprocessing_for(variant.preprocessing, config.in_chans)
    return config, ModelMetadata(canonical_name(name), preprocessing)


def load_weights(
    model: CycleMLP, path: str | os.PathLike[str] | WeightFile, *, layout: str | None = None
) -> MatchReport:
    """Load a weight file into a model, strictly.

    Only a changed `num_classes` or `in_chans` is adapted, and the feature form's own norms may be missing;
    the report says so. Nothing is loaded if anything else is missing, unexpected or mis-shaped.

    Args:
        model: from `create_model`.
        path: a weight file in any form, or a folder of one of our runs; or what `read_weights` returned.
        layout: "authors" or "paddle", for the rare file whose tensors do not tell.

    Returns:
        What was loaded and what was adapted; `print` it.

    Raises:
        WeightsError: if the file cannot be read or does not fit; lists every tensor that does not.
    """
    file = path if isinstance(path, WeightFile) else read_weights(Path(path), layout=layout)
    return fill(model, file, adaptable=_adaptable(model.config, file.tensors))


def fill(network: nn.Layer, file: WeightFile, *, adaptable: Mapping[str, str] | None = None) -> MatchReport:
    """Give any network, not only ours, the tensors of a weight file; strictly, but for `adaptable`.

    Args:
        network: whose `state_dict` names the tensors.
        adaptable: which tensors need not match, and what may happen to each, see `match_weights`.

    Raises:
        WeightsError: the file does not fit; lists every tensor that does not. Nothing was loaded then.
    """
    state = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    steps, name = {}, None
    if isinstance(network, CycleMLP):
        steps = dict(zip(("sfc_h", "sfc_w"), network.config.step_sizes, strict=True))
        name = network.metadata.model if network.metadata else None
    tensors, report = match_weights(file, expected, adaptable=adaptable, step_sizes=steps, claim=_claim(name))
    _warn_of_not_finite(file.path, tensors)
    if name and VARIANTS[name].inferred and "model" not in file.metadata:
        report = replace(report, notes=(*report.notes, _CONFIRMED.format(name)))
    for name, tensor in tensors.items():
        state[name].set_value(tensor.astype(state[name].numpy().dtype, copy=False))
    return report


def _warn_of_not_finite(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    bad = {
        n: count
        for n, t in tensors.items()
        if t.dtype.kind == "f" and (count := t.size - np.isfinite(t).sum())
    }
    if bad:
        count = sum(bad.values())
        warnings.warn(
            f"{path}: {counted(count, 'number')} of {counted(len(bad), 'tensor')} {'is' if count == 1 else 'are'} NaN "
            f"or infinite, the first in {next(iter(bad))}: the network will give no finite results. Had its "
            "training diverged?",
            stacklevel=4,
        )


def save_model(
    model: CycleMLP, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a model's weights and metadata, atomically.

    Args:
        path: `.safetensors` (the metadata lies in the file) or `.pdparams` (it lies beside it, in a `.json`
            of the same stem).
        extra: more JSON values to keep with the metadata, such as the epoch.

    Raises:
        WeightsError: for another suffix, or a folder that cannot be written.
    """
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "model": model.metadata.model,
        "overrides": model.config.differences(_variant(model.metadata.model).config),
        "preprocessing": model.metadata.preprocessing.to_dict(),
        "classes": model.metadata.classes,
        **({} if model.metadata.task == CLASSIFICATION else {"task": model.metadata.task}),
        **({} if model.metadata.thresholds is None else {"thresholds": model.metadata.thresholds}),
    }
    write_weights(Path(path), tensors, metadata={**metadata, **(extra or {})})


def load_model(path: str | os.PathLike[str] | WeightFile) -> CycleMLP:
    """Make the model that a file or run folder of ours describes, with its weights and metadata, in evaluation mode.

    Args:
        path: the file, the run's folder or a checkpoint in it, or what `read_weights` returned.

    Raises:
        WeightsError: if it cannot be read, or says nothing of its model (a published file, say: use
            `create_model(name, pretrained=path)`).
    """
    file = path if isinstance(path, WeightFile) else read_weights(Path(path))
    facts = file.metadata
    if "model" not in facts:
        if file.path.name in (BEST_PADDLE, MODEL_PADDLE) and (run_folder(file.path) / RECIPE).is_file():
            raise WeightsError(
                f"{file.path} is of a run of segmentation or detection: use `cyclemlp seg` or `cyclemlp det` with it, "
                "or export it by them for other programs"
            )
        raise WeightsError(
            f"{file.path} holds weights but not the model's name; use create_model(name, pretrained=path) "
            "or, on the command line, --model NAME --weights FILE"
        )
    if facts.get("format") != FORMAT:
        raise WeightsError(
            f"{file.path} has metadata of format {facts.get('format')}; this version reads {FORMAT}: "
            "upgrade paddle-cyclemlp"
        )
    # Not create_model, whose `pretrained` would read other files.
    variant, overrides = _variant(facts["model"]), facts.get("overrides", {})
    try:
        config = variant.config.replace(overrides)
    except ModelError as error:
        raise WeightsError(f"{file.path} has metadata that describe no model: overrides: {error}") from None
    preprocessing = _preprocessing_for(variant.preprocessing, config.in_chans)
    model = _built(config, ModelMetadata(canonical_name(facts["model"]), preprocessing))
    fill(model, file)  # the file says what it needs, so nothing is adapted
    adopt_metadata(model, file)
    model.eval()
    return model


def model_info(name: str, **overrides: Any) -> dict[str, Any]:
    """Facts of a variant, as JSON values.

    Returns:
        name, from_paper and inferred (whether it is), architecture, parameters (a count), macs (of one
        image of `input_size`), input_size (pixels of a square's
        side, or height and width), strides (pixels), preprocessing, and what was published of it.

    Raises:
        ModelError: for an unknown name or override.
    """
    variant = _variant(name)
    config = variant.config.replace(overrides)
    preprocessing = _preprocessing_for(variant.preprocessing, config.in_chans)
    return {
        "name": canonical_name(name),
        "from_paper": variant.from_paper,
        "inferred": variant.inferred,
        "architecture": config.to_dict(),
        "parameters": parameter_count(config),
        "macs": count_macs(config, preprocessing.input_height, preprocessing.input_width),
        "input_size": preprocessing.to_dict()["input_size"],
        "strides": list(config.strides),
        "preprocessing": preprocessing.to_dict(),
        "published": {
            "parameters_millions": variant.params_published,
            "macs_billions": variant.macs_published,
            "top1_percent": variant.top1_published,
            "reproduced_top1_percent": variant.reproduced_top1,
            "reproduced_top5_percent": variant.reproduced_top5,
            "reproduced_loss": variant.reproduced_loss,
            "weights_file": variant.weights,
        },
    }


def identify(file: WeightFile) -> dict[str, Any] | None:
    """The variant that is nearest to a file which does not name its model, and whether every tensor fits it.

    Args:
        file: from `read_weights`.

    Returns:
        None if the tensors are not a CycleMLP's. Else, as JSON values, `architecture`, as far as they tell; `variant`;
        `fits`; `match`, the report of loading or why nothing was loaded; `differences` in the architecture.
    """
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    found = {name: trait.value for name, trait in read_architecture(shapes).items()}
    if not found:
        return None

    def distance(name: str) -> tuple[int, int]:
        theirs = VARIANTS[name].config.to_dict()
        other = [key for key, value in found.items() if value != theirs[key]]
        return sum(key in ("embed_dims", "depths") for key in other), len(other)

    model = create_model(min(VARIANTS, key=distance))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        fits, match = True, "; ".join(line.strip() for line in str(load_weights(model, file)).splitlines())
    except WeightsError as error:
        fits, match = False, str(error).partition("\n")[0]
    return {
        "architecture": found,
        "variant": model.metadata.model,
        "fits": fits,
        "match": match,
        "differences": architecture_differences(shapes, expected, _claim(model.metadata.model)),
    }


def _claim(name: str | None) -> str:
    """How a sentence on a model's architecture begins."""
    if name is None:
        return "the model has"
    return f"{name} is assumed to have" if VARIANTS[name].inferred else f"{name} has"


def _variant(name: str) -> Variant:
    try:
        return VARIANTS[canonical_name(name)]
    except KeyError:
        raise ModelError(
            f"unknown model {name!r}{did_you_mean(canonical_name(name), list(VARIANTS))}; "
            f"the known ones are {', '.join(VARIANTS)}"
        ) from None


def _preprocessing_for(preprocessing: Preprocessing, in_chans: int) -> Preprocessing:
    """The variant's own, or, for another number of channels, mean and standard deviation 0.5 each."""
    if in_chans == preprocessing.channels:
        return preprocessing
    values = {**preprocessing.to_dict(), "mean": [0.5] * in_chans, "std": [0.5] * in_chans}
    return Preprocessing.from_dict(values)


def _adaptable(config: CycleMLPConfig, names: Iterable[str]) -> dict[str, str]:
    """Which tensors need not match, and what may happen to each (see `match_weights`).

    Args:
        names: of the file's tensors.
    """
    adaptable = {"patch_embed.proj.weight": "input"}
    no_place: tuple[str, ...] = ()
    if config.features_only:
        # A classifier's file has no norms of the maps: they start as initialised.
        adaptable |= {f"norm{2 * i}.{kind}": "new" for i in config.out_indices for kind in ("weight", "bias")}
        unused_maps = tuple(f"norm{2 * i}." for i in range(4) if i not in config.out_indices)
        unused_stages = tuple(f"network.{i}." for i in range(2 * config.stages - 1, 7))
        no_place = ("norm.", "head.", *unused_maps, *unused_stages)
    elif config.num_classes:
        adaptable |= {"head.weight": "head", "head.bias": "head"}
    else:
        no_place = ("head.",)
    return adaptable | {name: "ignore" for name in names if no_place and name.startswith(no_place)}

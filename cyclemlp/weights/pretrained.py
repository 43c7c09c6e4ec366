"""Which pretrained weights there are of a variant: the authors', which are fetched, and small ones in this package."""

from __future__ import annotations

import os
from pathlib import Path

from cyclemlp.errors import WeightsError
from cyclemlp.weights.download import PUBLISHED, fetch_pretrained

#: The authors' weights, trained on ImageNet.
PUBLISHED_TAG = "published"
#: Files of this package, named VARIANT.TAG.safetensors, where TAG is what they were trained on.
BUNDLED = Path(__file__).with_name("bundled")


def bundled_weights(name: str) -> dict[str, Path]:
    """The weight files of a variant in this package, by tag."""
    return {path.suffixes[-2][1:]: path for path in sorted(BUNDLED.glob(f"{name.lower()}.*.safetensors"))}


def pretrained_tags(name: str | None = None) -> list[str]:
    """Tags of the pretrained weights of a variant, the default first; without a name, of any variant."""
    if name is None:
        return [PUBLISHED_TAG, *sorted({path.suffixes[-2][1:] for path in BUNDLED.glob("*.safetensors")})]
    return [PUBLISHED_TAG] * (name.lower() in PUBLISHED) + list(bundled_weights(name))


def pretrained_file(name: str, which: bool | str | os.PathLike[str]) -> Path:
    """The weight file that `pretrained=which` means for a variant.

    Args:
        name: the variant, in any case.
        which: True for its default weights; a tag such as "published" (fetched once, then cached) or "cifar10" (in this
            package); else the path of a file or of a run's folder, which is returned as it is.

    Raises:
        WeightsError: there are none of this variant, or they cannot be had.
    """
    tags = pretrained_tags(name)
    tag = (tags[0] if tags else None) if isinstance(which, bool) else str(which)
    if tag == PUBLISHED_TAG and tag in tags:
        return fetch_pretrained(name)
    if tag in tags:
        return bundled_weights(name)[str(tag)]
    if not isinstance(which, bool) and (tag not in pretrained_tags() or Path(which).exists()):
        return Path(which)
    variants = {known: [n for n in _names() if known in pretrained_tags(n)] for known in pretrained_tags()}
    raise WeightsError(
        f"there are no {'pretrained' if isinstance(which, bool) else tag} weights of {name.lower()}"
        + "".join(f", only {' and '.join(tags)} ones" for _ in tags[:1])
        + "".join(f"; {known} weights: {', '.join(names)}" for known, names in variants.items() if names)
    )


def _names() -> list[str]:
    return [*PUBLISHED, *sorted({path.name.split(".")[0] for path in BUNDLED.glob("*.safetensors")})]

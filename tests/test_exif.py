"""Photographs that are stored turned, as telephones do, are the same images as upright ones, in every task.

Each of the eight orientations of EXIF is stored in several formats; the upright reference is a PNG of the same pixels.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from seg_fixtures import config_values, write_config, write_data

import cyclemlp
import cyclemlp.dense
from cyclemlp.data import ImageFiles, evaluation_transform
from cyclemlp.data.images import EncodedImage, pil_open
from cyclemlp.data.loader import build_loader
from cyclemlp.data.transforms import training_transform
from cyclemlp.dense.images import decode_image, read_image
from cyclemlp.dense.loading import CheckedLoader
from cyclemlp.dense.seg.check import check as check_masks
from cyclemlp.dense.seg.config import Builder, open_config
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.serve import Limits
from cyclemlp.serve.decoder import Decoders

TURNED = Preprocessing(input_size=(32, 48), crop_pct=1.0, exif="apply")
#: Formats whose orientation Pillow can write.
SUFFIXES = (".jpg", ".png", ".webp", ".tif", ".avif")


def store(path: Path, orientation: int, size: tuple[int, int] = (64, 48)) -> Path:
    """An image stored turned; beside it, as `….upright.png`, what it shows. `size` is the upright width and height."""
    width, height = size if orientation < 5 else size[::-1]
    noise = np.random.default_rng(orientation).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).resize((width, height)).save(path, exif=exif)
    with pil_open(path) as image:
        shown = ImageOps.exif_transpose(image).convert("RGB")
    assert shown.size == size
    shown.save(upright_of(path))
    return path


def upright_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.upright.png")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    return [
        store(folder / f"{orientation}{suffix}", orientation)
        for suffix in SUFFIXES
        for orientation in range(1, 9)
    ]


def test_each_reader_sees_the_upright_image(photographs: list[Path]) -> None:
    import paddleseg.transforms as seg
    from ppdet.data.transform.operators import Decode

    assert {patch.engine for patch in cyclemlp.dense.patch()} == {"paddleseg", "ppdet"}
    for path in photographs:
        upright = np.asarray(Image.open(upright_of(path)))
        content = path.read_bytes()
        found = {
            "seg and det commands": np.asarray(read_image(path)),
            "det from content": np.asarray(decode_image(content, path.name)),
            "PaddleSeg": seg.Compose([])({"img": str(path)})["img"].transpose(1, 2, 0),
            "PaddleDetection": Decode().apply({"im_file": str(path)})["image"],
            "classification, whole": np.asarray(EncodedImage(path, "here").upright_part((0, 0, 64, 48), 3)),
        }
        for reader, pixels in found.items():
            assert np.array_equal(pixels, upright), (path.name, reader)
        assert EncodedImage(path, "here").upright_size == (64, 48)


@pytest.mark.parametrize("training", [True, False])
def test_batches_of_training_and_evaluation(photographs: list[Path], training: bool) -> None:
    transform = training_transform(TURNED) if training else evaluation_transform(TURNED)
    batches = []
    for paths in (photographs, [upright_of(path) for path in photographs]):
        loader = build_loader(ImageFiles(paths), transform, batch_size=len(paths), num_workers=0, seed=3)
        batches.append(next(iter(loader)).images)
    assert np.array_equal(*batches)


def test_the_service_decodes_them_upright(photographs: list[Path]) -> None:
    async def decode() -> None:
        async with Decoders(1, Limits(), 3, turned=True) as decoders:
            for path in photographs:
                image = await decoders.decode(path.read_bytes(), path.name)
                assert np.array_equal(np.asarray(image.decode()), np.asarray(Image.open(upright_of(path))))
                assert image.size == image.upright_size == (64, 48)

    asyncio.run(decode())


def test_predictor_sees_them_upright_by_the_models_preprocessing(
    photographs: list[Path], tmp_path: Path
) -> None:
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    model.metadata.preprocessing = TURNED
    cyclemlp.save_model(model, tmp_path / "turned.safetensors")
    predict = cyclemlp.Predictor(tmp_path / "turned.safetensors")
    upright = [upright_of(path) for path in photographs]
    assert [p.classes for p in predict(photographs)] == [p.classes for p in predict(upright)]
    opened = [Image.open(path) for path in photographs]
    assert [p.classes for p in predict(opened)] == [p.classes for p in predict(upright)]


def test_segmentation_data(tmp_path: Path) -> None:
    """The check accepts what training reads, and the engine's data set gives upright images."""
    data = write_data(tmp_path / "data")
    for number in range(4):
        store(data / f"images/{number}.jpg", number + 5)  # on their side
    lines = "".join(f"images/{number}.jpg labels/{number}.png\n" for number in range(4))
    for name in ("train.txt", "val.txt"):
        (data / name).write_text(lines)
    config = open_config(write_config(tmp_path / "seg.yaml", config_values(data)))
    assert [report.errors for report in check_masks(config)] == [[], []]
    (batch,) = CheckedLoader(Builder(config).val_dataset, batch_size=4)
    for number, image in enumerate(batch["img"].numpy()):
        upright = np.asarray(Image.open(upright_of(data / f"images/{number}.jpg"))) / 255
        found = image.transpose(1, 2, 0) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
        assert np.abs(found - upright).max() < 1e-5

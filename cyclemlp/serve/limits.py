"""What the service takes before it refuses: the same figures for its code, its `/model` answer and its docs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cyclemlp.errors import ConfigError

#: Pillow refuses images above this many pixels as decompression bombs (`PIL.Image.MAX_IMAGE_PIXELS`).
MOST_PIXELS = 89_478_485


@dataclass(frozen=True)
class Limits:
    """Limits of one service.

    Attributes:
        body_bytes: of one request, the image and what is around it.
        pixels: width times height of an image, as its header says.
        queue: images being read, prepared, waiting or computed; one more is refused with 503.
        memory_bytes: of all bodies that are held at a time; what goes beyond is refused with 503.
        read_seconds: from a request's first byte to its last.
        batch: most images that the network gets at once.
        wait_seconds: longest wait for more images, and only while other requests are being read or prepared.

    Raises:
        ConfigError: a value that cannot be.
    """

    body_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    queue: int = 256
    memory_bytes: int = 512 * 2**20
    read_seconds: float = 15.0
    batch: int = 8
    wait_seconds: float = 0.005

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "wait_seconds" else 1e-9
            if not least <= value < float("inf"):
                raise ConfigError(f"{field.name} is {value}; give a number above 0")
        if self.pixels > MOST_PIXELS:
            raise ConfigError(
                f"images of {self.pixels / 1e6:g} megapixels are more than Pillow decodes; the limit may be up to "
                f"{MOST_PIXELS / 1e6:.1f}"
            )
        if self.memory_bytes < self.body_bytes:
            raise ConfigError(
                f"memory for {self.memory_bytes:,} bytes of requests; one may have {self.body_bytes:,}: allow more"
            )

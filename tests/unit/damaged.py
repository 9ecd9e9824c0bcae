"""Image files of every kind that can be met, good and bad."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(seed: int = 0) -> Image.Image:
    """Colours that are smooth but for some noise, 96x64, so that its JPEG has a few thousand bytes."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, 96)[None, :, None] + np.array([0, 20, 40])
    return Image.fromarray((ramp + rng.integers(0, 50, (64, 96, 3))).astype(np.uint8))


def encoded(form: str, mode: str = "RGB", frames: int = 1, **options: Any) -> bytes:
    """A photo as a file."""
    out = io.BytesIO()
    more = [photo(i).convert(mode) for i in range(1, frames)]
    photo().convert(mode).save(out, form, **options, **({"save_all": True, "append_images": more} if more else {}))
    return out.getvalue()


def spoilt(data: bytes, junk: bytes) -> bytes:
    """Put ``junk`` into the middle."""
    middle = len(data) // 2
    return data[:middle] + junk + data[middle + len(junk) :]


JPEG, PNG, WEBP, BMP = (encoded(form) for form in ("JPEG", "PNG", "WEBP", "BMP"))
JUNK = np.random.default_rng(0).bytes(256)
GOOD: dict[str, bytes] = {
    "a.jpg": JPEG,
    "b.JPEG": encoded("JPEG", progressive=True),
    "grey.jpg": encoded("JPEG", "L"),
    "tail.jpg": JPEG + bytes(20),
    "two.jpg": encoded("MPO", frames=2),
    "a.png": PNG,
    "rgba.png": encoded("PNG", "RGBA"),
    "palette.png": encoded("PNG", "P"),
    "bits.png": encoded("PNG", "1"),
    "deep.png": encoded("PNG", "I;16"),
    "a.webp": WEBP,
    "a.bmp": BMP,
}
ODD: dict[str, bytes] = {
    "cmyk.jpg": encoded("JPEG", "CMYK"),
    "png.jpg": PNG,
    "tiff.png": encoded("TIFF"),
    "moving.webp": encoded("WEBP", frames=2),
    "moving.png": encoded("PNG", frames=2),
}
"""Good, though not what their names say or what one expects."""
BAD: dict[str, tuple[bytes, str, bool]] = {
    "empty.jpg": (b"", "empty", True),
    "text.jpg": (b"not an image at all", "not an image", True),
    "gif.jpg": (encoded("GIF"), "format", True),
    "moving.jpg": (encoded("GIF", frames=2), "format", True),
    "half.jpg": (JPEG[: len(JPEG) // 2], "damaged", True),
    "endless.jpg": (JPEG[:-2], "damaged", True),
    "half.png": (PNG[: len(PNG) // 2], "damaged", True),
    "endless.png": (PNG[:-12], "damaged", True),
    "half.webp": (WEBP[: len(WEBP) // 2], "damaged", True),
    "half.bmp": (BMP[: len(BMP) // 2], "damaged", True),
    "junk.jpg": (spoilt(JPEG, JUNK), "damaged", False),
    "hole.jpg": (spoilt(JPEG, bytes(256)), "damaged", False),
    "header.jpg": (JPEG[:30] + JUNK + JPEG[300:], "damaged", False),
    "junk.png": (spoilt(PNG, JUNK), "damaged", False),
}
"""By name: the bytes, what they are, and whether header and end show it."""


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a new or old folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder

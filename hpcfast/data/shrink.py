"""Smaller copies of large images, for packs that are read faster."""

import io

from PIL import Image, ImageOps

METHOD = "Lanczos, JPEG quality 95"


def shrunk(data: bytes, short_side: int) -> bytes | None:
    """A JPEG of the image whose shorter side is ``short_side`` pixels; None where it is no longer than that already.

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError: it cannot be decoded.
    """
    with Image.open(io.BytesIO(data)) as image:
        scale = short_side / min(image.size)
        if scale >= 1:
            return None
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of mode {image.mode}, not of 8 bits")
        width, height = (max(short_side, round(side * scale)) for side in image.size)
        # libjpeg may leave out what half of it is thrown away again: as good, and a third of the time.
        image.draft(None, (2 * width, 2 * height))
        colour = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        small = colour.resize((width, height), Image.Resampling.LANCZOS)
        # Readers turn a photograph as its camera says; the copy says nothing any more.
        small = ImageOps.exif_transpose(small)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=95)
        return out.getvalue()

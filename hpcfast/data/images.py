"""How an image file is opened, wherever that is done: which files are refused, and what their pixels are.

DALI decodes ordinary JPEG and PNG files; all others are decoded here, by Pillow, and DALI is handed their pixels.
It must not meet a file whose header it cannot parse: version 2.4.0 then raises while its threads go on with the rest
of the batch, in memory that is freed, and the process dies. What it cannot decode later only raises.
"""

import io
import struct
import warnings
import zlib
from itertools import chain

import numpy as np
from PIL import Image, Jpeg2KImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
}
"""Of the formats that are read, by the names Pillow gives them; what a file is its content tells, not its suffix."""
SUFFIXES = tuple(chain.from_iterable(SUFFIXES_OF.values()))
"""Of the files that are read, in lower case."""
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Of an image; Pillow refuses more, since a file of a few bytes can claim to be of any size."""

# Pillow remarks on what it reads all the same; in threads there is no other way to silence it.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.preinit()  # so that threads find all formats

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_EXIF, _EXIF_MARKER, _ADOBE_MARKER, _SCAN_MARKER = b"Exif\0\0", 0xE1, 0xEE, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LONELY = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}
"""What may follow a 0xFF but begins no segment with a length."""
_SAMPLINGS = {(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)}
"""Of brightness against colour, horizontally and vertically."""
_HARMLESS = {b"IHDR", b"IDAT", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"sRGB", b"cHRM", b"iCCP", b"sBIT"}
"""PNG's chunks that change no pixel, as DALI reads them."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""


class ImageError(Exception):
    """A file that cannot be decoded; the message says why, and ``kind`` in a word."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        """"not an image", "format" (one that is not read) or "damaged"."""


def opened(data: bytes) -> Image.Image:
    """Decode a file, or raise ImageError: upright, mode L or RGB; the same pixels that training and evaluation see."""
    image = parsed(data)
    return turned(coloured(image), image)


def parsed(data: bytes) -> Image.Image:
    """Read a file's header, without decoding; ImageError if it is no image, or of a format that is not read."""
    try:
        image = Image.open(io.BytesIO(data), formats=(*SUFFIXES_OF, "GIF"))
    except UnidentifiedImageError:
        if data.startswith((_JPEG, _PNG)):
            raise ImageError("damaged", "its header is damaged") from None
        raise ImageError("not an image", f"it begins with {data[:8]!r}") from None
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever its parsers stumble over
        raise _damaged(error) from None
    if image.format == "GIF":
        raise ImageError("format", f"it is a GIF; read are {', '.join(SUFFIXES_OF)}")
    return image


def coloured(image: Image.Image) -> Image.Image:
    """Decode an image and convert it to mode L, if it is grey, or RGB; of 16 bits the upper eight count.

    ImageError if it cannot be decoded, or its pixels have no natural black and white. Transparency is dropped.
    """
    try:
        image.load()
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F", "LAB"):
            raise ImageError("format", f"its pixels are of Pillow's mode {image.mode}, not of 8 or 16 bits")
        return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - see parsed()
        raise _damaged(error) from None


def turned(image: Image.Image, original: Image.Image) -> Image.Image:
    """``image`` turned as the EXIF data of ``original`` say; Pillow has turned TIFF files already."""
    turn = _TURNS.get(_orientation(original.info.get("exif", b"")))
    return image if turn is None else image.transpose(turn)


def ready(encoded: np.ndarray) -> np.ndarray:
    """What DALI is to decode, for the bytes of a file, both of shape (bytes,), uint8: it gives ``opened``'s pixels.

    ImageError if it cannot be decoded; damage between the header and the end is not looked for.
    """
    # Without a copy where it can be: for a large file one takes longer than the check.
    data = encoded.base if isinstance(encoded.base, bytes) and len(encoded.base) == len(encoded) else encoded.tobytes()
    if data.startswith(_JPEG) and (plain := _plain_jpeg(data)):
        return encoded if plain is data else np.frombuffer(plain, np.uint8)
    if data.startswith(_PNG) and _is_plain_png(data):
        return encoded
    image = opened(data)
    head = f"P{5 if image.mode == 'L' else 6}\n{image.width} {image.height}\n255\n".encode()
    return np.frombuffer(head + image.tobytes(), np.uint8)


def _damaged(error: Exception) -> ImageError:
    return ImageError("damaged", str(error) or type(error).__name__)


def _plain_jpeg(data: bytes) -> bytes | None:
    """A JPEG as DALI is to have it; None if it is not an ordinary whole one.

    DALI's own reading of EXIF differs from Pillow's where these data are odd, so it finds nothing there but the
    orientation.
    """
    parts: list[bytes] = []
    kept, at, frame, orientation = 0, 2, b"", 1
    while at + 4 <= len(data) and data[at] == 0xFF and (marker := data[at + 1]) not in _LONELY:
        if marker == _SCAN_MARKER:
            if not _is_plain_frame(frame) or data.rfind(b"\xff\xd9", at) < 0:
                return None
            if not parts:
                return data
            return b"".join([data[:2], _exif_segment(orientation), parts[0][2:], *parts[1:], data[kept:]])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end < at + 4:
            return None
        if marker in _FRAMES:
            if marker > 0xC2 or frame:  # arithmetic coding, lossless …
                return None
            frame = data[at + 4 : end]
        elif marker == _EXIF_MARKER and data.startswith(_EXIF, at + 4):
            if not parts:
                orientation = _orientation(data[at + 4 : end])
            parts.append(data[kept:at])
            kept = end
        elif marker == _ADOBE_MARKER and data.startswith(b"Adobe", at + 4) and data[at + 15 : at + 16] != b"\x01":
            return None  # not YCbCr
        at = end
    return None


def _is_plain_frame(frame: bytes) -> bool:
    """Whether a JPEG's frame header is of 8 bits, grey or YCbCr, and of a sampling that DALI knows."""
    if len(frame) < 9 or frame[0] != 8:
        return False
    height, width, components = struct.unpack(">HHB", frame[1:6])
    if not 0 < height * width <= MOST_PIXELS or len(frame) != 6 + 3 * components:
        return False
    if components == 1:
        return True
    if components != 3 or frame[6::3] == b"RGB":
        return False
    luma, *chroma = (divmod(factors, 16) for factors in frame[7::3])
    return luma in _SAMPLINGS and chroma == [(1, 1), (1, 1)]


def _orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none."""
    try:
        found = Image.Exif()
        found.load(exif)
        value = found.get(0x0112)
    except Exception:  # noqa: BLE001 - see parsed()
        return 1
    return value if value in _TURNS else 1


def _exif_segment(orientation: int) -> bytes:
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">H", orientation) + bytes(6)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(_EXIF + tiff)) + _EXIF + tiff


def _is_plain_png(data: bytes) -> bool:
    """Whether a PNG is whole, of 8 bits, grey or RGB, not interlaced, and has nothing that changes its pixels."""
    if len(data) < 33 or data[12:16] != b"IHDR" or data[24] != 8 or data[25] not in (0, 2) or any(data[26:29]):
        return False
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        return False
    view, at = memoryview(data), len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if end > len(data) or zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            return False
        if kind == b"IEND":
            return True
        if kind not in _HARMLESS:
            return False
        at = end
    return False

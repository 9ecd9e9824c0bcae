"""Opening images: Pillow here and DALI in the loader see the same pixels; what is damaged is known before DALI."""

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvidia.dali import fn, pipeline_def, types
from PIL import Image, ImageOps

from hpcfast.data.images import MOST_PIXELS, SUFFIXES, ImageError, opened, ready
from hpcfast.datasets.corrupt import corrupt
from hpcfast.datasets.packs.write import shrunk
from hpcfast.datasets.verify import examine
from tests.unit.damaged import BAD, GOOD, JPEG, ODD, PNG, encoded, photo
from tests.unit.loading import AUGMENTS, by_id, read, settings

SCRIPT = Path(__file__).parents[3] / "campaigns" / "damaged_images.py"


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010F] = orientation, "Maker"
    return found


def deep(form: str) -> bytes:
    """16 bits a pixel."""
    grey = np.asarray(photo().convert("L")).astype(np.uint16)
    out = io.BytesIO()
    Image.fromarray(grey * 257 + 100).save(out, form)
    return out.getvalue()


def files() -> dict[str, bytes]:
    """Images of every format and mode, and turned in every way."""
    found = {f"{mode}.{form.lower()}": encoded(form, mode) for form, modes in {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"), "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
        "BMP": ("1", "L", "P", "RGB"),
        "WEBP": ("RGB", "RGBA"), "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"),
        "PPM": ("1", "L", "RGB"),
        "JPEG2000": ("L", "RGB", "RGBA"),
    }.items() for mode in modes}  # fmt: skip
    found |= {f"deep.{form.lower()}": deep(form) for form in ("PNG", "TIFF", "PPM")}
    found |= {f"{n}.{form.lower()}": encoded(form, exif=exif(n)) for form in ("JPEG", "PNG", "WEBP", "TIFF")
              for n in range(10)}  # fmt: skip
    for name, options in {"progressive": {"progressive": True}, "444": {"subsampling": 0}, "422": {"subsampling": 1},
                          "rgb": {"keep_rgb": True}, "restarts": {"restart_marker_blocks": 1}}.items():  # fmt: skip
        found[f"{name}.jpeg"] = encoded("JPEG", **options)
    found["grey6.jpeg"] = encoded("JPEG", "L", exif=exif(6))
    return found | {f"good-{name}": data for name, data in (GOOD | ODD).items()}


FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_images_stand_upright_and_are_grey_or_rgb(name: str) -> None:
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(FILES[name])) as image:
        upright = ImageOps.exif_transpose(image)
    found = opened(FILES[name])
    assert found.size == upright.size
    if upright.mode.startswith("I"):  # Pillow would cut at 255
        assert found.mode == "L"
        assert np.abs(np.asarray(found) - np.asarray(upright) / 256).max() < 1
    else:
        assert found.mode == ("L" if upright.mode in ("1", "L", "LA") else "RGB")
        assert found.convert("RGB").tobytes() == upright.convert("RGB").tobytes()


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """All files, and beside them PNG files of what ``opened`` makes of them."""
    roots = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("twins")
    for root in roots:
        for where in ("train/a", "train/b", "val/a", "val/b"):
            (root / where).mkdir(parents=True)
            photo().save(root / where / "zzz.png")
    for number, data in enumerate(FILES.values()):
        name = f"train/a/{number:03}.png"
        (roots[0] / name).write_bytes(data)
        opened(data).save(roots[1] / name)
    return roots


@pytest.mark.parametrize("key", [None, 7])
@pytest.mark.parametrize("how", AUGMENTS)
@pytest.mark.parametrize("channels", [3, 1])
def test_the_loader_sees_what_the_opener_sees(
    twins: tuple[Path, Path], how: str, channels: int, key: int | None
) -> None:
    seen, expected = (by_id(read(settings(root, 48, channels, how), key, batch=50, threads=2)) for root in twins)
    assert len(seen) == len(FILES) + 2
    for image, name in enumerate(FILES):
        difference = (255 * (seen[image] - expected[image])).abs()
        if channels == 1 and FILES[name].startswith(b"\xff\xd8") and opened(FILES[name]).mode == "RGB":
            # Grey is this file's own brightness, without the way through RGB, which rounds and cuts.
            assert difference.max() < 20, name  # where noise is cut; 14 was the most
            assert difference.mean() < 1, name
        else:  # DALI makes grey of a PNG and of bare pixels by two libraries, which round differently
            assert difference.max() < (1e-3 if channels == 3 else 2.001), name


def test_all_files_with_a_suffix_that_is_read_have_one_in_pillow() -> None:
    known = Image.registered_extensions()
    assert all(suffix == suffix.lower() and known[suffix] for suffix in SUFFIXES)


BOMB = PNG[:16] + (1 << 20).to_bytes(4) + (1 << 20).to_bytes(4) + PNG[24:]
LIES = JPEG.replace(JPEG[JPEG.index(b"\xff\xc0") :][:9], JPEG[JPEG.index(b"\xff\xc0") :][:5] + b"\xff\xdc\xff\xdc")


@pytest.mark.parametrize("data", [BOMB, LIES], ids=["png", "jpeg"])
def test_files_that_claim_to_be_huge_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        ready(np.frombuffer(data, np.uint8))
    assert MOST_PIXELS < 0xFFDC**2


@pytest.mark.parametrize(
    "data", [encoded("TIFF", "F"), encoded("TIFF", "I"), encoded("TIFF", "LAB")], ids=["F", "I", "LAB"]
)
def test_pixels_without_a_natural_white_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="its pixels are of Pillow's mode"):
        opened(data)


def damages(data: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Cut, overwritten, blanked, doubled."""
    for _ in range(60):
        at, to, size = *rng.integers(0, len(data), 2).tolist(), int(rng.choice([1, 2, 4, 32]))
        head = int(at) % 700
        yield data[:at]
        yield data[:head] + rng.bytes(size) + data[head + size :]
        yield data[:head] + b"\xff" + data[head + 1 :]
        yield data[:at] + bytes(size) + data[at + size :]
        yield data[:at] + data[to : to + size] + data[at:]


@pipeline_def
def headers(source: Any) -> Any:
    return fn.peek_image_shape(fn.external_source(source, dtype=types.UINT8, ndim=1))


@pipeline_def
def whole(source: Any) -> Any:
    return fn.decoders.image(fn.external_source(source, dtype=types.UINT8, ndim=1), output_type=types.RGB)


def fails(graph: Any, image: np.ndarray) -> bool:
    """Whether DALI raises; a batch of one, which it survives."""
    try:
        graph(source=iter([[image]]), batch_size=1, num_threads=1, device_id=None).run()
    except RuntimeError:
        return True
    return False


def test_dali_can_parse_what_it_is_given_and_verify_finds_what_it_cannot_decode(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = [
        "RGB.jpeg",
        "progressive.jpeg",
        "6.jpeg",
        "restarts.jpeg",
        "L.jpeg",
        "RGB.png",
        "L.png",
        "6.png",
        "RGB.webp",
    ]
    given = [(kind, bad) for kind in kinds for bad in damages(FILES[kind], rng)]
    passed = []
    for kind, bad in given:
        try:
            passed.append((kind, bad, ready(np.frombuffer(bad, np.uint8))))
        except ImageError:
            (tmp_path / "bad").write_bytes(bad)
            assert not bad or examine(str(tmp_path / "bad"))[0], kind
    assert 500 < len(passed) < len(given) - 500
    pipe = headers(source=iter([[data for *_, data in passed]]), batch_size=len(passed), num_threads=1, device_id=None)
    pipe.run()  # it raises where one cannot be parsed
    undecodable = 0
    for kind, bad, data in passed[:: len(passed) // 150]:
        if fails(whole, data):
            undecodable += 1
            (tmp_path / "bad").write_bytes(bad)
            assert examine(str(tmp_path / "bad"))[0], kind
    assert undecodable


# Damage inside a file is DALI's to find; a PNG that lacks its end mark and nothing else has all its pixels.
@pytest.mark.parametrize("name", [name for name, (*_, shows) in BAD.items() if shows and name != "endless.png"])
def test_what_shows_at_a_glance_is_not_handed_to_dali(name: str) -> None:
    with pytest.raises(ImageError):
        ready(np.frombuffer(BAD[name][0], np.uint8))


@pytest.mark.parametrize("orientation", [3, 6])
def test_corruptions_and_small_copies_stand_upright(tmp_path: Path, orientation: int) -> None:
    for where in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / "data" / where).mkdir(parents=True)
        (tmp_path / "data" / where / "0.jpg").write_bytes(FILES[f"{orientation}.jpeg"])
    corrupt(tmp_path / "data", tmp_path / "out", names=("brightness",), severities=(1,))
    made = np.asarray(Image.open(tmp_path / "out" / "brightness" / "1" / "a" / "0.png")).astype(int)
    upright = np.asarray(opened(FILES[f"{orientation}.jpeg"])).astype(int)
    assert np.corrcoef(made.ravel(), upright.ravel())[0, 1] > 0.95
    small = shrunk(FILES[f"{orientation}.jpeg"], 32)
    assert small is not None
    expected = opened(FILES[f"{orientation}.jpeg"]).resize(opened(small).size)
    assert np.corrcoef(np.asarray(opened(small)).ravel(), np.asarray(expected).ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_one_damaged_image_in_a_large_batch_is_named_and_crashes_nothing() -> None:
    command = [sys.executable, str(SCRIPT), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]

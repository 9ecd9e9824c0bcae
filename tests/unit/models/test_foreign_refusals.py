"""Weights of others: what is refused, and in which words."""

import argparse
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from hpcfast.errors import UserError
from hpcfast.models import pretrained
from tests.unit.weights import GIVEN, Save, resnet, saving, small


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    return saving(tmp_path)


def refused(path: Path, arch: str | None, *parts: str, **settings: Any) -> None:
    """Assert that loading ``path`` is refused in a message that holds ``parts``."""
    with pytest.raises(UserError) as caught:
        pretrained.load(path, arch, **{**GIVEN, **settings})
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "Traceback" not in message


class Malice:
    """Touches a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_named_and_not_run(zipped: bool, tmp_path: Path) -> None:
    path, victim = tmp_path / "evil.pt", tmp_path / "victim"
    content = {"model": small().state_dict(), "extra": Malice(victim)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, "cifar_resnet8", str(path), "holds code", f"{os.name}.mkdir", "Save the weights anew", "torch.save")
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.is_dir(), "this file would not have done anything anyway"


def test_objects_of_robustness_are_named(saved: Save) -> None:
    refused(saved({"model": small().state_dict(), "args": argparse.Namespace()}), "cifar_resnet8", "argparse.Namespace")
    refused(saved(small()), "cifar_resnet8", "hpcfast.models.networks.cifar_resnet.CifarResNet")


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_half_a_file_is_refused(kind: str, part: float, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "half"
    if kind == "safetensors":
        save_file(small().state_dict(), whole)
    else:
        torch.save(small().state_dict(), whole, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    refused(path, "cifar_resnet8", str(path), "copy it again")


def test_a_file_with_one_wrong_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(b"\x80\x02Q.")  # an instruction without what it works on
    refused(path, "cifar_resnet8", "damaged.pt is damaged", "copy it again")
    torch.save(small().state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    key = re.search(rb"\d{9,}", whole)
    assert key
    path.write_bytes(whole[: key.start()] + bytes([whole[key.start()] ^ 1]) + whole[key.start() + 1 :])
    refused(path, "cifar_resnet8", "damaged.pt is damaged", "copy it again")


@pytest.mark.parametrize(
    "odd",
    [torch.ones(5, 64).to_sparse(), torch.ones(5, 64, device="meta"), torch.nested.nested_tensor([torch.ones(2)])],
)
@pytest.mark.parametrize("name", ["fc.weight", "mu"])
def test_a_tensor_that_is_no_plain_one_is_named(name: str, odd: Tensor, saved: Save) -> None:
    path = saved({**small().state_dict(), "sigma": torch.ones(3), name: odd})
    refused(path, "cifar_resnet8", f"{name} is sparse, nested or without numbers", "save plain tensors: torch.save")


def test_a_dict_is_looked_into_once(saved: Save) -> None:
    content: dict[str, Any] = {"state_dict": small().state_dict()}
    content["again"] = content
    for _ in range(60):  # which would take longer than the world has been
        content = {"one": content, "other": content}
    assert pretrained.load(saved(content), "cifar_resnet8", **GIVEN)[1].outputs == 5


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x08\x0a\x12\x07pytorch", b"\x80\x04\x95nonsense"])
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    refused(tmp_path / "x.pt", "resnet18", "x.pt is neither", "torch.save")


def test_a_zip_archive_and_a_program_are_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    refused(tmp_path / "a.zip", "resnet18", "a.zip is damaged")
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "program.pt")
    refused(tmp_path / "program.pt", "resnet18", "TorchScript program")


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.pt", "resnet18", "none.pt", "No such file", ".safetensors, .pt or .pth")
    refused(tmp_path, "resnet18", str(tmp_path), "Is a directory")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {}}, torch.zeros(3), {}])
def test_a_file_without_a_state_dict(content: Any, saved: Save) -> None:
    refused(saved(content), "resnet18", "holds no state dict", "state_dict, model")


def test_weights_of_another_depth(saved: Save) -> None:
    path = saved(torchvision.models.resnet34(num_classes=5).state_dict())
    refused(path, "resnet18", "weights of resnet18", "too many (layer1.2.conv1.weight", "They fit --arch resnet34")
    refused(saved(resnet().state_dict()), "resnet34", "80 missing", "They fit --arch resnet18")


def test_weights_of_another_width(saved: Save) -> None:
    path = saved(small().state_dict())
    found = "stem.0.weight (16, 3, 3, 3) instead of (4, 3, 3, 3)"
    refused(path, "cifar_resnet8", "of another shape", found, "They fit --arch cifar_resnet8", options={"width": 4})
    refused(path, "cifar_resnet8", "{'depth': 4} does not suit cifar_resnet8", options={"depth": 4})


def test_an_unknown_or_unnamed_network(saved: Save) -> None:
    path = saved(small().state_dict())
    refused(path, "cifar_resnet9", "'cifar_resnet9' is not one of", "did you mean 'cifar_resnet")
    refused(path, None, "name it, e.g. --arch resnet50")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": None, "std": None}, r"does not say how .* mean 0\.485.* ImageNet.*0\.4914.*CIFAR-10; 0 and 1"),
        ({"std": None}, "belong together"),
        ({"mean": None}, "belong together"),
        ({"mean": (0.5,)}, "mean 0.5 has 1 numbers, std 0.2,0.25,0.3 has 3"),
        ({"std": (0.5, 0.5)}, "std 0.5,0.5 has 2: both need one for each channel"),
        ({"std": (0.2, 0.0, 0.3)}, r"--mean, --std: std: must be above 0 and at most 1 .*got \[0.2, 0.0, 0.3\]"),
        ({"std": (0.2, -0.1, 0.3)}, "must be above 0"),
        ({"std": (58.4, 57.1, 57.4)}, "std: must be above 0 and at most 1 .* divide numbers for 0-255 by 255"),
        ({"mean": (123.7, 116.3, 103.5)}, r"--mean, --std: mean: must lie in \[0,1\] .* by 255"),
        ({"mean": (-0.1, 0.5, 0.5)}, r"mean: must lie in \[0,1\]"),
        ({"std": (0.2, float("nan"), 0.3)}, "std.*finite"),
        ({"mean": (0.2, float("inf"), 0.3)}, "mean.*finite"),
        ({"mean": (0.5,), "std": (0.5,)}, "takes images of 3 channels .* the mean has 1 numbers"),
    ],
)
def test_bad_normalisation(settings: dict[str, Any], message: str, saved: Save) -> None:
    with pytest.raises(UserError) as caught:
        pretrained.load(saved(small().state_dict()), "cifar_resnet8", **{**GIVEN, **settings})
    assert re.search(message, str(caught.value)), caught.value


def test_a_files_own_bad_normalisation(saved: Save) -> None:
    state = {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.zeros(1, 3, 1, 1), **small().state_dict()}
    path = saved(state)
    refused(path, "cifar_resnet8", f"the normalisation in {path}: std: must be above 0", mean=None, std=None)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_unpacks_to_much_more_than_its_size_is_not_unpacked(kind: int, tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w", kind) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
        if kind == zipfile.ZIP_DEFLATED:
            bad.writestr(f"{name.partition('/')[0]}/data/99", bytes(10_000_000))
        else:  # all entries are the same bytes
            bad.filelist *= 3
    refused(tmp_path / "bad.pt", "cifar_resnet8", "not written by torch.save (it unpacks to more than its size)")

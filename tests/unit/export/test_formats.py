"""Every format, grey and in colour: written, loaded by its own loader and by the lines in its card."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.export import publish
from hpcfast.export.formats import FORMATS
from hpcfast.models import pretrained, saved
from hpcfast.runs.directory import RunDirectory
from hpcfast.training import train
from tests.conftest import write_images

RUNS = ("grey", "colour")
DICTS = ("safetensors", "state-dict", "robustbench", "hub")


class Exported(NamedTuple):
    out: Path
    result: dict[str, Any]
    model: nn.Module
    config: RunConfig

    @property
    def weights(self) -> Path:
        return self.out / "model.safetensors" if self.out.is_dir() else self.out

    def beside(self, kind: str) -> str:
        return Path(self.result[{".md": "card", ".json": "about"}[kind]]).read_text()

    def images(self, n: int) -> Tensor:
        data = self.config.data
        return torch.rand(n, data.channels, data.size, data.size, generator=torch.Generator().manual_seed(n))


Export = Callable[[str, str], Exported]


@pytest.fixture(scope="session")
def runs(
    plain: RunConfig, elsewhere: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory, world: World
) -> dict[str, RunConfig]:
    """Finished runs; don't change their folders."""
    folder = write_images(tmp_path_factory.mktemp("colours") / "shapes", {"train": 7, "val": 4}, classes=2, mode="RGB")
    moments = ["model.mean=[0.4,0.5,0.6]", "model.std=[0.2,0.25,0.3]"]
    # cifar_resnet8 is ours, resnet10t timm's
    colour = elsewhere("name=colour", f"data.path={folder}", "data.channels=3", "model.name=resnet10t",
                       "model.options={channels: [8, 8, 8, 8], stem_width: 4}", *moments, "epochs=1")  # fmt: skip
    train.train(colour, world)
    return {"grey": plain, "colour": colour}


@pytest.fixture(scope="module")
def exported(runs: dict[str, RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Call it with a format and which run; exports that were made already are handed out again."""
    folder, made = tmp_path_factory.mktemp("exported"), dict[tuple[str, str], Exported]()

    def make(name: str, kind: str) -> Exported:
        if (name, kind) not in made:
            config, out = runs[kind], folder / f"{kind}.{name}"
            run = RunDirectory(config.folder)
            made[name, kind] = Exported(out, publish(run, config, name, out), saved.load(run, config.model)[0], config)
        return made[name, kind]

    return make


every = pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in FORMATS for kind in RUNS])


@every
def test_a_file_is_described_as_it_is(name: str, kind: str, exported: Export) -> None:
    made = exported(name, kind)
    data = made.weights.read_bytes()
    assert made.result["bytes"] == len(data)
    assert made.result["sha256"] == hashlib.sha256(data).hexdigest()
    assert made.result["largest_difference"] < 1e-4


@every
@torch.no_grad()
def test_the_lines_in_the_card_compute_the_models_logits(
    name: str, kind: str, exported: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(name, kind)
    (code,) = re.findall(r"```python\n(.*?)```", made.beside(".md"), re.DOTALL)
    assert ("import hpcfast" in code) == (name in DICTS and kind == "grey"), "only our own networks need us"
    monkeypatch.chdir(made.out.parent)
    for n in (1, 3):
        names: dict[str, Any] = {"images": made.images(n)}
        exec(code, names)
        torch.testing.assert_close(torch.as_tensor(names["logits"]), made.model(names["images"]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", DICTS)
@torch.no_grad()
def test_weights_are_read_as_any_others(name: str, kind: str, exported: Export) -> None:
    made = exported(name, kind)
    model, notes = pretrained.load(made.weights)  # what it is stands beside it
    torch.testing.assert_close(model(made.images(2)), made.model(made.images(2)))
    assert (notes.model.name, notes.model.options) == (made.config.model.name, made.config.model.options)
    assert notes.mean == pytest.approx(made.config.model.mean)


@every
def test_the_card_says_what_it_is_and_what_it_reached(name: str, kind: str, exported: Export) -> None:
    made = exported(name, kind)
    card, summary = made.beside(".md"), json.loads((made.config.folder / "summary.json").read_text())
    low, high = summary["ci95"]["robust_accuracy"]
    assert f"| {summary['robust_accuracy']:.4f} | {low:.4f} to {high:.4f} | {summary['n_eval']} |" in card
    for part in ("L2, eps 0.5", made.result["sha256"], "pgd, steps 3, restarts 2", summary["versions"]["torch"],
                 "class0, class1", made.config.model.name, f"mean {made.config.model.mean[0]:g}"):  # fmt: skip
        assert part in card
    assert str(made.config.data.path.parent) not in card, "whose folders are nobody's business"
    assert "stage:" not in card
    assert ("Normalisation is not inside" in card) == (name == "state-dict")


@pytest.mark.parametrize("kind", RUNS)
def test_the_json_file_of_robustbench_has_its_keys(kind: str, exported: Export) -> None:
    made = exported("robustbench", kind)
    info = json.loads(made.beside(".json"))
    summary = json.loads((made.config.folder / "summary.json").read_text())
    assert info["clean_acc"] == f"{100 * summary['clean_accuracy']:.2f}"
    assert info["reported"] == f"{100 * summary['robust_accuracy']:.2f}"
    assert "autoattack_acc" not in info, "PGD is not AutoAttack"
    assert "pgd" in info["footnote"]
    assert (info["eps"], info["dataset"], info["number_forward_passes"]) == ("0.5", "shapes", 1)
    state = torch.load(made.out, weights_only=True)["state_dict"]
    assert {"mu", "sigma", "fc.weight"} < state.keys()
    # load_model cuts these words off the front of every name that has them anywhere
    assert not [key for key in state if "module." in key or "model." in key]


def test_a_state_dict_has_the_networks_own_names(exported: Export) -> None:
    made = exported("state-dict", "colour")
    state = torch.load(made.out, weights_only=True)
    assert state.keys() == made.model.get_submodule("net").state_dict().keys()
    assert all(tensor.is_contiguous() for tensor in state.values())


@pytest.mark.parametrize("kind", RUNS)
@torch.no_grad()
def test_timm_builds_the_network_and_its_images_from_the_folder_alone(kind: str, exported: Export) -> None:
    made = exported("hub", kind)
    net = timm.create_model(f"local-dir:{made.out}", pretrained=True).eval()
    images, data = made.images(2), timm.data.resolve_model_data_config(net)
    mean, std = (torch.tensor(data[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    logits = net((images - mean) / std)
    torch.testing.assert_close(logits, made.model(images), atol=1e-5, rtol=1e-4)
    assert data["input_size"] == (made.config.data.channels, 10, 10)
    assert (data["interpolation"], data["crop_pct"], data["crop_mode"]) == ("bilinear", 1.0, "squash")
    assert net.pretrained_cfg["label_names"] == [f"class{i}" for i in range(logits.shape[1])]


def test_the_card_of_a_repository_has_what_the_hub_reads(exported: Export) -> None:
    made = exported("hub", "grey")
    names = {"README.md", "config.json", "model.safetensors", "model.safetensors.json"}
    assert {path.name for path in made.out.iterdir()} == names
    front = ModelCard(made.beside(".md")).data
    assert (front.library_name, front.pipeline_tag, front.license) == ("timm", "image-classification", None)
    assert front.tags
    assert "adversarial-robustness" in front.tags
    assert "import hpcfast.models" in made.beside(".md")
    assert "Normalisation is in `config.json`" in made.beside(".md")

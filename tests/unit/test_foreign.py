"""Code of the user's own: found by import path, checked like built-in code, and run only where its user wants that."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import hpcfast
from hpcfast import component, foreign
from hpcfast.cli import app
from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.errors import UserError
from hpcfast.evaluation.cache import depends_on
from hpcfast.export import publish
from hpcfast.runs.directory import RunDirectory
from hpcfast.training.train import train
from tests.unit import owned

Tiny = Callable[..., RunConfig]
OWN = ["attack={name: my_pkg.attacks.NoiseOnly, share: 0.5}", "schedule={name: my_pkg.schedules.Half}"]


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield owned.write(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        del sys.modules[name]


def test_an_attack_and_a_schedule_are_found_and_given_their_settings(tiny: Tiny) -> None:
    with foreign.trusting():
        config = tiny(*OWN, "model={name: my_pkg.nets.build, options: {width: 2}}")
        model = config.model.build(3)
    assert (config.attack.name, config.attack.model_dump()["share"]) == ("my_pkg.attacks.NoiseOnly", 0.5)
    assert config.schedule.factor(0.6, 1) == 0.5
    assert model(torch.rand(2, 1, 10, 10)).shape == (2, 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("attack.share=much", r"attack\.share: input should be a valid number"),
        ("attack.shares=1", r"attack\.shares: unknown key; 'shares' is not one of: name, share"),
        ("attack.name=my_pkg.attacks.Nothing", r"attack\.name: .*attacks\.py defines no Nothing"),
        ("attack.name=my_pkg.attack.NoiseOnly", r"there is no module my_pkg\.attack, neither in the working folder"),
        ("attack.name=my_pkg.attacks.Unfinished", r"'my_pkg\.attacks\.Unfinished' lacks the method perturb"),
        ("attack.name=my_pkg.schedules.Half", r"is no subclass of hpcfast\.attacks\.Attack; derive it from that"),
        ("attack.name=my_pkg.broken.Attack", r"importing .*broken\.py failed: RuntimeError\('it was broken'\)"),
        ("attack.name=sys.path", "sys is no Python file|there is no module sys"),
        ("model.name=my_pkg.nets.NUMBER", "is a int; it must be a function or class that makes a network"),
        ("model.name=my_pkg.nets.gone", r"model\.name: .*nets\.py defines no gone"),
    ],
)
def test_what_cannot_be_used_is_refused(tiny: Tiny, setting: str, message: str) -> None:
    with foreign.trusting(), pytest.raises(UserError, match=message):
        tiny("attack={name: my_pkg.attacks.NoiseOnly}", setting)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("my_pkg.nets.nothing", {}, r"my_pkg\.nets\.nothing returned a NoneType; it must return an nn\.Module"),
        ("my_pkg.nets.build", {"depth": 2}, "depth.*does not suit my_pkg"),
    ],
)
def test_a_function_that_makes_no_network_is_refused(
    tiny: Tiny, name: str, options: dict[str, Any], message: str
) -> None:
    with foreign.trusting(), pytest.raises(UserError, match=message):
        tiny(f"model={{name: {name}, options: {options}}}").model.build(3)


def test_nothing_is_run_where_nobody_trusts_it(tiny: Tiny, package: Path) -> None:
    file = package / "attacks.py"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"is code in {file} \(sha256 {digest}\).*give --trust-code"):
        tiny(*OWN)
    with pytest.raises(UserError, match=r"nets\.py .*give --trust-code"):
        tiny("model.name=my_pkg.nets.build")
    assert not (package.parent / "RAN").exists()
    assert "my_pkg" not in sys.modules
    with foreign.trusting():
        tiny(*OWN)
    assert (package.parent / "RAN").exists()
    with pytest.raises(UserError, match="--trust-code"):
        tiny(*OWN)


def test_a_file_in_the_working_folder_replaces_nothing_that_is_installed(package: Path) -> None:
    (package.parent / "yaml.py").write_text("raise RuntimeError\n")
    with foreign.trusting():
        assert foreign.load("yaml.safe_load") is yaml.safe_load


@pytest.fixture
def trained(tiny: Tiny, world: World) -> RunConfig:
    with foreign.trusting():
        config = tiny(*OWN, "model={name: my_pkg.nets.build}", "evaluation.final.attack.steps=2")
        summary = train(config, world)
    assert {name: Path(code["file"]).name for name, code in summary["code"].items()} == {
        "my_pkg.attacks.NoiseOnly": "attacks.py",
        "my_pkg.nets.build": "nets.py",
        "my_pkg.schedules.Half": "schedules.py",
    }
    return config


COMMANDS = [
    ["eval", "RUN", "--images", "6"],
    ["eval", "RUN", "--attack", "my_pkg.attacks.NoiseOnly", "--images", "6"],
    ["export", "RUN", "--format", "state-dict", "--out", "m.pt"],
    ["explain", "RUN", "--images", "6"],
    ["report", "RUN"],
    ["config", "show", "RUN/config.yaml"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command))
def test_a_finished_runs_code_is_run_only_where_it_is_trusted(
    trained: RunConfig, package: Path, command: list[str]
) -> None:
    (package.parent / "RAN").unlink()
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        del sys.modules[name]
    words = [word.replace("RUN", str(trained.folder)) for word in command]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, UserError), refused.output
    assert "give --trust-code" in str(refused.exception)
    assert not (package.parent / "RAN").exists()
    done = CliRunner().invoke(app, [*words, "--trust-code"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_timm_cannot_load_a_network_of_ones_own(trained: RunConfig, tmp_path: Path) -> None:
    run = RunDirectory(trained.folder)
    with foreign.trusting(), pytest.raises(UserError, match=r"cannot build my_pkg\.nets\.build; take safetensors"):
        publish(run, trained, "hub", tmp_path / "out")


def test_from_python(trained: RunConfig, package: Path) -> None:
    with pytest.raises(UserError, match="--trust-code"):
        hpcfast.load(trained.folder)
    model = hpcfast.load(trained.folder, trust_code=True)
    x, y = torch.rand(4, 1, 10, 10), torch.tensor([0, 1, 2, 0])
    attack = hpcfast.api.attacks.Attack(model, "my_pkg.attacks.NoiseOnly", eps=0.1, share=0.5)
    assert 0 < (attack(x, y) - x).abs().max() <= 0.05 + 1e-6
    found = hpcfast.evaluate(model, (x, y), attack="my_pkg.attacks.NoiseOnly", masked_gradients=False, progress=False)
    assert found.details["attack"]["name"] == "my_pkg.attacks.NoiseOnly"


def test_an_evaluation_depends_on_the_code(trained: RunConfig, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(1, 1)
    before = depends_on(model, trained)
    (package / "nets.py").write_text((package / "nets.py").read_text() + "# changed\n")
    with foreign.trusting():
        foreign.load("my_pkg.nets.build")
    assert depends_on(model, trained)["code"] != before["code"]


def test_code_that_has_changed_is_told_when_a_run_resumes(
    tiny: Tiny, world: World, package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.whole_runs import Killed, at_call, die, logged

    with foreign.trusting():
        config = tiny(*OWN)
        with monkeypatch.context() as patch:
            at_call(patch, hpcfast.training.loop.Loop, "_show", 4, die)
            with pytest.raises(Killed):
                train(config, world)
        (package / "attacks.py").write_text((package / "attacks.py").read_text() + "# changed\n")
        train(tiny(*OWN), world)
    said = "the code of my_pkg.attacks.NoiseOnly has changed since the last checkpoint"
    assert said in capsys.readouterr().out
    assert logged(config, "code_changed") == [said]


def test_a_file_that_has_changed_is_imported_anew(package: Path) -> None:
    file = package / "nets.py"
    with foreign.trusting():
        assert foreign.load("my_pkg.nets.NUMBER") == 3
        file.write_text(file.read_text().replace("NUMBER = 3", "NUMBER = 44"))
        assert foreign.load("my_pkg.nets.NUMBER") == 44
    digest = foreign.imported("my_pkg.nets.NUMBER")["my_pkg.nets.NUMBER"]["sha256"]
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_runs_is_the_file_that_is_on_record(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with foreign.trusting():
        foreign.load("my_pkg.nets.NUMBER")
        (tmp_path / "elsewhere").mkdir()
        owned.write(tmp_path / "elsewhere")
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
        with pytest.raises(UserError, match=r"my_pkg\.nets is .*/my_pkg/nets\.py in this process, not .*elsewhere"):
            foreign.load("my_pkg.nets.NUMBER")


def test_a_tracker_that_lacks_a_method_is_refused(tiny: Tiny, package: Path) -> None:
    (package / "shown.py").write_text(
        "from hpcfast.runs.trackers import Tracker\n\n\nclass Half(Tracker):\n    library: str = 'json'\n"
    )
    with foreign.trusting(), pytest.raises(UserError, match="Half' lacks the method open"):
        tiny("trackers=[my_pkg.shown.Half]")


def test_components_of_our_own_need_no_trust() -> None:
    assert component.find("hpcfast.attacks", "pgd").__name__ == "Pgd"
    assert not foreign.is_path("pgd")
    assert not foreign.is_path("../x.y")
    assert not foreign.is_path("a.b;c")

"""Code of the user's own on real ranks: attack, network, schedule, data source; killed, resumed, exported."""

import json
import shutil

import pytest

from tests.distributed.conftest import WORKERS, Playground
from tests.unit import owned

pytestmark = pytest.mark.distributed

OWN = [
    "attack={name: my_pkg.attacks.NoiseOnly, share: 0.5}",
    "model={name: my_pkg.nets.build, mean: [0.5], std: [0.25]}",
    "schedule={name: my_pkg.schedules.Half}",
    "data.path=greys",
]


def test_a_plugin_is_trained_resumed_and_exported(playground: Playground) -> None:
    owned.write(playground.path)
    job = playground.hpcfast(0, "data", "prepare", "my_pkg.sources.Greys", "--out", "greys")
    assert job.code == 0, job.output
    assert playground.train(2, "own-whole", *OWN).code == 0
    command = ("train", str(playground.config), "name=own", *OWN)
    job = playground.start(2, str(WORKERS / "faulty_train.py"), "kill", "1", "1.5", *command)
    assert job.code != 0
    job = playground.hpcfast(2, *command)
    assert job.code == 0, job.output[-3000:]
    runs = playground.path / "runs"
    one, other = ((runs / name / "model.safetensors").read_bytes() for name in ("own", "own-whole"))
    assert one == other
    assert [*json.loads((runs / "own" / "summary.json").read_text())["code"]] == [
        "my_pkg.attacks.NoiseOnly",
        "my_pkg.nets.build",
        "my_pkg.schedules.Half",
    ]
    export = ("export", "runs/own", "--format", "state-dict", "--out", "own.pt")
    refused = playground.hpcfast(0, *export)
    assert (refused.code, "give --trust-code" in refused.output) == (2, True), refused.output
    job = playground.hpcfast(0, *export, "--trust-code")
    assert job.code == 0, job.output
    assert "from my_pkg.nets import build" in (playground.path / "own.pt.md").read_text()
    shutil.rmtree(playground.path / "my_pkg")


def test_ranks_with_different_files_are_refused(playground: Playground) -> None:
    job = playground.start(2, str(WORKERS / "other_code.py"), str(playground.config), *OWN[:1])
    assert job.code == 2, job.output
    assert job.output.count("is another file than rank 0's; copy it there") == 1

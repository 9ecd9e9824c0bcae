"""The doctor's judgements, over answers that hold a fault; and its probes, on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpcfast import doctor
from hpcfast.cli import app
from hpcfast.distributed.comm import World
from hpcfast.doctor import job
from hpcfast.doctor.finding import Answer, Check, Finding, Job
from hpcfast.doctor.node import Cores, Gpus

CHECKS = {check.name: check for check in doctor.CHECKS}
QUIET = Gpus(2, "H100", "a"), Gpus(2, "H100", "b")


def over_nodes(*values: Any) -> list[Answer]:
    return [Answer(rank, f"node{rank}", value) for rank, value in enumerate(values)]


def on_one_node(*values: Any) -> list[Answer]:
    return [Answer(rank, "node0", value) for rank, value in enumerate(values)]


FAULTS = [
    ("torch", over_nodes("2.14.1", "2.14.1", "2.13.0"), "bad", ["2.13.0 on node2", ".venv"]),
    ("Python", over_nodes("3.11.7", "3.12.1", "3.12.1"), "bad", ["3.12.1, but 3.11.7 on node0"]),
    ("ranks", on_one_node("1, over Gloo", "2, over Gloo"), "bad", ["1, over Gloo"]),
    ("MPI", over_nodes("Open MPI v4.1.8", "Open MPI v5.0.1"), "bad", ["v5.0.1 on node1", "module"]),
    ("cores", on_one_node(Cores((0,), 8, 1), Cores((0,), 8, 1)), "bad", ["core 0", "--cpu-bind"]),
    ("cores", on_one_node(*[Cores((0, 1), 2, 1)] * 4), "warn", ["4 ranks on the 2 cores"]),
    ("cores", on_one_node(Cores((0, 1), 2, 16)), "warn", ["16 threads on 2 cores", "OMP_NUM_THREADS"]),
    ("GPUs", over_nodes(*(Gpus(1, "H100", "a", driver=driver) for driver in ("580", "570"))), "bad", ["570 on node1"]),
    ("GPUs", over_nodes(Gpus(1, "H100", driver="580"), Gpus(0, driver="580")), "bad", ["node1", "sees no", "unset"]),
    ("GPUs", over_nodes(Gpus(2, "H100", "a"), Gpus(0)), "bad", ["2 x H100", "on node1"]),
    ("GPUs", over_nodes(Gpus(2, "H100", "a", reaches=False)), "bad", ["NCCL"]),
    ("GPU binding", on_one_node(Gpus(1, "H100", "a"), Gpus(1, "H100", "b")), "bad", ["only its own", "--gpu-bind"]),
    ("GPU binding", on_one_node(*[Gpus(1, "H100", "a")] * 2), "bad", ["2 ranks of node0 use one GPU"]),
    ("GPU binding", on_one_node(Gpus(2, "H100", "a")), "warn", ["2 GPUs and 1 ranks", "idle"]),
    ("run directory", over_nodes("", "rank 0's folder in /runs is not there"), "bad", ["/runs", "node1", "--run-dir"]),
    ("clocks", over_nodes(100, 100.02, 95), "warn", ["node2 is 5.0 s behind node0", "NTP", "--exclude=node2"]),
    ("clocks", over_nodes(190, 100, 100.02), "warn", ["node0 is 90.0 s ahead of node2", "--exclude=node0"]),
    ("clocks", over_nodes(100, 95), "warn", ["node0 is 5.0 s ahead of node1", "on both"]),
    ("allreduce", over_nodes((64, 2.0), (64, 2.0)), "warn", ["NCCL_SOCKET_IFNAME"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answers", "wanted", "parts"), FAULTS)
def test_a_fault_is_found_with_its_place_and_cure(name: str, answers: Any, wanted: str, parts: list[str]) -> None:
    finding = CHECKS[name].judge(answers)
    assert finding.verdict == wanted, finding
    assert finding.cure
    missing = [part for part in parts if part not in finding.value + finding.cure]
    assert not missing, f"{finding} lacks {missing}"


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("torch", over_nodes("2.14.1", "2.14.1")),
        ("cores", on_one_node(Cores((0,), 2, 1), Cores((1,), 2, 1))),
        ("cores", over_nodes(Cores((0,), 2, 1), Cores((0,), 2, 1))),
        ("GPUs", over_nodes(Gpus(2, "H100", "a"), Gpus(2, "H100", "b"))),
        ("GPU binding", on_one_node(*QUIET)),
        ("GPU binding", over_nodes(Gpus(1, "H100", "a"), Gpus(1, "H100", "b"))),
        ("clocks", over_nodes(100, 100.5, 99.5)),
        ("allreduce", over_nodes((64, 0.01), (64, 5.0))),
        ("allreduce", on_one_node((64, 2.0), (64, 2.0))),
    ],
)
def test_what_is_fine_is_left_alone(name: str, answers: Any) -> None:
    finding = CHECKS[name].judge(answers)
    assert (finding.verdict, finding.cure) == ("ok", "")


def test_what_no_rank_has_is_not_here() -> None:
    assert CHECKS["MPI"].judge(over_nodes(None, None)) == Finding("not used", "not here")
    assert CHECKS["NCCL"].judge(over_nodes(None, "2.30")).verdict == "bad"


def test_many_hosts_are_not_all_listed() -> None:
    finding = CHECKS["torch"].judge(over_nodes(*["a"] * 60, *["b"] * 40))
    assert "node60, node61" in finding.value
    assert "and 32 more" in finding.value


def test_a_check_that_fails_does_not_stop_the_others(world: World, tmp_path: Path) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("oh")

    def fine(_: Any) -> Finding:
        return Finding("here")

    checks = [Check("probe", broken, fine), Check("judge", lambda _: 1, broken), Check("last", lambda _: 1, fine)]
    found = doctor.examine(world, tmp_path, checks=checks)
    assert [finding.verdict for finding in found.values()] == ["bad", "warn", "ok"]
    assert "ZeroDivisionError: oh" in found["probe"].value
    assert "ZeroDivisionError: oh" in found["judge"].value


def test_the_run_directory_is_left_as_it_was(world: World, tmp_path: Path) -> None:
    found = doctor.examine(world, tmp_path / "deep" / "runs", quick=True, checks=job.CHECKS)
    assert [finding.verdict for finding in found.values()] == ["ok", "not here", "not here"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["/proc/nowhere", "{file}/runs"])
def test_an_unwritable_run_directory_is_found(world: World, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    folder = Path(where.format(file=tmp_path / "file"))
    finding = doctor.examine(world, folder, checks=job.CHECKS[:1])["run directory"]
    assert finding.verdict == "bad"
    assert "cannot be written" in finding.value


def test_a_folder_that_one_may_not_look_at_is_a_finding_and_removed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe must meet the other ranks all the same: an error that ends it would leave them waiting."""

    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    problem = CHECKS["run directory"].probe(Job(world, tmp_path, quick=True))
    assert problem.startswith("cannot be written: [Errno 13] Permission denied")
    assert list(tmp_path.iterdir()) == []


def test_probes_tell_of_this_machine(world: World, tmp_path: Path) -> None:
    asked = Job(world, tmp_path, quick=True)
    assert CHECKS["ranks"].probe(asked) == "1"
    assert 1 <= len(CHECKS["cores"].probe(asked).mine) <= CHECKS["cores"].probe(asked).on_node


def test_a_drivers_tool_that_fails_is_a_finding(tmp_path: Path, world: World, monkeypatch: Any) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = doctor.examine(world, tmp_path, checks=[CHECKS["GPUs"]])["GPUs"]
    assert found.verdict == "bad"
    assert "version mismatch" in found.value


def test_the_table_and_json_show_words_and_cures(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": Finding("[red]x[/red]", "bad", "do y"), "b": Finding("fine", numbers={"seconds": 1.5})}
    monkeypatch.setattr(doctor, "examine", lambda *_: found)
    done = CliRunner().invoke(app, ["doctor", "--json", str(tmp_path / "doctor.json")])
    assert "[red]x[/red]" in done.output
    assert "-> do y" in done.output
    assert str(done.exception) == "bad: a; the table says what to do"
    assert json.loads((tmp_path / "doctor.json").read_text()) == {
        "ranks": 1,
        "findings": [
            {"name": "a", "value": "[red]x[/red]", "verdict": "bad", "cure": "do y", "numbers": {}},
            {"name": "b", "value": "fine", "verdict": "ok", "cure": "", "numbers": {"seconds": 1.5}},
        ],
    }


def test_every_judgement_gets_what_its_probe_returned(world: World, tmp_path: Path) -> None:
    found = doctor.examine(world, tmp_path)
    assert {name: each for name, each in found.items() if "check itself failed" in each.value} == {}
    assert found["cores"].value.endswith("threads")

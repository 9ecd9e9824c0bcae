"""The doctor's judgements, over answers that hold a fault; and its probes, on this machine."""

import math
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from hpcfast import doctor
from hpcfast.distributed.comm import World
from hpcfast.doctor import gpus, machine, network, software, storage
from hpcfast.doctor.finding import Answer, Check, Finding, Job
from hpcfast.doctor.gpus import Gpus
from hpcfast.doctor.machine import Cores, Limits, Room
from hpcfast.doctor.software import Size
from hpcfast.doctor.storage import Speed
from hpcfast.doctor.table import rows, table, verdict

CHECKS = {check.name: check for check in doctor.CHECKS}
QUIET = Gpus(2, "H100", "a"), Gpus(2, "H100", "b")


def over_nodes(*values: Any) -> list[Answer]:
    return [Answer(rank, f"node{rank}", value) for rank, value in enumerate(values)]


def on_one_node(*values: Any) -> list[Answer]:
    return [Answer(rank, "node0", value) for rank, value in enumerate(values)]


def clocks(*offsets: float, seed: int = 0) -> list[Answer]:
    """Barriers as clocks with these offsets saw them: a rank leaves at some time after the last has entered."""
    source = random.Random(seed)
    times: list[list[tuple[float, float]]] = [[] for _ in offsets]
    for start in range(1000, 1000 + network.ROUNDS):
        entered = [start + source.uniform(0, 0.01) for _ in offsets]
        for rank, offset in enumerate(offsets):
            left = max(entered) + source.uniform(0.0001, 0.005)
            times[rank].append((entered[rank] + offset, left + offset))
    return over_nodes(*times)


FAULTS = [
    ("torch", over_nodes("2.14.1", "2.14.1", "2.13.0"), "bad", ["2.13.0 on node2", ".venv"]),
    ("Python", over_nodes("3.11.7", "3.12.1", "3.12.1"), "bad", ["3.12.1, but 3.11.7 on node0"]),
    ("Horovod's torch", over_nodes(("2.14.1", "2.14.1"), ("2.13", "2.14.1")), "bad", ["node1", "setup"]),
    ("ranks", on_one_node(*[Size(2, 1, None, ("Gloo",))] * 2), "bad", ["2 ranks, Horovod sees 1", "without MPI"]),
    ("ranks", on_one_node(*[Size(2, 1, None)] * 2), "bad", ["2 ranks, Horovod sees 1", "HOROVOD_CONTROLLER"]),
    ("ranks", on_one_node(*[Size(2, 2, 1)] * 2), "bad", ["mpi4py 1", "two MPIs"]),
    ("MPI", over_nodes("Open MPI v4.1.8", "Open MPI v5.0.1"), "bad", ["v5.0.1 on node1", "module"]),
    ("requirements", over_nodes((), ("timm 0.9 instead of 1.0",)), "warn", ["timm 0.9", "node1"]),
    ("cores", on_one_node(Cores((0,), 8, 1), Cores((0,), 8, 1)), "bad", ["core 0", "--cpu-bind"]),
    ("cores", on_one_node(*[Cores((0, 1), 2, 1)] * 4), "warn", ["4 ranks on the 2 cores"]),
    ("cores", on_one_node(Cores((0, 1), 2, 16)), "warn", ["16 threads on 2 cores", "OMP_NUM_THREADS"]),
    ("locked memory", over_nodes(Limits(math.inf, 9999, True), Limits(2**26, 9999, True)), "bad", ["64 MB", "node1"]),
    ("open files", over_nodes(*[Limits(math.inf, 256, False)] * 2), "warn", ["256", "ulimit -n"]),
    ("local scratch", over_nodes((Room("/tmp", 9, 1),), (Room("/tmp", None, 1),)), "bad", ["/tmp", "node1", "TMPDIR"]),
    ("local scratch", over_nodes((Room("/dev/shm", 0.06, 0.5),)), "warn", ["0.06 GB", "/dev/shm", "--shm-size"]),
    ("GPU driver", over_nodes((("580",), True), (("570",), True)), "bad", ["570 on node1"]),
    ("GPU driver", over_nodes((("580",), True), (("580",), False)), "bad", ["node1", "sees no GPU", "unset"]),
    ("GPUs", over_nodes(Gpus(2, "H100", "a"), Gpus(0)), "bad", ["2 x H100", "on node1"]),
    ("GPUs", over_nodes(Gpus(2, "H100", "a", nccl=False)), "bad", ["NCCL"]),
    ("GPU binding", on_one_node(Gpus(1, "H100", "a"), Gpus(1, "H100", "b")), "bad", ["only its own", "--gpu-bind"]),
    ("GPU binding", on_one_node(*[Gpus(1, "H100", "a")] * 2), "bad", ["2 ranks of node0 use one GPU"]),
    ("GPU binding", on_one_node(Gpus(2, "H100", "a")), "warn", ["2 GPUs and 1 ranks", "idle"]),
    ("GPU binding", on_one_node(QUIET[0], Gpus(2, "H100", "b", reaches_all=False)), "warn", ["topo"]),
    ("GPU health", over_nodes((("a", "580", "0"),), (("b", "580", "3"),)), "bad", ["3 unc", "b of node1", "--exclude"]),
    ("run directory", over_nodes("", "rank 0's file in /runs is not there"), "bad", ["/runs", "node1", "--run-dir"]),
    ("run directory's speed", over_nodes(Speed(3, 900, "/nfs"), None), "warn", ["3 MB/s", "/nfs", "checkpoint"]),
    ("clocks", clocks(0, 0.02, -5), "warn", ["node2 is 5.0 s behind node0", "NTP", "--exclude=node2"]),
    ("clocks", clocks(90, 0, 0.02), "warn", ["node0 is 90.0 s ahead of node2", "--exclude=node0"]),
    ("clocks", clocks(90, 0, 0.02, 0.04), "warn", ["node0 is 90.0 s ahead of node", "--exclude=node0"]),
    ("clocks", clocks(0, -5), "warn", ["node1 is 5.0 s behind node0", "on both"]),
    ("allreduce 64 MB", over_nodes(2.0, 2.0), "warn", ["NCCL_SOCKET_IFNAME"]),
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
        ("ranks", over_nodes(Size(2, 2, 2), Size(2, 2, 2))),
        ("ranks", over_nodes(Size(None, 1, None))),
        ("cores", on_one_node(Cores((0,), 2, 1), Cores((1,), 2, 1))),
        ("cores", over_nodes(Cores((0,), 2, 1), Cores((0,), 2, 1))),
        ("locked memory", over_nodes(Limits(2**16, 1024, False))),
        ("open files", over_nodes(Limits(math.inf, math.inf, True))),
        ("GPUs", over_nodes(Gpus(2, "H100", "a"), Gpus(2, "H100", "b"))),
        ("GPU binding", on_one_node(*QUIET)),
        ("GPU binding", over_nodes(Gpus(1, "H100", "a"), Gpus(1, "H100", "b"))),
        ("GPU health", over_nodes((("a", "580", "[N/A]"),))),
        ("clocks", clocks(0, 0.5, -0.5)),
        ("allreduce 64 MB", over_nodes(0.01, 5.0)),
        ("allreduce 64 MB", on_one_node(2.0, 2.0)),
    ],
)
def test_what_is_fine_is_left_alone(name: str, answers: Any) -> None:
    finding = CHECKS[name].judge(answers)
    assert (finding.verdict, finding.cure) == ("ok", "")


@pytest.mark.parametrize("seed", range(20))
def test_a_clocks_offset_lies_within_the_stated_error(seed: int) -> None:
    numbers = network.judge_clock(clocks(0, 0.3, seed=seed)).numbers
    assert abs(numbers["seconds"] - 0.3) <= numbers["error"] + 1e-9
    assert numbers["error"] < 0.02


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
    found = doctor.examine(world, tmp_path / "deep" / "runs", quick=True, checks=storage.CHECKS)
    assert {finding.verdict for finding in found.values()} <= {"ok", "warn"}
    assert found["run directory's speed"].numbers["write_mb_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["/proc/nowhere", "{file}/runs"])
def test_an_unwritable_run_directory_is_found(world: World, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    folder = Path(where.format(file=tmp_path / "file"))
    finding = doctor.examine(world, folder, checks=storage.CHECKS[:1])["run directory"]
    assert finding.verdict == "bad"
    assert "cannot be written" in finding.value


def test_probes_tell_of_this_machine(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(world, tmp_path, quick=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert CHECKS["open files"].probe(job).files == (math.inf if limit == resource.RLIM_INFINITY else limit)
    assert CHECKS["ranks"].probe(job).horovod == 1
    assert {room.path for room in CHECKS["local scratch"].probe(job)} >= {"/dev/shm"}
    monkeypatch.setattr(machine.tempfile, "tempdir", str(tmp_path / "gone"))
    assert machine.judge_scratch(over_nodes(CHECKS["local scratch"].probe(job))).verdict == "bad"


def test_a_requirement_in_another_version_is_found(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    version = software.metadata.version
    monkeypatch.setattr(software.metadata, "version", lambda name: "0.1" if name == "timm" else version(name))
    (wrong,) = CHECKS["requirements"].probe(Job(world, tmp_path, quick=True))
    assert wrong.startswith("timm 0.1 instead of ")


def test_a_drivers_tool_that_fails_is_a_finding(tmp_path: Path, world: World, monkeypatch: Any) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    gpus._smi.cache_clear()
    found = doctor.examine(world, tmp_path, checks=[CHECKS["GPU health"], CHECKS["GPU driver"]])
    gpus._smi.cache_clear()
    assert {finding.verdict for finding in found.values()} == {"bad"}
    assert "version mismatch" in found["GPU health"].value


def test_the_table_shows_words_and_cures(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    found = {"a": Finding("[red]x[/red]", "bad", "do y"), "b": Finding("fine", numbers={"seconds": 1.5})}
    Console(width=100).print(table(found, "2 ranks"))
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "-> do y" in out
    assert verdict(found) == "a"
    assert rows(found)[1] == {"name": "b", "value": "fine", "verdict": "ok", "cure": "", "numbers": {"seconds": 1.5}}

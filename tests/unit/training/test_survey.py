"""What ranks tell one another: who is slow, and what was used."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcfast.config import RunConfig
from hpcfast.distributed.comm import World
from hpcfast.training import energy, rank_stats, train
from hpcfast.training.energy import Meter, rapl
from hpcfast.training.rank_stats import RankStats, Report
from tests.unit.whole_runs import logged

NO_NOISE = (0.0, 0.0, 0)


def told(monkeypatch: pytest.MonkeyPatch, seconds: list[float], joules: list[float | None]) -> RankStats:
    """A survey of ranks on two nodes, after one epoch of ten steps."""
    reports = [
        Report(f"n{rank // 2}", "processor", 2, own, NO_NOISE, used, "rapl")
        for rank, (own, used) in enumerate(zip(seconds, joules, strict=True))
    ]
    monkeypatch.setattr(rank_stats.comm, "gather", lambda mine: reports)
    subject = RankStats(World(0, len(seconds), 0, 1))
    subject.found = subject.take(0, NO_NOISE, 1, 1)  # type: ignore[attr-defined]
    return subject


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [
        ([10.0], []),
        ([10.0, 11.9], []),
        ([10.0, 15.0], ["rank 1 on n0: 1.5 times the median step"]),
        ([10.0, 11.0, 30.0, 12.0], ["rank 2 on n1: 2.7 times the median step"]),
        (
            [20.0, 10.0, 10.0, 30.0],
            ["rank 0 on n0: 2.0 times the median step", "rank 3 on n1: 3.0 times the median step"],
        ),
        ([9.9, 30.0], []),
    ],
)
def test_ranks_slower_than_the_median_are_named(
    seconds: list[float], slow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = told(monkeypatch, seconds, [0.0] * len(seconds))
    assert subject.stragglers == subject.found == slow  # type: ignore[attr-defined]


def test_short_epochs_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = told(monkeypatch, [4.0, 6.0], [0.0, 0.0])
    slow = [subject.take(0, NO_NOISE, 1, 1) for _ in range(5)]
    assert [bool(each) for each in slow] == [False, True, False, False, True]
    assert subject.stragglers == slow[1] == ["rank 1 on n0: 1.5 times the median step"]


def test_joules_are_those_of_all_nodes_and_survive_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = told(monkeypatch, [1, 1, 1, 1], [30, 0, 12, 0])
    assert (subject.joules, subject.by) == (42, "rapl")
    resumed = told(monkeypatch, [1, 1], [1, 2])
    resumed.load_state_dict(subject.state_dict())
    resumed.take(0, NO_NOISE, 1, 1)
    assert resumed.joules == 45


def test_joules_that_one_node_does_not_know_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = told(monkeypatch, [1, 1, 1, 1], [30, 0, None, 0]).summary()
    assert (summary["joules"], summary["joules_by"]) == (None, "not measured")
    assert (summary["nodes"], summary["slots"], summary["hardware"]) == (2, 4, "processor")


def zone(root: Path, name: str, content: str, microjoules: int) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "name").write_text(content + "\n")
    (path / "max_energy_range_uj").write_text("5000000\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path


def test_rapl_adds_up_packages_and_counters_that_begin_anew(tmp_path: Path) -> None:
    zones = [zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 4_000_000) for i in range(2)]
    zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    meter = Meter(rapl(tmp_path), "rapl")
    assert meter.take() == 0
    (zones[0] / "energy_uj").write_text("4500000\n")
    (zones[1] / "energy_uj").write_text("1000000\n")  # full at 5 J
    assert meter.take() == pytest.approx(0.5 + 2.0)
    assert meter.take() == 0


@pytest.mark.parametrize("spoil", [lambda z: (z / "energy_uj").unlink(), lambda z: (z / "energy_uj").write_text("")])
def test_rapl_that_may_not_be_read_measures_nothing(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    assert Meter(rapl(tmp_path), "rapl").take() is None
    spoil(zone(tmp_path, "intel-rapl:0", "package-0", 1))
    assert Meter(rapl(tmp_path), "rapl").take() is None


@pytest.mark.parametrize("able", [True, False])
def test_nvml_counts_from_the_first_reading(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    readings = iter([5000, 7500])
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)

    def energy_of(handle: str) -> int:
        assert handle == "GPU-abc"
        if not able:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return next(readings)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", energy_of)
    assert Meter(energy.nvml("abc"), "nvml").take() == (2.5 if able else None)


def test_without_a_driver_nvml_measures_nothing() -> None:
    assert Meter(energy.nvml("abc"), "nvml").take() is None


def test_of_a_nodes_ranks_one_answers_for_the_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert [energy.find(World(rank, 2, rank, 1)).take() for rank in range(2)] == [None, 0]


def test_a_gpu_is_read_by_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not run on a GPU: what torch says of one is made up."""
    asked: list[str] = []
    monkeypatch.setattr(energy.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(energy.torch.cuda, "device_count", lambda: 4)
    properties = types.SimpleNamespace(uuid="abc")
    monkeypatch.setattr(energy.torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(energy, "nvml", lambda uuid: asked.append(uuid) or (lambda: None))
    assert energy.find(World(3, 4, 3, 1)).by == "nvml"
    assert asked == ["abc"]


def test_a_straggler_is_logged_every_epoch_and_said_once(
    tiny: Callable[..., RunConfig], world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = ["rank 0 on n0: 2.0 times the median step"]
    monkeypatch.setattr(rank_stats, "ENOUGH", 0)
    monkeypatch.setattr(RankStats, "_slow", lambda self, seconds: slow if any(seconds) else [])
    summary = train.train(tiny("epochs=2", "evaluation.every=0"), world)
    assert logged(tiny(), "stragglers") == [slow, slow]
    assert summary["stragglers"] == slow
    assert capsys.readouterr().out.count(slow[0]) == 1

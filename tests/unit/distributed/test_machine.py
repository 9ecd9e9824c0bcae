"""The memory that a rank may use: the machine's, its control groups' or its GPU's."""

from pathlib import Path

import pytest
import torch

from hpcfast.distributed import machine

CPU, GB = torch.device("cpu"), 2**30


def group(root: Path, path: str, **files: object) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def belongs(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_the_limits_of_control_groups_count_those_above_too(tmp_path: Path) -> None:
    belongs(tmp_path, "0::/slurm/job_7/step_0\n")
    group(tmp_path, "slurm/job_7/step_0", memory__max="max", memory__current=3 * GB, memory__stat="inactive_file 0")
    stat = f"anon {4 * GB}\ninactive_file {GB}"
    group(tmp_path, "slurm/job_7", memory__max=8 * GB, memory__current=5 * GB, memory__stat=stat)
    group(tmp_path, "slurm", memory__max=90 * GB, memory__current=6 * GB, memory__stat="")
    assert machine._left_in_groups(tmp_path) == [4 * GB, 84 * GB]


def test_the_limits_of_version_1_and_of_a_container_count(tmp_path: Path) -> None:
    belongs(tmp_path, "3:cpu,cpuacct:/a\n2:memory:/docker/not-visible-in-here\n")
    stat = f"total_inactive_file {GB}"
    group(tmp_path, "memory", memory__limit_in_bytes=4 * GB, memory__usage_in_bytes=4 * GB + GB // 2, memory__stat=stat)
    assert machine._left_in_groups(tmp_path) == [GB // 2]


def test_without_control_groups_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._left_in_groups(tmp_path) == []
    assert GB // 100 < machine.free(CPU) <= machine.psutil.virtual_memory().total
    monkeypatch.setattr(machine, "_left_in_groups", lambda root: [5, 7])
    assert machine.free(CPU) == 5


def test_a_gpus_memory_is_what_is_free_and_what_torch_keeps_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"mem_get_info": (30, 80), "memory_reserved": 20, "memory_allocated": 8}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert machine.free(torch.device("cuda", 0)) == 42

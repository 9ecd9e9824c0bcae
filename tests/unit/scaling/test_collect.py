"""From what jobs leave to a study's table, and back from its file."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcfast.errors import UserError
from hpcfast.runs.signals import Stopped
from hpcfast.scaling import collect, jobs, local, study
from hpcfast.scaling.planning import estimates, seconds_left
from tests.unit.stories import SUMMARY
from tests.unit.studies import study_rows

STUDY = """
title: a try
strong: [1]
seeds: 2
data: [{name: digits, target: 0.5, global_batch: 8, methods: [{name: fast, config: run.yaml}]}]
"""
DONE = SUMMARY | {
    "status": "finished", "world_size": 1, "epochs": 4.0, "time_to_robust_accuracy_seconds": 12.5,
    "robust_accuracy": 0.52, "versions": {"hpcfast": "0.1.0", "torch": "2"}, "hardware": "a CPU",
    "confirmation": [{"attack": {"name": "pgd", "steps": 50, "restarts": 10}, "robust_accuracy": 0.51}],
    "seconds": {"attack": 8.0, "update": 4.5}, "stragglers": ["rank 3 on n2: 1.4 times the median step"],
}  # fmt: skip


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[jobs.Job]:
    """The two jobs of a study that has not run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").touch()
    (tmp_path / "try.yaml").write_text(STUDY)
    return jobs.jobs(study.load(tmp_path / "try.yaml"))


def leave(job: jobs.Job, code: int | None, summary: dict[str, Any] | None = None, **config: Any) -> None:
    """What a job that ended with ``code`` leaves; None: it was killed with the study."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    end = "" if code is None else f"\n== end {code} 20.0\n"
    job.log.write_text(f"{jobs.START} before\n== end 0 99.0\n{jobs.START} now\nrank 0 failed:\nOSError: no space{end}")
    if summary is not None:
        job.folder.mkdir(parents=True)
        (job.folder / "summary.json").write_text(json.dumps(summary))
        there = {"seed": job.seed, "target": job.of.target, "data": {"batch_size": job.batch}}
        (job.folder / "config.yaml").write_text(yaml.safe_dump({**there, **config}))


@pytest.mark.parametrize(
    ("changed", "status", "note"),
    [
        ({}, "converged", ""),
        ({"time_to_robust_accuracy_seconds": None}, "not converged", "not confirmed: pgd-50 x 10 leaves 0.510 of 0.5"),
        ({"time_to_robust_accuracy_seconds": None, "confirmation": []}, "not converged", "0.5 was not reached"),
        ({"seconds": None, "hardware": None, "stragglers": None}, "converged", ""),
    ],
)
def test_a_finished_job(planned: list[jobs.Job], changed: dict[str, Any], status: str, note: str) -> None:
    leave(planned[0], 0, {**DONE, **changed}, evaluation={"every": 2})
    row, other = collect.rows(planned[0].study)
    assert (row.job, row.status, row.nodes, row.global_batch) == ("digits-fast-strong-1-seed0", status, 1, 8)
    assert note in row.note
    assert (row.versions, row.every) == ("hpcfast 0.1.0, torch 2", 2)
    assert (row.ttra is not None) == (status == "converged")
    assert other.status == "missing"


@pytest.mark.parametrize(
    ("code", "status"),
    [(1, "crashed"), (124, "crashed"), (75, "unfinished"), (143, "unfinished"), (None, "unfinished")],
)
def test_a_job_that_is_not_done(planned: list[jobs.Job], code: int | None, status: str) -> None:
    leave(planned[0], code)
    row = collect.row(planned[0])
    assert row.status == status
    assert row.note == ("rank 0 failed: | OSError: no space" if status == "crashed" else collect.NOTES["unfinished"])


def test_a_run_on_other_ranks_is_refused_by_name(planned: list[jobs.Job]) -> None:
    leave(planned[0], 0, {**DONE, "world_size": 2})
    with pytest.raises(UserError, match=r"digits-fast-strong-1-seed0: ranks were 2, planned are 1"):
        collect.rows(planned[0].study)


@pytest.mark.parametrize("content", ["{", "7", "null"])
def test_a_damaged_summary_is_named(planned: list[jobs.Job], content: str) -> None:
    leave(planned[0], 0, DONE)
    (planned[0].folder / "summary.json").write_text(content)
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        collect.rows(planned[0].study)


def test_time_left_is_known_by_jobs_of_the_same_kind_only(planned: list[jobs.Job]) -> None:
    assert seconds_left(planned, planned) is None
    leave(planned[0], 0, DONE)
    assert estimates(planned) == {planned[0].kind: 20.0}
    assert seconds_left(planned, planned) == 40.0
    assert seconds_left([], []) == 0


def test_the_table_has_a_line_a_job_and_a_column_a_number(tmp_path: Path) -> None:
    rows = [*study_rows(), replace(study_rows()[0], stragglers=("rank 1 on n1: 2 times", "rank 2"), note='a "b", c')]
    collect.write_csv(tmp_path / "results.csv", rows)
    with (tmp_path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    assert list(table[0])[:7] == ["job", "data", "method", "scaling", "nodes", "ranks", "seed"]
    assert float(table[3]["seconds.attack"]) == rows[3].seconds["attack"]
    assert float(table[3]["confirmed.apgd"]) == 0.505
    assert table[-1]["stragglers"] == "rank 1 on n1: 2 times; rank 2"
    assert (table[-1]["note"], table[-1]["joules"]) == ('a "b", c', "")


def fake(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let jobs be a shell script, which knows its run directory as $0."""
    monkeypatch.setattr(local, "command", lambda job, cores: ["bash", "-c", script, str(job.folder)])


def test_a_job_that_crashes_does_not_end_the_study(planned: list[jobs.Job], monkeypatch: pytest.MonkeyPatch) -> None:
    write = f"mkdir -p $0; echo seed: 0 >$0/config.yaml; echo '{json.dumps(DONE)}' >$0/summary.json"
    fake(monkeypatch, f"case $0 in *seed0) echo no memory; exit 9;; esac; {write}")
    planned[0].study.folder.mkdir(parents=True)
    said: list[str] = []
    local.run(planned, said.append)
    assert [job.state for job in planned] == ["crashed", "done"]
    assert any("seed0 crashed: no memory" in line for line in said)
    fake(monkeypatch, f"echo again; {write}")
    local.run(planned, said.append)
    assert [job.state for job in planned] == ["done", "done"]
    assert planned[1].log.read_text().count(jobs.START) == 1, "what is done is not done again"


@pytest.mark.parametrize(
    ("there", "ranks", "words"),
    [
        ("/usr/bin/horovodrun", 2, ["horovodrun", "--gloo", "-np", "2", "hpcfast"]),
        (None, 2, ["torchrun", "--nproc-per-node", "2", "-m", "hpcfast"]),
        (None, 1, ["hpcfast"]),
    ],
)
def test_ranks_on_this_machine_are_started_by_torchrun_where_there_is_no_horovod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str | None, ranks: int, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").touch()
    (tmp_path / "try.yaml").write_text(STUDY.replace("[1]", f"[{ranks}]"))
    monkeypatch.setattr(local.shutil, "which", lambda name, path: there)
    (job, *_) = jobs.jobs(study.load(tmp_path / "try.yaml"))
    assert local.command(job, [3])[: 3 + len(words)] == ["taskset", "--cpu-list", "3", *words]


def test_jobs_run_one_after_another_on_as_many_cores_as_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").touch()
    (tmp_path / "try.yaml").write_text(STUDY.replace("[1]", "[1, 2, 4]"))
    planned = jobs.jobs(study.load(tmp_path / "try.yaml"))
    planned[0].study.folder.mkdir(parents=True)
    begun, said = [], list[str]()

    def command(job: jobs.Job, cores: list[int]) -> list[str]:
        begun.append((job.kind.nodes, job.seed, cores))
        alone = "mkdir alone && sleep 0.2 && rmdir alone"
        left = json.dumps({**DONE, "world_size": job.ranks})
        write = f"mkdir -p $0 && echo seed: 0 >$0/config.yaml && echo '{left}' >$0/summary.json"
        return ["bash", "-c", f"{alone} && {write}", str(job.folder)]

    monkeypatch.setattr(local, "command", command)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 7})
    local.run(planned, said.append)
    assert begun == [(n, seed, [4, 7][:n]) for seed in (0, 1) for n in (1, 2, 4)]
    assert {job.state for job in planned} == {"done"}
    assert said[0] == (
        "warning: 4 ranks with 1 thread each share 2 cores of this machine; their epochs count, their speed does "
        "not: the report gives them no speed-up"
    )
    assert not any("warning" in line for line in said[1:])


def test_a_job_that_takes_too_long_is_ended(planned: list[jobs.Job], monkeypatch: pytest.MonkeyPatch) -> None:
    study = planned[0].study.model_copy(update={"minutes": 0.3 / 60})
    fake(monkeypatch, "sleep 60 & wait")
    monkeypatch.setattr(local, "GRACE", 0.5)
    study.folder.mkdir(parents=True)
    job = replace(planned[0], study=study)
    local.run([job], lambda line: None)
    assert jobs.last_end(job.log)[0] == local.TOO_LONG
    assert "it took longer than minutes: 0.005" in collect.row(job).note


def test_a_signal_ends_the_job_and_the_study(planned: list[jobs.Job], monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "kill -TERM $PPID; exec sleep 60")
    planned[0].study.folder.mkdir(parents=True)
    with pytest.raises(Stopped, match="begins it anew"):
        local.run(planned, lambda line: None)
    assert [job.state for job in planned] == ["unfinished", "missing"]


def test_the_job_of_a_study_that_was_killed_is_waited_for(
    planned: list[jobs.Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = planned[0].study.folder
    home.mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(home / ".job")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as orphan:
        assert orphan.stdout
        orphan.stdout.readline()
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if line.startswith("waiting"):
                orphan.stdin.close()  # type: ignore[union-attr]

        fake(monkeypatch, "exit 1")
        local.run(planned, say)
    assert said[0].startswith("waiting for what a study that was killed")
    assert said[1].startswith("[1/2]")


def test_a_job_that_crashes_without_a_word_is_not_explained_by_its_last_start(planned: list[jobs.Job]) -> None:
    leave(planned[0], 1)
    with planned[0].log.open("a") as log:
        log.write(f"{jobs.START} again $ hpcfast train\n\n== end 9 1.0\n")
    assert collect.row(planned[0]).note == f"it said nothing; see {planned[0].log}"

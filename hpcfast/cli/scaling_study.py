"""``hpcfast scaling plan``, ``run`` and ``collect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast.cli import options
from hpcfast.errors import UserError

if TYPE_CHECKING:
    from hpcfast.scaling.jobs import Job
    from hpcfast.scaling.study import Study

File = Annotated[Path, typer.Argument(help="YAML file, e.g. configs/studies/small.yaml", show_default=False)]


def plan(study: File, json: options.Json = None) -> None:
    """Print the jobs of STUDY, how many are done, and what they cost."""
    from hpcfast.runs.progress import console
    from hpcfast.scaling import planning

    given, jobs = read(study)
    screen, numbers = console(120), planning.numbers(given, jobs)
    screen.print(planning.table(given, jobs).terminal())
    screen.print(planning.sentence(numbers))
    options.write_json(json, numbers)


def run(
    study: File,
    local: Annotated[bool, typer.Option("--local", help="on this machine, without Slurm")] = False,
) -> None:
    """Execute what is not done of STUDY: on Slurm, as arrays of jobs, or with --local here; then report."""
    from hpcfast.cluster import slurm as cluster
    from hpcfast.runs import lock
    from hpcfast.scaling import local as machine
    from hpcfast.scaling import slurm

    given, jobs = read(study)
    _refuse_without_data(jobs)
    if not local:
        cluster.require("here with --local")
    taken = "is in use by another 'hpcfast scaling run'; wait for it"
    with lock.held(given.folder, "study", "go to a folder that you may write", taken):
        pending = [job for job in jobs if job.state != "done"]
        if pending and local:
            machine.run(jobs, lambda line: print(line, flush=True))
        elif pending:
            _tell_submitted(given, slurm.submit(given, study, pending), len(pending))
            return
    if _report(given):
        raise typer.Exit(1)


def collect(study: File) -> None:
    """Gather what the runs of STUDY have measured into its table, studies/NAME/results.csv."""
    from hpcfast.scaling import collect as gathering

    given, jobs = read(study)
    rows = [gathering.row(job) for job in jobs]
    gathering.write_csv(given.folder / "results.csv", rows)
    print(f"{given.folder / 'results.csv'}: {gathering.counted(rows)}")


def read(file: Path) -> tuple["Study", list["Job"]]:
    """A study and its jobs, each with a valid configuration, and with that of the run that is there.

    Raises:
        UserError: the study or a configuration is wrong, or there are runs of another configuration.
    """
    from hpcfast.config import load, read_run
    from hpcfast.runs.directory import RunDirectory
    from hpcfast.scaling import jobs, study

    given = study.load(file)
    planned, strangers = jobs.jobs(given), []
    for job in planned:
        config = load(job.method.config, job.overrides)
        if config.phases or config.accumulate > 1:
            cure = "set phases=[] accumulate=1 in the study"
            raise UserError(f"{job.method.config}: a study decides on the batch, phases and accumulate do too; {cure}")
        # Wherever its data were, a run computes the same; but a study measures time, which that decides on.
        if job.state == "done" and read_run(RunDirectory(job.folder)) != config:
            strangers.append(f"\n  {job.folder}")
    if strangers:
        cure = "move them away, or give the study another name:"
        raise UserError(f"runs of another configuration than the study's are there; {cure}{''.join(strangers)}")
    return given, planned


def _tell_submitted(study: "Study", numbers: list[str], jobs: int) -> None:
    print(f"submitted {jobs} jobs as arrays {', '.join(numbers[:-1])}, then job {numbers[-1]}, which reports")
    print(f"logs     {study.folder / 'logs'}")
    print(f"watch    squeue --jobs={','.join(numbers)}")
    print(f"cancel   scancel {' '.join(numbers)}")


def _report(study: "Study") -> bool:
    """Write table and report; whether there are jobs that are not done."""
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling import report

    rows = gathering.rows(study)
    for path in report.write(study, rows):
        print(path)
    print(gathering.counted(rows))
    failed = [row for row in rows if not row.done]
    for row in failed:
        print(f"{row.job} {row.status}: {row.note}")
    return bool(failed)


def _refuse_without_data(jobs: list["Job"]) -> None:
    from hpcfast.config import load

    first = {job.method.config: job for job in jobs}
    for job in first.values():
        path = load(job.method.config, job.overrides).data.path
        if not path.is_dir():
            raise UserError(f"{job.method.config}: no data set {path}; prepare it with 'hpcfast data prepare'")

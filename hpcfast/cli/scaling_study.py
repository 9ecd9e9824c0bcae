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
    from hpcfast.scaling import jobs, planning
    from hpcfast.scaling import study as studies

    read = studies.load(study)
    planned = jobs.jobs(read)
    _refuse_unsound(planned)
    screen = console(120)
    screen.print(planning.table(read, planned))
    screen.print(planning.sentence(read, planned))
    options.write_json(json, planning.numbers(read, planned))


def run(
    study: File,
    local: Annotated[bool, typer.Option("--local", help="on this machine, without Slurm")] = False,
) -> None:
    """Execute what is not done of STUDY: on Slurm, as arrays of jobs, or with --local here; then report."""
    from hpcfast.cluster import slurm as cluster
    from hpcfast.scaling import folder, jobs, slurm
    from hpcfast.scaling import local as machine
    from hpcfast.scaling import study as studies

    read = studies.load(study)
    planned = jobs.jobs(read)
    _refuse_unsound(planned)
    _refuse_without_data(planned)
    if not local:
        cluster.require("here with --local")
    with folder.claim(read):
        pending = [job for job in planned if job.state != "done"]
        if pending and local:
            machine.run(planned, _say)
        elif pending:
            _tell_submitted(read, slurm.submit(read, study, pending), len(pending))
            return
    failed = _report(read, study)
    if failed:
        raise typer.Exit(1)


def collect(study: File) -> None:
    """Gather what the runs of STUDY have measured into its table, studies/NAME/results.csv."""
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling import jobs
    from hpcfast.scaling import study as studies

    read = studies.load(study)
    _refuse_unsound(jobs.jobs(read))
    rows = gathering.rows(read)
    gathering.write_csv(read.folder / "results.csv", rows)
    print(f"{read.folder / 'results.csv'}: {gathering.counted(rows)}")


def _say(line: str) -> None:
    print(line, flush=True)


def _tell_submitted(study: "Study", numbers: list[str], jobs: int) -> None:
    print(f"submitted {jobs} jobs as arrays {', '.join(numbers[:-1])}, then job {numbers[-1]}, which reports")
    print(f"logs     {study.folder / 'logs'}")
    print(f"watch    squeue --jobs={','.join(numbers)}")
    print(f"cancel   scancel {' '.join(numbers)}")


def _report(study: "Study", file: Path) -> bool:
    """Write table and report; whether there are jobs that are not done."""
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling import report

    rows = gathering.rows(study)
    failed = [row for row in rows if row.status not in ("converged", "not converged")]
    for path in report.write(study, rows):
        if path.suffix != ".svg" and path.suffix != ".png":
            print(path)
    print(gathering.counted(rows))
    for row in failed:
        print(f"{row.job} {row.status}: {row.note}")
    return bool(failed)


def _refuse_unsound(jobs: list["Job"]) -> None:
    """Validate the configuration of each job, and compare it with that of the run that is there.

    Raises:
        UserError: one is wrong, or has runs that are of another configuration.
    """
    from hpcfast.config import load, read_run
    from hpcfast.runs.directory import RunDirectory

    strangers = []
    for job in jobs:
        config = load(job.method.config, job.overrides)
        if config.phases or config.accumulate > 1:
            cure = "set phases=[] accumulate=1 in the study"
            raise UserError(f"{job.method.config}: a study decides on the batch, phases and accumulate do too; {cure}")
        if job.state == "done" and read_run(RunDirectory(job.folder)) != config:
            strangers.append(f"\n  {job.folder}")
    if strangers:
        raise UserError(
            f"runs of another configuration than the study's are there; move them away, or give the study another "
            f"name:{''.join(strangers)}"
        )


def _refuse_without_data(jobs: list["Job"]) -> None:
    from hpcfast.config import load

    first = {job.method.config: job for job in jobs}
    for job in first.values():
        path = load(job.method.config, job.overrides).data.path
        if not path.is_dir():
            raise UserError(f"{job.method.config}: no data set {path}; prepare it with 'hpcfast data prepare'")

"""``hpcfast scaling``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpcfast import foreign
from hpcfast.cli import options
from hpcfast.errors import UserError

if TYPE_CHECKING:
    from hpcfast.scaling.jobs import Job
    from hpcfast.scaling.study import Study

File = Annotated[Path, typer.Argument(help="YAML file, e.g. configs/studies/small.yaml", show_default=False)]
app = typer.Typer(no_args_is_help=True, help="How long to a given robust accuracy, on how many nodes, at what cost.")


@app.command(**options.examples("hpcfast scaling plan configs/studies/small.yaml"))
@foreign.trusting()
def plan(study: File, json: options.Json = None) -> None:
    """Print the jobs of STUDY, how many are done, and what they cost."""
    from hpcfast.runs.progress import console
    from hpcfast.scaling import planning

    given, jobs = read(study)
    screen, numbers = console(120), planning.numbers(given, jobs)
    screen.print(planning.table(given, jobs).terminal())
    screen.print(planning.sentence(numbers))
    options.write_json(json, numbers)


@app.command(**options.examples("hpcfast scaling run configs/studies/small.yaml --local"))
@foreign.trusting()
def run(
    study: File,
    local: Annotated[bool, typer.Option("--local", help="on this machine, without Slurm")] = False,
) -> None:
    """Execute what is not done of STUDY: on Slurm, as arrays of jobs, or with --local here; then report."""
    from hpcfast.cluster import slurm as cluster
    from hpcfast.report.format import count
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
            numbers = slurm.submit(given, study, pending)
            *arrays, last = numbers
            print(
                f"submitted {count(len(pending), 'job')} as arrays {', '.join(arrays)}, then job {last}, which reports"
            )
            print(f"logs     {given.folder / 'logs'}")
            print(f"watch    squeue --jobs={','.join(numbers)}")
            print(f"cancel   scancel {' '.join(numbers)}")
            return
    _report(given)


@app.command(**options.examples("hpcfast scaling collect configs/studies/small.yaml"))
@foreign.trusting()
def collect(study: File) -> None:
    """Gather what the runs of STUDY have measured into its table, studies/NAME/results.csv."""
    from hpcfast.scaling import collect as gathering

    given, _ = read(study)
    rows, table = gathering.rows(given), given.folder / "results.csv"
    gathering.write_csv(table, rows)
    print(f"{table}: {gathering.counted(rows)}")


@app.command(**options.examples("hpcfast scaling report configs/studies/small.yaml"))
@foreign.trusting()
def report(
    study: File,
    out: Annotated[Path | None, typer.Option(help="folder to write into; default: studies/NAME")] = None,
) -> None:
    """Say what came out of STUDY so far: an HTML page, Markdown, a CSV table and figures."""
    from hpcfast.scaling import cells
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling import report as reporting

    given, _ = read(study)
    rows = gathering.rows(given)
    if all(row.status == "missing" for row in rows):
        raise UserError(f"nothing of {study} has run yet; start it with 'hpcfast scaling run {study}'")
    written = reporting.write(given, rows, out)
    for data, own in reporting.by_data(rows).items():
        print(f"{data}: {reporting.answer(own)}")
    for warning in reporting.warnings(cells.cells(rows)):
        print(f"warning: {warning}")
    print(f"page: {written[0]}")


@app.command(
    **options.examples(
        "hpcfast scaling predict configs/studies/small.yaml --nodes 1..4096",
        "hpcfast scaling predict configs/studies/small.yaml --nodes 1,2,6 --mtbf 40000",
    )
)
def predict(
    study: File,
    nodes: Annotated[str, typer.Option(help="node counts: 1,2,6 or 1..4096, by powers of two")] = "1..4096",
    mtbf: Annotated[
        float | None, typer.Option(help="hours between failures of one node: also say what they cost", min=0.01)
    ] = None,
    checkpoint: Annotated[
        float, typer.Option(help="with --mtbf: seconds that writing one keeps the run waiting", min=0.001)
    ] = 30,
    restart: Annotated[float, typer.Option(help="with --mtbf: seconds from a failure to the next step", min=0)] = 120,
    json: options.Json = None,
) -> None:
    """Predict time to robust accuracy, efficiency, cost and the knee for node counts that were not measured."""
    from dataclasses import asdict

    from hpcfast.runs.files import save_text
    from hpcfast.runs.progress import console
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling.predict import forecast
    from hpcfast.scaling.predict.model import Failures

    given, _ = read(study)
    failing = Failures(mtbf * 3600, checkpoint, restart) if mtbf else None
    found, refused = forecast.forecasts(gathering.rows(given), counts(nodes), given.price_per_node_hour, failing)
    for each in found:
        console(160).print(each.table().terminal())
        print("\n".join(each.notes), end="\n\n")
    for line in refused:
        print(f"no prediction for {line}")
    page = given.folder / "prediction.md"
    save_text(page, forecast.markdown(given.title, found, refused))
    print(f"page: {page}")
    options.write_json(json, {"forecasts": [asdict(each) for each in found], "refused": refused})


@app.command(**options.examples("hpcfast scaling check runs/digits_l2"))
def check(
    runs: Annotated[list[Path], typer.Argument(help="directories of finished runs", show_default=False)],
    mllog: Annotated[Path | None, typer.Option(help="also write the log of one run in MLPerf's form")] = None,
) -> None:
    """Prove the logs of RUNS: complete, possible, and in agreement with their summaries."""
    from hpcfast.runs.check import check
    from hpcfast.runs.files import save_text
    from hpcfast.runs.mlperf import text

    if mllog and len(runs) > 1:
        raise UserError(f"--mllog takes one run, not {len(runs)}; call it for each")
    if mllog and mllog.exists():
        raise UserError(f"--mllog {mllog} exists; remove it or give another file")
    sound, faults = [], []
    for run in runs:
        try:
            sound.append(check(run))
        except UserError as error:
            faults.append(str(error))
    for each in sound:
        print(each)
    if faults:
        raise UserError("\n".join(faults))
    if mllog:
        try:
            mllog.parent.mkdir(parents=True, exist_ok=True)
            save_text(mllog, text(sound[0].events, sound[0].converged))
        except OSError as error:
            raise UserError(f"--mllog {mllog} cannot be written: {error}") from None


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
        try:
            config = load(job.method.config, job.overrides)
        except UserError as error:
            raise UserError(f"{file}, method {job.method.name}: {error}") from None
        if config.phases or config.accumulate > 1:
            cure = "set phases=[] accumulate=1 in the study"
            raise UserError(f"{job.method.config}: a study decides on the batch, phases and accumulate do too; {cure}")
        # Wherever its data were, a run computes the same; but a study measures time, which that decides on.
        if job.state == "done" and read_run(RunDirectory(job.folder)).settled != config.settled:
            strangers.append(f"\n  {job.folder}")
    if strangers:
        cure = "move them away, or give the study another name:"
        raise UserError(f"runs of another configuration than the study's are there; {cure}{''.join(strangers)}")
    return given, planned


def counts(text: str) -> list[int]:
    """Read ``1,2,6`` or ``1..4096`` (both ends, and the doublings of the first between them).

    Raises:
        UserError: it is neither.
    """
    try:
        first, dots, last = text.partition("..")
        found = [int(part) for part in ((first, last) if dots else text.split(","))]
        if min(found) < 1 or (dots and found[0] > found[1]):
            raise ValueError
    except ValueError:
        raise UserError(f"--nodes {text}: give counts of 1 or more, as 1,2,6 or as 1..4096") from None
    if dots:
        start, end = found
        return [*(start * 2**i for i in range(end.bit_length()) if start * 2**i < end), end]
    return found


def _report(study: "Study") -> None:
    """Write table and report; exit with 1 if there are jobs that are not done."""
    from hpcfast.scaling import collect as gathering
    from hpcfast.scaling import report

    rows = gathering.rows(study)
    for path in report.write(study, rows):
        print(path)
    print(gathering.counted(rows))
    failed = [row for row in rows if not row.done]
    for row in failed:
        print(f"{row.job} {row.status}: {row.note}")
    if failed:
        raise typer.Exit(1)


def _refuse_without_data(jobs: list["Job"]) -> None:
    from hpcfast.config import load

    for job in {job.kind[:2]: job for job in jobs if job.state != "done"}.values():
        path = load(job.method.config, job.overrides).data.path
        if not path.is_dir():
            raise UserError(f"{job.method.config}: no data set {path}; prepare it with 'hpcfast data prepare'")

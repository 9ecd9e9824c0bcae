"""``hpcfast submit``."""

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hpcfast import foreign
from hpcfast.cli import options
from hpcfast.errors import UserError

if TYPE_CHECKING:
    from hpcfast.config import RunConfig

EXAMPLES = options.examples(
    "hpcfast submit configs/cifar10_l2.yaml --nodes 2 --gpus-per-node 4 --dry-run",
    "hpcfast submit configs/cifar10_l2.yaml --template evaluate",
)


@foreign.trusting()
def command(
    config: options.Config,
    overrides: options.Overrides = None,
    nodes: Annotated[int | None, typer.Option(help="default: the template's", min=1)] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(help="and as many ranks, if not 0; default of train: 0", min=0)
    ] = None,
    time: Annotated[str | None, typer.Option(help="limit of a job, e.g. 4:00:00")] = None,
    partition: Annotated[str | None, typer.Option(help="where to run; 'sinfo' lists them")] = None,
    account: Annotated[str | None, typer.Option(help="who pays")] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(help="any other option of sbatch, e.g. cpus-per-task=4; may be repeated")
    ] = None,
    template: Annotated[Literal["train", "evaluate"], typer.Option(help="what to do with CONFIG's run")] = "train",
    chain: Annotated[int, typer.Option(help="jobs in a row, where requeueing is forbidden", min=1)] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the batch script, write and submit nothing")
    ] = False,
) -> None:
    """Submit CONFIG to Slurm, by a batch script made from those in slurm/."""
    from hpcfast.cluster import slurm, submit
    from hpcfast.config import load

    run = load(config, overrides)
    given: dict[str, int | str | None] = {
        "job-name": run.name if template == "train" else f"evaluate-{run.name}", "nodes": nodes,
        "gpus-per-node": gpus_per_node, "ntasks-per-node": gpus_per_node or None, "time": time,
        "partition": partition, "account": account,
    }  # fmt: skip
    for text in sbatch or []:
        name, equals, value = text.lstrip("-").partition("=")
        if not equals:
            raise UserError(f"--sbatch {text}: write NAME=VALUE, e.g. --sbatch cpus-per-task=4")
        given[name] = value
    chosen = {name: str(value) for name, value in given.items() if value is not None}
    work = ["train", str(config), *(overrides or [])]
    if template == "evaluate":
        trusted = [foreign.OPTION] if foreign.imported(run.dump()) else []
        work = ["eval", str(run.folder), "--attack", "autoattack", *trusted]
    script = submit.render(template, chosen, work, follow=chain > 1)
    if dry_run:
        print(script, end="")
        return
    _refuse_needless(run, template)
    slurm.require("print the script with --dry-run > job.sh")
    path = run.runs / f"{run.name}.{template}.sh"
    submit.write(script, path)
    jobs = submit.send(path, chosen, chain)
    after = f", then {', '.join(jobs[1:])}, each after the one before" if jobs[1:] else ""
    print(f"submitted job {jobs[0]}{after}")
    print(f"script   {path}")
    log = chosen.get("output", "%x-%j.log").replace("%x", chosen["job-name"]).replace("%j", jobs[0])
    print(f"log      tail -F {shlex.quote(log)}")
    print(f"watch    squeue --jobs={','.join(jobs)}")
    print(f"cancel   scancel {' '.join(jobs)}")


def _refuse_needless(run: "RunConfig", template: str) -> None:
    """Refuse a job that would wait in the queue only to end at once."""
    from hpcfast.runs.directory import RunDirectory

    done = RunDirectory(run.folder).read_summary() is not None
    if done and template == "train":
        raise UserError(f"{run.folder} is complete: give another name=, or measure it with --template evaluate")
    if not done and template == "evaluate":
        raise UserError(f"{run.folder} is not a finished run: submit its training first (without --template)")

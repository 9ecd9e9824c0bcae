"""``hpcfast doctor``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hpcfast.cli import options

EXAMPLES = options.examples(
    "hpcfast doctor --quick",
    "srun --nodes=2 hpcfast doctor",
)


def command(
    quick: Annotated[bool, typer.Option("--quick", help="send 1 MB instead of 64")] = False,
    run_dir: Annotated[Path, typer.Option(help="where runs are to be written")] = Path("runs"),
    json: options.Json = None,
) -> None:
    """Examine this machine, or all nodes of a job under srun, mpirun or horovodrun, and say what to do.

    Exits with 2 if something is bad.
    """
    from hpcfast.errors import UserError

    try:
        from hpcfast.distributed import comm
    except ImportError as error:
        raise UserError(f"torch or Horovod cannot be loaded ({error}); 'rm -r .venv', then scripts/setup") from None
    from hpcfast import doctor
    from hpcfast.runs.progress import console

    world = comm.init(gpus=False)  # it looks at them itself
    findings = doctor.examine(world, run_dir, quick)

    def report() -> None:
        console(120).print(doctor.table(findings, f"ranks: {world.size}"))
        rows = [{"name": name, **asdict(finding)} for name, finding in findings.items()]
        options.write_json(json, {"ranks": world.size, "findings": rows})
        if bad := ", ".join(name for name, finding in findings.items() if finding.verdict == "bad"):
            raise UserError(f"bad: {bad}; the table says what to do")

    comm.on_root(report)

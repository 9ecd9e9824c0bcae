"""``hpcfast submit``: a batch script made from a template of the folder slurm/, and jobs of Slurm that run it.

The script differs from its template in three places: sbatch's options, where hpcfast lies, and the command at its end.
slurm/lib.sh and slurm/site.sh do the same for both.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcfast.cluster import slurm
from hpcfast.errors import UserError
from hpcfast.runs import files
from hpcfast.runs.names import printable

TEMPLATES = {"train": "train.sh", "evaluate": "evaluate.sh"}
MARK = "# Written by `hpcfast submit`"
"""In files that this command may replace."""


def render(kind: str, options: Mapping[str, str], command: Sequence[str], follow: bool = False) -> str:
    """A batch script.

    Args:
        kind: of TEMPLATES.
        options: sbatch's, without the dashes; they replace the template's.
        command: what ``hpcfast`` shall run on all ranks.
        follow: following jobs resume where one was stopped, so that it need not be requeued.

    Raises:
        UserError: the template is missing, or an option is more than a line: the next would be a command.
    """
    for name, value in options.items():
        if not (name + value).isprintable():
            raise UserError(f"--{printable(f'{name}={value}')}: a batch script has an option in one line")
    template = slurm.SCRIPTS / TEMPLATES[kind]
    try:
        lines = template.read_text().splitlines()
    except FileNotFoundError:
        raise UserError(f"no {template}: hpcfast is not installed whole; install it anew") from None
    header = [line for line in lines if line.startswith("#SBATCH ")]
    (reads,) = (number for number, line in enumerate(lines) if line.startswith(". "))
    body = lines[lines.index(header[-1]) + 1 : reads + 1]
    script = [lines[0], f"{MARK} from {template.name}"]
    script += [line for line in header if line.split("--", 1)[-1].partition("=")[0] not in options]
    script += [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items()]
    script += [f"export {name}={shlex.quote(value)}" for name, value in slurm.HOME.items()]
    script += ["export HPCFAST_AGAIN=never # the next job of the chain resumes"] if follow else []
    return "\n".join([*script, *body, f'job {shlex.join(command)} "$@"']) + "\n"


def write(script: str, path: Path) -> None:
    """Write the script; one that this command has written is replaced.

    Raises:
        UserError: it cannot be written, or another file is there.
    """
    try:
        if path.exists() and MARK not in path.read_text(errors="replace"):
            raise UserError(f"{path} is not a script of hpcfast; move it away, or give another name=")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.save_text(path, script)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); set runs= to a folder you may write") from None


def send(path: Path, options: Mapping[str, str], jobs: int) -> list[str]:
    """Submit ``jobs`` jobs that run the script one after the other, each after the one before has ended in any way.

    Args:
        path: the script.
        options: as for :func:`render`; repeated here because variables such as SBATCH_PARTITION, which site.sh may
            set, come before a script's own options.
        jobs: how many.

    Returns:
        Their numbers.

    Raises:
        UserError: Slurm refuses, in its own words.
    """
    sent: list[str] = []
    for _ in range(jobs):
        after = {"dependency": f"afterany:{sent[-1]}"} if sent else {}
        sent.append(slurm.sbatch({**options, **after}, path))
    return sent

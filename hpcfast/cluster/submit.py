"""``hpcfast submit``: a batch script made from a template of the folder slurm/, and jobs of Slurm that run it.

The script differs from its template in three places: sbatch's options, ``HPCFAST_HOME``, and the command at its end.
slurm/lib.sh and slurm/site.sh do the same for both.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import hpcfast
from hpcfast.errors import UserError
from hpcfast.runs import files

HOME = Path(hpcfast.__file__).parents[1]
"""The checkout, whose folder slurm/ has the templates."""
TEMPLATES = {"train": "train_imagenet_l2.sh", "evaluate": "evaluate.sh"}
TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
"""Slurm's forms of a time limit: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
MARK = "# Written by `hpcfast submit`"
"""Marks a file as written by this command, which may replace it."""


def render(kind: str, options: Mapping[str, str], command: Sequence[str], follow: bool = False) -> str:
    """A batch script.

    Args:
        kind: of TEMPLATES.
        options: sbatch's, without the dashes; they replace the template's.
        command: what ``hpcfast`` shall run on all ranks.
        follow: following jobs resume where one was stopped, so that it need not be requeued.

    Raises:
        UserError: the template is missing or damaged, or the time limit is invalid.
    """
    if not TIME.fullmatch(limit := options.get("time", "1")):
        cure = "minutes, or H:M:S as in 4:00:00, or D-H as in 2-12, or UNLIMITED"
        raise UserError(f"{limit!r} is not a time limit of Slurm; give {cure}")
    template = HOME / "slurm" / TEMPLATES[kind]
    try:
        lines = template.read_text().splitlines()
        header = [line for line in lines if line.startswith("#SBATCH ")]
        body = lines[lines.index(header[-1]) + 1 : lines.index("prepare") + 1]
    except FileNotFoundError:
        raise UserError(f"no {template}: use the hpcfast of a git checkout (make setup), which has slurm/") from None
    except (IndexError, ValueError):
        raise UserError(f"{template} lacks '#SBATCH' lines or 'prepare': get it back with git checkout slurm") from None
    kept = [line for line in header if line.split("--", 1)[-1].partition("=")[0] not in options]
    given = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in options.items()]
    again = ["export HPCFAST_AGAIN=never # the next job of the chain resumes"] if follow else []
    home = f"export HPCFAST_HOME={shlex.quote(str(HOME))}"
    work = f"work {shlex.join(command)}"
    return "\n".join([lines[0], f"{MARK} from {template.name}", *kept, *given, home, *again, *body, work]) + "\n"


def log_of(script: str, job: str) -> str:
    """The file that ``job`` writes its log to, relative to the working directory of sbatch."""
    words = shlex.split("\n".join(line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")))
    values = dict(word[2:].split("=", 1) for word in words if "=" in word)
    return values.get("output", "slurm-%j.out").replace("%x", values.get("job-name", "")).replace("%j", job)


def write(script: str, path: Path) -> None:
    """Write the script; one that was written by us is replaced.

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
        after = [f"--dependency=afterany:{sent[-1]}"] if sent else []
        command = ["sbatch", "--parsable", *(f"--{name}={value}" for name, value in options.items()), *after, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            before = f"; submitted before that, and still there: {' '.join(sent)}" if sent else ""
            raise UserError(f"{shlex.join(command)}: {done.stderr.strip() or done.returncode}{before}")
        sent.append(done.stdout.strip().partition(";")[0])  # "number;cluster" where there are several
    return sent


def require_sbatch() -> None:
    """Refuse to continue without Slurm.

    Raises:
        UserError: there is no sbatch on PATH.
    """
    if shutil.which("sbatch") is None:
        cure = "run this on a login node of a cluster with Slurm, or print the script with --dry-run > job.sh"
        raise UserError(f"there is no sbatch on PATH; {cure}")

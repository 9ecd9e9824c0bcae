"""The ``hpcfast`` command. Each file here is one subcommand; heavy imports wait until it runs.

Exit codes: 0 done; 2 the user's input is wrong (one message, from rank 0); 75 stopped early, the same command resumes;
76 another rank has failed; 130, 140, 143 ended by a signal, the same command starts again; anything else is a failure,
with a traceback from the rank that failed first.
"""

import io
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from hpcfast import __version__
from hpcfast.cli import (
    bench,
    config,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    init,
    report,
    scaling,
    submit,
    train,
)
from hpcfast.distributed import launcher, lines
from hpcfast.errors import UserError, to_cure
from hpcfast.runs.names import in_lines
from hpcfast.runs.signals import EXIT_STOPPED, Interrupted, Stopped, at_once, note_early

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 1000},  # as wide as the terminal
    help="Train image classifiers that resist adversarial perturbations, fast.",
)
app.command("demo", **demo.EXAMPLES)(demo.command)
app.command("init", **init.EXAMPLES)(init.command)
app.command("train", **train.EXAMPLES)(train.command)
app.command("eval", **evaluate.EXAMPLES)(evaluate.command)
app.command("explain", **explain.EXAMPLES)(explain.command)
app.command("report", **report.EXAMPLES)(report.command)
app.command("export", **export.EXAMPLES)(export.command)
app.command("submit", **submit.EXAMPLES)(submit.command)
app.command("doctor", **doctor.EXAMPLES)(doctor.command)
app.add_typer(data.app, name="data")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")
app.add_typer(scaling.app, name="scaling")


def _say_version(asked: bool) -> None:
    if asked:
        print(f"hpcfast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """What is no command's."""


def main() -> None:
    """Run the command line; ends the process."""
    note_early()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file may have a name that the terminal cannot show
    launcher.prepare()
    rank = launcher.rank()
    try:
        with at_once():
            app()
    except UserError as error:
        if not rank:
            lines.write(in_lines(f"error: {error}"), sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        if not rank:
            lines.write(in_lines(str(stopped)), sys.stderr)
        sys.exit(EXIT_STOPPED)
    except Interrupted as interrupted:
        sys.exit(interrupted.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the last stop: every fault must end the whole job
        _fail(error, rank)


def _fail(error: Exception, rank: int | None) -> NoReturn:
    """Print what went wrong on this rank and end the whole job."""
    # Of a disk that is full or read-only, on which rank 0 alone writes what all ranks need.
    said = to_cure(error) if isinstance(error, OSError) and not rank else None
    if said:
        lines.write(in_lines(f"error: {said}"), sys.stderr)
    if rank is None:
        raise (SystemExit(2) if said else error)
    from hpcfast.distributed import comm

    if said:
        comm.abort(2)
    lost = comm.lost_a_peer(error)
    if lost:
        lines.write(f"rank {rank}: stopped, because another rank failed\n{comm.peers()}", sys.stderr)
    else:
        lines.write(f"rank {rank} failed:\n{''.join(traceback.format_exception(error))}", sys.stderr)
    comm.abort(comm.EXIT_LOST if lost else 1)

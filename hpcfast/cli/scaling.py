"""``hpcfast scaling``."""

import typer

app = typer.Typer(no_args_is_help=True, help="How long to a given robust accuracy, on how many nodes, at what cost.")

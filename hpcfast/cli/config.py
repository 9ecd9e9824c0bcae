"""``hpcfast config``."""

import json

import typer

from hpcfast.cli import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at configurations.")


@app.command(**options.examples("hpcfast config show configs/digits_l2.yaml attack.name=pgd attack.steps=7"))
def show(config: options.Config, overrides: options.Overrides = None, trust_code: options.TrustCode = False) -> None:
    """Print CONFIG resolved: bases merged, overrides applied, defaults filled in."""
    from hpcfast.config import load

    print(load(config, overrides).dump(), end="")


@app.command(**options.examples("hpcfast config schema"))
def schema() -> None:
    """Print the JSON schema of a configuration, and of every component a name can choose."""
    from hpcfast.config import schema

    print(json.dumps(schema(), indent=1))

"""The generated reference is what the code says today."""

import subprocess
import sys
from pathlib import Path

import yaml

from hpcfast.config import RunConfig, load
from scripts.config_reference import page

DOCS = Path(__file__).parents[2] / "docs"


def test_command_reference_is_current() -> None:
    typer = Path(sys.executable).parent / "typer"
    done = subprocess.run(
        [str(typer), "hpcfast.cli", "utils", "docs", "--name", "hpcfast"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (DOCS / "reference" / "cli.md").read_text().strip(), "run `make docs`"


def test_configuration_reference_is_current_and_says_what_every_key_is() -> None:
    text = page()
    assert text == (DOCS / "reference" / "config.md").read_text(), "run `make docs`"
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    silent = [row for row in rows if row.endswith("|  |")]
    assert silent == [], "a docstring below the field is its description"


def test_the_annotated_configuration_is_valid_and_complete(tmp_path: Path) -> None:
    text = (DOCS / "config.md").read_text().split("```yaml\n")[1].split("```")[0]
    values = yaml.safe_load(text)
    del values["base"]
    path = tmp_path / "annotated.yaml"
    path.write_text(yaml.safe_dump(values))
    assert load(path).epochs == 15
    assert set(values) == set(RunConfig.model_fields)
    for group in ("data", "model", "optim", "evaluation", "guard", "allreduce", "checkpoint"):
        assert set(values[group]) == set(RunConfig.model_fields[group].annotation.model_fields), group

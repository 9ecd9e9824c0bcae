"""Pages from templates, and which of them are ours."""

import time
from pathlib import Path
from typing import Any

import jinja2

import hpcfast
from hpcfast.report.format import moment


def fill(template: str, *packages: str, **values: Any) -> str:
    """Fill a template of one of ``packages``, or of this one; in HTML every value is text."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in (*packages, "hpcfast.report")]),
        autoescape=template.endswith("html.j2"),  # a run, a class, a host or an error may have any name
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    now = moment(time.time())
    return environment.get_template(template).render(version=hpcfast.__version__, now=now, **values)


def is_strange(page: Path, mark: str) -> bool:
    """Whether ``page`` is a file without our ``mark``, which must not be replaced."""
    return page.is_file() and mark not in page.read_text(errors="replace")[:1000]

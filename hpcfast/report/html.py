"""Pages from templates, and which of them are ours."""

import time
from pathlib import Path
from typing import Any

import jinja2

import hpcfast
from hpcfast.report.format import moment


def fill(template: str, *packages: str, **values: Any) -> str:
    """Fill a template of one of ``packages``, or of this one."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in (*packages, "hpcfast.report")]),
        autoescape=True,  # a run, a class, a host or an error may have any name
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(signature=signature(), **values)


def signature() -> str:
    """Who wrote a report, and when."""
    return f"Written by hpcfast {hpcfast.__version__}, {moment(time.time())}."


def is_strange(page: Path, mark: str) -> bool:
    """Whether ``page`` is a file without our ``mark``, which must not be replaced."""
    return page.is_file() and mark not in page.read_text(errors="replace")[:1000]

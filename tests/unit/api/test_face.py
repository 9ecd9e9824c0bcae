"""``import hpcfast``: light, and it offers what it says."""

import subprocess
import sys

import pytest

import hpcfast
from hpcfast import api


def test_importing_loads_no_torch() -> None:
    code = "import sys, hpcfast; print(sorted({'torch', 'numpy', 'pydantic', 'typer'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_offers_what_it_lists() -> None:
    assert sorted(hpcfast.__all__) == sorted(api.__all__)
    assert {*hpcfast.__all__} <= {*dir(hpcfast)}
    for name in hpcfast.__all__:
        assert getattr(hpcfast, name) is getattr(api, name)
        assert getattr(hpcfast, name).__doc__


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="'hpcfast' has no attribute 'pgd'"):
        _ = hpcfast.pgd

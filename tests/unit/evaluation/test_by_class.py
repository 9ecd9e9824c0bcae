"""Accuracies by class, and what images are taken for."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from hpcfast.evaluation.by_class import MOST, by_class

NAMES = ("a", "b", "c", "d")
images = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of scikit-learn, on classes without an image
@given(images)
def test_it_counts_as_scikit_learn_does(rows: list[tuple[int, int, int]]) -> None:
    labels, clean, attacked = np.array(rows, np.int64).T
    attacked = np.where(clean == labels, attacked, clean)
    found = by_class(NAMES, labels, clean, attacked)
    assert json.loads(json.dumps(found)) == found, "plain numbers"
    assert [each["name"] for each in found["classes"]] == [*NAMES]
    present = [each for each in found["classes"] if each["images"]]
    assert "robust_accuracy" not in found["classes"][3], "of no image nothing is known"
    assert sum(each["images"] for each in present) == len(rows)
    for key, taken in (("clean_accuracy", clean), ("robust_accuracy", attacked)):
        mean = found["balanced_accuracy"][key.removesuffix("_accuracy")]
        assert mean == pytest.approx(balanced_accuracy_score(labels, taken), abs=1e-9)
        for each in present:
            low, high = each["ci95"][key]
            assert low <= each[key] <= high
    matrix = {key: confusion_matrix(labels, taken, labels=range(4)) for key, taken in
              (("clean", clean), ("attacked", attacked))}  # fmt: skip
    for key, expected in matrix.items():
        np.fill_diagonal(expected, 0)
        shown = np.zeros_like(expected)
        for pair in found["confusion"]:
            shown[NAMES.index(pair["class"]), NAMES.index(pair["taken_for"])] = pair[key]
        assert (shown == expected).all()
    counts = [pair["attacked"] for pair in found["confusion"]]
    assert counts == sorted(counts, reverse=True)


def test_of_many_pairs_the_most_frequent_are_kept() -> None:
    names = tuple(f"{i:03}" for i in range(100))
    labels = np.repeat(np.arange(100), 2)
    attacked = (labels + 1) % 100
    attacked[:2] = 50
    found = by_class(names, labels, labels, attacked)["confusion"]
    assert len(found) == MOST
    assert found[0] == {"class": "000", "taken_for": "050", "clean": 0, "attacked": 2}

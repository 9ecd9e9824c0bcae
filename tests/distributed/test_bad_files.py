"""Bad files under real ranks: one rank meets them, all leave them out, and each good image is trained on once."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hpcfast.data.dataset import hold_out
from hpcfast.data.order import train_order
from hpcfast.data.reader import read_splits
from tests.distributed.conftest import WORKERS, Playground

pytestmark = pytest.mark.distributed
FAULTY = str(WORKERS / "faulty_train.py")
ALWAYS = "checkpoint.minutes=1e-9"  # at every step


def test_bad_files_begun_on_two_ranks_and_ended_on_three(playground: Playground) -> None:
    data = shutil.copytree(playground.path / "data", playground.path / "spoilt")
    train, val = hold_out(read_splits(data)[0], 12)[0], read_splits(data)[1]
    order = train_order(48, 0, 0, 1, 1)
    # On two ranks of four images a step: in the first step of rank 1, in the fourth of rank 0, in the last of rank 1.
    bad = sorted(int(order[place]) for place in (5, 24, 47))
    for i in bad:
        Path(train.files[i]).write_text("This is no image.")
    Path(val.files[20]).write_bytes(b"")
    command = ("train", str(playground.config), "name=spoilt", f"data.path={data}", ALWAYS)
    killed = playground.start(2, FAULTY, "kill", "1", "0.5", *command)
    assert killed.code != 0
    run = playground.path / "runs" / "spoilt"
    first = [json.loads(line) for file in run.glob("seen-*.jsonl") for line in file.read_text().splitlines()]
    job = playground.start(3, FAULTY, "none", "all", "0", *command)
    assert job.code == 0, job.output
    assert "now on 3 ranks instead of 2" in job.output
    assert "left out of the evaluation: val/2/6.png is empty" in job.output
    for i in bad:
        assert train.files[i] in killed.output + job.output
    assert hold_out(read_splits(data, run / "skips.txt")[0], 12)[0].skips == dict.fromkeys(
        bad, "cannot be decoded: it begins with b'This is '"
    )
    assert json.loads((run / "summary.json").read_text())["n_eval"] == 20

    lines = [json.loads(line) for file in run.glob("seen-*.jsonl") for line in file.read_text().splitlines()]
    for seen in first:
        lines.remove(seen)
    resumed = min(seen["step"] for seen in lines)
    kept = [seen for seen in first if seen["step"] < resumed]
    assert kept, "two ranks have done a part"
    for epoch in range(3):
        counts = Counter(i for seen in kept + lines if seen["epoch"] == epoch for i in seen["ids"])
        assert set(counts.values()) == {1}, f"epoch {epoch}: an image came twice"
        assert not {*counts} & {*bad}
        steps = len({seen["step"] for seen in kept if seen["epoch"] == epoch})
        assert len(counts) == 8 * steps + (45 - 8 * steps) // 12 * 12, f"epoch {epoch}"

"""What the watchdog says: warnings, deadlocks, who was heard when; of thousands of ranks, too."""

import os

import pytest

from hpcfast.distributed.secret import sign
from tests.unit.distributed.net import KEY, Net


def test_a_silent_rank_is_warned_of_once_and_may_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "a", "b", warning=5.0)
    net.run(5)
    net.stopped = {1, 2}
    net.run(12)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: rank 1 on host a (pid {os.getpid()}, step 0) has been silent for 5 s (so have ")
    assert line.endswith("ranks 2); the job waits for up to 15 s (HPCFAST_STALL_SECONDS)")
    net.stopped = {2}
    net.run(2)
    assert capsys.readouterr().err == "ranks 1 are heard again, after 14 s\n"
    net.run(30)
    assert net.ended == [0, 1]
    assert capsys.readouterr().err.startswith("rank 2 on host b")


def test_of_rank_0_the_last_rank_warns(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "a", "b", warning=5.0)
    net.run(5)
    net.stopped = {0}
    net.run(10)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: rank 0 on host a")


def test_a_rank_never_heard_is_warned_of_once_and_not_condemned(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "b", "c", "d")
    net.cut = {1, 3}
    net.run(200)
    assert not net.ended
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no heartbeat from ranks 1, 3, ")
    assert "UDP port 1 of host a" in line


def test_four_thousand_ranks_are_watched_and_the_one_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    root = Net("a", "b").dogs[0]
    root.size = 4096
    root._socket.sendto = lambda data, to: None
    ended: list[int] = []
    root._end = lambda: ended.append(1)
    for now in range(16):
        for rank in range(1, 4096) if now in (0, 8) else ():
            if rank != 4000 or now == 0:
                beat = b'["beat", %d, "h", 1, 9, "", "", 0.0]' % rank
                root._handle(sign(KEY, beat) + beat, ("x", 1), now)
        assert not ended
        root._tick(now)
    assert ended == [1]
    assert capsys.readouterr().err.startswith("rank 4000 on host h (pid 1, step 9) has been silent for 15 s:")


def test_the_table_lists_the_longest_silent_first_and_not_thousands() -> None:
    net = Net(*"a" * 30)
    net.run(2)
    net.stopped = {7}
    net.dogs[7].note = "unheard"
    net.run(3)
    lines = net.dogs[0].table().splitlines()
    assert lines[0].startswith(f"rank 7 on host a (pid {os.getpid()}, step 0): heard ")
    assert len(lines) == 21
    assert lines[-1] == "and 9 more"
    assert net.dogs[3].table().startswith("rank 0 on host a")


@pytest.mark.parametrize(
    ("places", "ended"),
    [
        (("barrier", "gather", "gather"), True),
        (("vote", "vote", "vote"), False),
        (("vote", "", "gather"), False),
    ],
)
def test_ranks_that_wait_at_different_places_end_together(
    places: tuple[str, ...], ended: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net("a", "a", "b")
    net.run(5)
    for dog, place in zip(net.dogs, places, strict=True):
        dog._waits_in, dog._since = place, net.now
    net.run(14)
    assert not net.ended
    net.run(3)
    assert sorted(net.ended) == ([0, 1, 2] if ended else [])
    err = capsys.readouterr().err
    assert err.count("ending the job") == ended
    if ended:
        assert "rank 0 on host a" in err
        assert "in 'barrier', rank 1 on host a" in err


def test_a_rank_that_leaves_is_no_part_of_a_deadlock() -> None:
    net = Net("a", "a", "b")
    net.run(5)
    for dog, place in zip(net.dogs, ("vote", "gather", "gather"), strict=True):
        dog._waits_in, dog._since = place, net.now
    net.leave(2)
    net.run(30)
    assert not net.ended

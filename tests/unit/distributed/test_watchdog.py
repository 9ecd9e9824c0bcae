"""Who is blamed for silence, who is not, and that the job then ends; in made-up time."""

import os

import pytest

from hpcfast.distributed.secret import sign
from tests.unit.distributed.net import Net

END = b'["end", 1, "b", 1, 1, "", "", 0.0]'


def test_while_all_beat_nobody_is_blamed(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "a", "b")
    net.run(100)
    assert not net.ended
    assert capsys.readouterr().err == ""


def test_a_silent_rank_is_named_once_and_all_end(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "a", "b")
    net.dogs[2].step, net.dogs[2].note = 120, "epoch 1.2"
    net.run(5)
    net.stopped = {2}
    net.run(14)
    assert not net.ended, "14 s of silence are within the limit"
    net.run(1)
    assert net.ended == [0, 1]
    assert capsys.readouterr().err == (
        f"rank 2 on host b (pid {os.getpid()}, step 120, epoch 1.2) has been silent for 15 s: "
        "stopped, or its node or network is gone; ending the job\n"
    )


def test_a_rank_cut_off_names_rank_0_and_ends_too(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "b", "b")
    net.run(5)
    net.cut = {2}
    net.run(19)
    assert sorted(net.ended) == [0, 1, 2]
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("rank 2 on host b")
    assert second.startswith("rank 0 on host a")


def test_for_rank_0_the_last_rank_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net(*"aab")
    net.run(5)
    net.stopped = {0}
    net.run(16)
    assert not net.ended, "rank 0 is given time to speak"
    net.run(3)
    assert net.ended == [2]
    assert capsys.readouterr().err.count("rank 0 on host a") == 1


def test_without_the_last_rank_the_others_speak(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "b", "c", "d")
    net.run(5)
    net.stopped = {0, 3}
    net.run(22)
    assert net.ended == [1, 2]


def test_all_ranks_of_a_lost_node_are_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net(*"aa", *"b" * 30)
    net.run(5)
    net.stopped = {2}
    net.run(2)
    net.stopped = set(range(2, 32))  # their last beats came a little later
    net.run(13)
    assert net.ended == [0, 1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rank 2 on host b")
    assert "(so have ranks 3, 4, 5," in line
    assert "22 and 9 more)" in line


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_stopped_for_a_while_blames_nobody_after(rank: int) -> None:
    net = Net("a", "b")
    net.run(5)
    net.stopped = {0, 1}  # a whole job is suspended, and one rank wakes first
    net.run(1000)
    net.stopped = {1 - rank}
    net.run(14)
    net.stopped = set()
    net.run(100)
    assert not net.ended


@pytest.mark.parametrize("rank", [0, 1])
def test_a_pause_within_the_limit_is_forgiven(rank: int) -> None:
    net = Net("a", "b")
    net.run(5)
    net.stopped = {rank}
    net.run(12)
    net.stopped = set()
    net.run(100)
    assert not net.ended


def test_rank_0_woken_after_the_verdict_ends_without_blaming(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "b")
    net.run(5)
    net.stopped = {0}
    net.run(20)
    net.stopped = set()
    net.run(1)
    assert net.ended == [1, 0]
    assert capsys.readouterr().err.count("silent") == 1


def test_a_rank_that_left_is_not_missed_even_if_an_old_beat_comes_late() -> None:
    net = Net("a", "b", "c")
    net.run(5)
    net.dogs[1]._send("beat", net.dogs[1]._way_to(0))
    late = net.mail.pop()
    net.leave(1)
    net.mail.append(late)
    net.run(100)
    assert not net.ended
    net.stopped = {2}
    net.run(20)
    assert net.ended == [0], "the others are watched as before"


def test_when_rank_0_leaves_the_watch_is_over() -> None:
    net = Net("a", "b", "c")
    net.run(5)
    for rank in (1, 2):
        net.dogs[0]._send("bye", net.dogs[0]._way_to(rank))
    net.deliver()
    net.run(100)
    assert not net.ended
    assert all(dog._stopping.is_set() for dog in net.dogs[1:])


def test_an_address_that_does_not_answer_is_given_up_for_the_next() -> None:
    net = Net("a", "b", root=("root", "nowhere", "neither"))
    net.run(10)
    assert net.dogs[0].table().startswith("rank 1 on host b")
    tried = net.dogs[1]._socket.tried
    assert tried == ["nowhere", "neither"] + ["root"] * 8


def test_a_strangers_datagram_is_ignored() -> None:
    net = Net("a", "b")
    for data in (b"", b"GET / HTTP/1.0", bytes(32) + END, sign(b"another", END) + END):
        net.dogs[0]._handle(data, ("somewhere", 1), 0)
    assert not net.ended
    assert net.dogs[0].table() == ""

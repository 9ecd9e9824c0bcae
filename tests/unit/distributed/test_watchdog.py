"""Who is blamed for silence, who is not, and that the job then ends; in made-up time."""

import os

import pytest

from hpcfast.distributed.heartbeat import Address
from hpcfast.distributed.secret import sign
from hpcfast.distributed.watchdog import Watchdog

KEY = b"01234567"


END = b'["end", 1, "b", 1, 1, "", "", 0.0]'


class Net:
    """Watchdogs of ``hosts[rank]`` on a made-up network, with a made-up clock of whole seconds and a limit of 15 s."""

    def __init__(self, *hosts: str, root: tuple[str, ...] = ("root",), warning: float = 0.0) -> None:
        self.now, self.ended, self.mail = 0, [], []
        self.stopped, self.cut = set(), set()
        self.dogs = [
            Watchdog(rank, len(hosts), end=lambda rank=rank: self.ended.append(rank)) for rank in range(len(hosts))
        ]
        for dog, host in zip(self.dogs, hosts, strict=True):
            dog._socket.close()
            dog._socket, dog._host = Port(self, dog.rank), host
            dog._prepare(Address(root, 1, KEY, 15.0, warning), 0)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            for dog in self.dogs:
                if self.runs(dog):
                    dog._tick(self.now)
            self.deliver()
            self.now += 1

    def deliver(self) -> None:
        while any(self.runs(self.dogs[mail[1]]) for mail in self.mail):
            mail, self.mail = self.mail, []
            for sender, to, data in mail:
                if not self.runs(self.dogs[to]):
                    self.mail.append((sender, to, data))  # waits in the socket
                elif not {sender, to} & self.cut:
                    self.dogs[to]._handle(data, (f"rank {sender}", 1), self.now)

    def runs(self, dog: Watchdog) -> bool:
        return dog.rank not in self.stopped and not dog._stopping.is_set()

    def leave(self, rank: int) -> None:
        self.dogs[rank]._send("bye", self.dogs[rank]._way_to(0))
        self.deliver()
        assert not self.dogs[rank]._unaware()
        self.dogs[rank]._stopping.set()


class Port:
    """A socket of the made-up network; rank 0 answers to "root" only."""

    def __init__(self, net: Net, rank: int) -> None:
        self.net, self.rank, self.tried = net, rank, []

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        self.tried.append(to[0])
        if to[0] == "root" or to[0].startswith("rank "):
            self.net.mail.append((self.rank, 0 if to[0] == "root" else int(to[0][5:]), data))


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


def test_a_rank_never_heard_is_warned_of_once_and_not_condemned(capsys: pytest.CaptureFixture[str]) -> None:
    net = Net("a", "b", "c", "d")
    net.cut = {1, 3}
    net.run(200)
    assert not net.ended
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no heartbeat from ranks 1, 3, ")
    assert "UDP port 1 of host a" in line


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

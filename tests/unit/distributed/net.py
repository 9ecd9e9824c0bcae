"""Watchdogs on a made-up network, in made-up time."""

from hpcfast.distributed.heartbeat import Address
from hpcfast.distributed.watchdog import Watchdog

KEY = b"01234567"


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

"""Strangers at the table and at its proxies get nothing, and change nothing."""

import os
import pwd
import socket
import subprocess

import psutil
import pytest

from hpcfast.distributed import table
from hpcfast.distributed.objects import pack
from hpcfast.distributed.secret import SIGNATURE, sign
from hpcfast.distributed.table import Client, Server, Stranger, Table

HERE = "127.0.0.1"
KEY = b"the job's"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, int]:
    monkeypatch.setattr(table, "SECONDS", 0.5)
    server = Server()
    return server, server.listen(Table(KEY).answer, [HERE], 0)


def framed(content: bytes, key: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + sign(key, content) + content


def ended(port: int, sent: bytes) -> bytes:
    """All that a connection gets that sends this and then waits."""
    with socket.create_connection((HERE, port), 10) as connection:
        connection.sendall(sent)
        received = b""
        while more := connection.recv(1000):
            received += more
        return received


GARBAGE = {
    "nothing": b"",
    "noise": bytes(range(256)),
    "http": b"GET /global/0 HTTP/1.1\r\n\r\n",
    "half a message": framed(pack((b"", "GET", "x", b"")), KEY)[:-1],
    "another key": framed(pack((b"", "GET", "x", b"")), b"a stranger's"),
    "huge": (table.LIMIT + 1).to_bytes(4, "big") + bytes(SIGNATURE),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_who_does_not_know_the_secret_is_cut_off(sent: bytes, served: tuple[Server, int]) -> None:
    server, port = served
    mine = Client(KEY, HERE, port)
    server.run(mine.ask("PUT", "x", b"1"))
    assert ended(port, sent) == b""
    assert server.run(mine.ask("GET", "x")) == b"1"
    assert server.run(Client(KEY, HERE, port).ask("GET", "x")) == b"1"


def test_who_announces_too_much_is_cut_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SECONDS", 60.0)
    port = Server().listen(Table(KEY).answer, [HERE], 0)
    assert ended(port, GARBAGE["huge"]) == b""


def test_hundreds_of_silent_connections_keep_nobody_waiting(served: tuple[Server, int]) -> None:
    server, port = served
    silent = [socket.create_connection((HERE, port)) for _ in range(300)]
    assert server.run(Client(KEY, HERE, port).ask("PUT", "x", b"1")) == b"1"
    for connection in silent:
        connection.close()


def test_an_answer_belongs_to_its_question(served: tuple[Server, int]) -> None:
    """Who has recorded an answer cannot give it in rank 0's place."""
    _, port = served
    with socket.create_connection((HERE, port), 10) as connection:
        connection.sendall(framed(pack((b"nonce", "GET", "x", b"")), KEY))
        recorded = connection.recv(1000)

    async def answer(reader: object, writer: table.StreamWriter) -> None:
        writer.write(recorded)
        await writer.drain()

    impostor = Server()
    there = impostor.listen(answer, [HERE], 0)
    with pytest.raises(Stranger):
        impostor.run(Client(KEY, HERE, there).ask("GET", "x"))


def test_questions_that_nobody_answers_leave_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind((HERE, 0))
        silent.listen()
        server = Server()
        before = psutil.Process().num_fds()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                server.run(Client(KEY, HERE, silent.getsockname()[1]).ask("GET", "x"))
        assert psutil.Process().num_fds() <= before + 2


def test_a_table_of_thousands_of_ranks_travels(served: tuple[Server, int]) -> None:
    server, port = served
    client, value = Client(KEY, HERE, port), bytes(10**6)
    server.run(client.ask("PUT", "x", value))
    assert server.run(client.ask("GET", "x")) == value


def test_a_late_answer_is_none_to_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SECONDS", 0.2)
    held = Table(KEY)
    slow = True

    async def answer(reader: table.StreamReader, writer: table.StreamWriter) -> None:
        if slow:
            await table.asyncio.sleep(0.4)
        await held.answer(reader, writer)

    server = Server()
    client = Client(KEY, HERE, server.listen(answer, [HERE], 0))
    with pytest.raises(TimeoutError):
        server.run(client.ask("PUT", "x", b"late"))
    slow = False
    assert server.run(client.ask("PUT", "y", b"now")) == b"now"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_proxy_takes_requests_of_its_own_user_only(served: tuple[Server, int]) -> None:
    server, port = served
    proxy = server.listen(Client(KEY, HERE, port).answer, [HERE], 0)
    ask = (
        f"exec 3<>/dev/tcp/{HERE}/{proxy}; printf 'PUT /x HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\nevil' >&3; cat <&3"
    )

    def answer(user: int) -> str:
        return subprocess.run(
            ["bash", "-c", ask], user=user, capture_output=True, text=True, check=False, cwd="/"
        ).stdout

    assert answer(pwd.getpwnam("nobody").pw_uid) == ""
    assert server.run(Client(KEY, HERE, port).ask("GET", "/x")) is None
    assert "200 OK" in answer(os.geteuid())


def test_a_slow_client_of_the_proxy_is_cut_off(served: tuple[Server, int]) -> None:
    server, port = served
    proxy = server.listen(Client(KEY, HERE, port).answer, [HERE], 0)
    assert ended(proxy, b"PUT /x HTTP/1.1\r\nContent-Length: 100\r\n\r\nfew") == b""

"""The table in which ranks find one another's addresses: rank 0 keeps it, for all who know the job's secret.

A message is its length, its signature and its content. An answer is signed together with its question, so that nobody
can answer in rank 0's place. Gloo's own client signs nothing: on every rank it talks to a proxy in its own process,
which takes requests of its own user only. Whoever else connects is cut off, and costs the job nothing.
"""

import asyncio
import contextlib
import hmac
import os
import re
import secrets
import socket
import sys
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from hpcfast.distributed.objects import pack, unpack
from hpcfast.distributed.secret import SIGNATURE, sign

SECONDS = 5.0
"""In which whoever connects must have shown that it knows the secret, and in which rank 0 answers."""
LIMIT = 1 << 20
"""Bytes of a message, which strangers may send, too; the addresses of 7,000 ranks."""
ESTABLISHED = "01"
"""As the kernel writes it."""

Answer = Callable[[StreamReader, StreamWriter], Awaitable[None]]


class Stranger(Exception):
    """Whoever is at the other end does not know the job's secret."""


class Server:
    """Serves connections in a thread of its own, as long as the process lives."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rendezvous", daemon=True).start()

    def listen(self, answer: Answer, hosts: Sequence[str], port: int) -> int:
        """Serve at ``hosts``, addresses of this machine; the port, chosen by the system if it is 0.

        Raises:
            OSError: the port is taken.
        """

        async def handle(reader: StreamReader, writer: StreamWriter) -> None:
            # Strangers, and peers that have gone: their connection ends, nothing else.
            with contextlib.suppress(Stranger, OSError, EOFError, TimeoutError, ValueError):
                await answer(reader, writer)
            writer.close()

        server = self.run(asyncio.start_server(handle, hosts, port, family=socket.AF_INET, backlog=4096))
        return int(server.sockets[0].getsockname()[1])

    def run(self, work: Any) -> Any:
        """The result of a coroutine, run in the thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Table:
    """Rank 0's."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._values: dict[str, bytes] = {}

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one rank's questions."""
        seconds: float | None = SECONDS
        while True:
            async with asyncio.timeout(seconds):
                content, signature = await _receive(reader, self._key)
            seconds = None  # it may ask again at any time
            _, method, path, value = unpack(content)
            if method == "ADD":
                value = str(int(self._values.get(path, b"0")) + int(value)).encode()
            if method in ("PUT", "ADD"):
                self._values[path] = value
            found = self._values.pop(path, None) if method == "DELETE" else self._values.get(path)
            await _send(writer, self._key, pack(found), signature)


class Client:
    """Another rank's way to the table, or rank 0's own."""

    def __init__(self, key: bytes, host: str, port: int) -> None:
        self._key, self.host, self._port = key, host, port
        self._turn = asyncio.Lock()
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def ask(self, method: str, path: str, value: bytes = b"") -> bytes | None:
        """Do what ``method`` (GET, PUT, ADD, DELETE) says with the entry ``path``; return it, None if there is none.

        Raises:
            Stranger: it does not know the secret, if it is rank 0 at all.
            OSError: nobody listens there, or it does not answer in time.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(SECONDS):
                    return await self._ask(pack((secrets.token_bytes(16), method, path, value)))
            except BaseException:
                if self._streams:
                    self._streams[1].close()
                self._streams = None  # what comes late is no answer to the next question
                raise

    async def _ask(self, content: bytes) -> bytes | None:
        self._streams = self._streams or await asyncio.open_connection(self.host, self._port)
        reader, writer = self._streams
        signature = await _send(writer, self._key, content)
        try:
            content, _ = await _receive(reader, self._key, signature)
        except EOFError:
            raise Stranger from None
        found: bytes | None = unpack(content)
        return found

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer a request of Gloo's client, which is HTTP."""
        if not _of_this_user(writer):
            return
        async with asyncio.timeout(SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            size = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
            value = await reader.readexactly(int(size[1]) if size else 0)
        found = await self.ask(method, path, value)
        status = "404 Not Found" if method == "GET" and found is None else "200 OK"
        body = found if method == "GET" and found else b""
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()


async def _send(writer: StreamWriter, key: bytes, content: bytes, question: bytes = b"") -> bytes:
    signature = sign(key, question + content)
    writer.write(len(content).to_bytes(4, "big") + signature + content)
    await writer.drain()
    return signature


async def _receive(reader: StreamReader, key: bytes, question: bytes = b"") -> tuple[bytes, bytes]:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > LIMIT:
        raise Stranger
    signature = await reader.readexactly(SIGNATURE)
    content = await reader.readexactly(size)
    if not hmac.compare_digest(signature, sign(key, question + content)):
        raise Stranger
    return content, signature


def _of_this_user(writer: StreamWriter) -> bool:
    """Whether a process of this user is at the other end of a connection inside this machine."""
    ends = [_as_the_kernel_writes(*writer.get_extra_info(name)) for name in ("peername", "sockname")]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    # of a connection that is being closed the kernel gives root as the user
    return any(row[1:4] == [*ends, ESTABLISHED] and row[7] == str(os.geteuid()) for row in rows)


def _as_the_kernel_writes(host: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"

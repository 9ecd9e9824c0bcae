"""Another user of the node, who sees what everybody sees: processes, ports, folders. Standard library only.

``stranger.py FOLDER TCP UDP PIDS``, lists with commas, tries to join, stop and read the job of these processes, which
listens at these ports and has its run in FOLDER, until the first of them has ended. Prints what it got.
"""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

BEAT = b'["end", 0, "host", 1, 1, "", "", 0.0]'
MESSAGES = [
    b"",  # and says nothing for as long as it may
    b"GET /global/0 HTTP/1.1\r\n\r\n",
    b"PUT /global/0 HTTP/1.1\r\nContent-Length: 4\r\n\r\nevil",
    bytes(64),
    bytes(32) + BEAT,
]


def runs(pid: int) -> bool:
    """Whether this process has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def main(folder: Path, tcp: list[int], udp: list[int], pids: list[int]) -> None:
    """The command line."""
    held = []
    while runs(pids[0]):
        for port in tcp:
            for message in MESSAGES:
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(("127.0.0.1", port), 0.2)
                    held.append(connection)
                    connection.sendall(message)
                    if message and (answer := connection.recv(1000)):
                        print(f"port {port} answered {answer!r} to {message!r}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for port in udp:
                for message in MESSAGES:
                    datagrams.sendto(message, ("127.0.0.1", port))
        for pid in pids:
            with contextlib.suppress(OSError):
                print(f"environment of {pid}: {Path(f'/proc/{pid}/environ').read_bytes()!r:.50}")
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
                print(f"stopped {pid}")
        with contextlib.suppress(OSError):
            print(f"files: {list(folder.iterdir())}")
        del held[:-200]


main(Path(sys.argv[1]), *([int(number) for number in given.split(",") if number] for given in sys.argv[2:]))

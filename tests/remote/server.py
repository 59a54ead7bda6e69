"""An S3 server for tests, and a wire to it that counts requests and can be cut."""

import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "selectkit"}
_REQUEST = re.compile(rb"^(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP/1\.1\r\n", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A server of S3 requests.

    Attributes:
        address: Host and port.
        environment: What its clients need in theirs.
    """

    address: tuple[str, int]
    environment: dict[str, str]


@contextmanager
def running() -> Iterator[Server]:
    """The server at $SELECTKIT_TEST_S3 (host:port, keys as usual), or else moto, a mock."""
    given = os.environ.get("SELECTKIT_TEST_S3")
    if given:
        host, _, number = given.rpartition(":")
        keys = {name: os.environ[name] for name in KEYS}
        yield Server((host, int(number)), _environment(host, int(number), keys))
        return
    port = _free_port()
    command = "from moto.server import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield Server(("127.0.0.1", port), _environment("127.0.0.1", port, KEYS))
    finally:
        process.kill()
        process.wait()


def make_bucket(server: Server, name: str) -> None:
    """Make a bucket."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=server.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.environment["AWS_SECRET_ACCESS_KEY"],
    )
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=name)
    client.close()


def _environment(host: str, port: int, keys: dict[str, str]) -> dict[str, str]:
    return keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


@dataclass
class Wire:
    """Between clients and a server: counts requests by method, and can be cut.

    Attributes:
        server: The server at the other end.
        requests: Method and path of each request, in order.
    """

    server: Server
    requests: list[tuple[str, str]] = field(default_factory=list)
    _cut: threading.Event = field(default_factory=threading.Event)
    _cut_after: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What clients need in theirs to go through this wire."""
        return self.server.environment | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        }

    def counts(self) -> Counter[str]:
        """Requests by method."""
        return Counter(method for method, _ in self.requests)

    def cut_after(self, number: int, method: str) -> None:
        """Cut it when so many more requests of a method have been seen."""
        self._cut_after = (number + self.counts()[method], method)

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._cut.set()
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let requests through again."""
        self._cut_after = None
        self._cut.clear()

    def close(self) -> None:
        """End it."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                client.close()
                continue
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self.server.address) as server:
            self._ends |= {client, server}
            try:
                while not self._cut.is_set():
                    ready, _, _ = select.select([client, server], [], [], 1.0)
                    for end in ready:
                        data = end.recv(1 << 16)
                        if not data:
                            return
                        if end is client:
                            self._note(data)
                            server.sendall(data)
                        else:
                            client.sendall(data)
            finally:
                self._ends -= {client, server}

    def _note(self, data: bytes) -> None:
        for method, path in _REQUEST.findall(data):
            self.requests.append((method.decode(), path.decode()))
        if self._cut_after is not None and self.counts()[self._cut_after[1]] >= self._cut_after[0]:
            self.cut()

"""Decoder processes, kept for the life of the program and lent to whoever has an image.

Each works on one image at a time, so that when one dies it is known on which. That image is tried
once more in a new process, because the machine may have killed the first for its memory; then it
counts as failed and the run goes on.
"""

import atexit
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from selectkit.errors import SelectkitError
from selectkit.extract.decode import UndecodableImageError
from selectkit.extract.decoder_process import HEAD, TAIL

Pixels: TypeAlias = npt.NDArray[np.uint8]

PATIENCE = 300.0  # seconds for one image; a decoder that takes longer is stuck
_START = 120.0
_BUFFER = 1 << 20
_MODULE = "selectkit.extract.decoder_process"
# Otherwise the memory of every image is given back and asked for again, a third of the time.
_KEEP_MEMORY = {f"MALLOC_{name}_": str(1 << 28) for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD")}


class Decoder:
    """A process that decodes one image after the other."""

    def __init__(self) -> None:
        """Start it; does not wait until it is there."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            for end in (self._channel, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", _MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _KEEP_MEMORY | {"PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the program, which drains first
            )
        self._channel.settimeout(_START)
        self._memory = -1  # file descriptor
        self._view = np.empty(0, dtype=np.uint8)

    def decode(self, data: bytes) -> Pixels:
        """Decode an image.

        Args:
            data: The file's bytes.

        Returns:
            Shape (height, width, 3), upright; overwritten by the next call.

        Raises:
            UndecodableImageError: With the reason.
            EOFError: If the process died; OSError likewise.
            SelectkitError: If the process could not be started.
        """
        if self._memory < 0:
            self._greet()
        self._channel.sendall(HEAD.pack(len(data)))
        self._channel.sendall(data)
        answer = self._channel.recv(TAIL.size, socket.MSG_WAITALL)
        if len(answer) < TAIL.size:
            raise EOFError
        width, height, size, status = TAIL.unpack(answer)
        if status != b"ok":
            raise UndecodableImageError(status.decode(), "the decoder process says so.")
        if size != len(self._view):
            self._map(size)
        return self._view[: height * width * 3].reshape(height, width, 3)

    def _greet(self) -> None:
        with suppress(OSError):
            answer, handles, _, _ = socket.recv_fds(self._channel, TAIL.size, 1)
            if len(answer) == TAIL.size and handles:
                self._memory = handles[0]
                self._map(TAIL.unpack(answer)[2])
                self._channel.settimeout(PATIENCE)
                return
        raise SelectkitError(
            "a process for decoding images does not start; what it said is above. Free memory, or "
            "raise the limit of processes (ulimit -u)."
        )

    def _map(self, size: int) -> None:
        view = mmap.mmap(self._memory, size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._view = np.frombuffer(view, dtype=np.uint8)

    def close(self) -> None:
        """End the process."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def processor_seconds(self) -> float:
        """Return what the process has used so far; Linux only."""
        facts = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        fields = facts.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class _Pool:
    """The processes that nobody uses now."""

    idle: list[Decoder] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    owner: int = field(default_factory=os.getpid)

    @contextmanager
    def borrow(self) -> Iterator[Decoder]:
        with self.guard:
            if self.owner != os.getpid():  # a fork: they belong to the parent
                self.idle, self.owner = [], os.getpid()
            decoder = self.idle.pop() if self.idle else None
        decoder = decoder or Decoder()
        try:
            yield decoder
        except UndecodableImageError:
            self._back(decoder)
            raise
        except BaseException:
            decoder.close()
            raise
        self._back(decoder)

    def _back(self, decoder: Decoder) -> None:
        with self.guard:
            self.idle.append(decoder)

    def close(self) -> None:
        with self.guard:
            while self.owner == os.getpid() and self.idle:
                self.idle.pop().close()


_POOL = _Pool()
atexit.register(_POOL.close)


T = TypeVar("T")


def decode_in_process(data: bytes, use: Callable[[Pixels], T]) -> T:
    """Decode an image in another process.

    Args:
        data: The file's bytes.
        use: Called with the upright image, shape (height, width, 3), uint8, RGB; it is overwritten
            afterwards.

    Returns:
        What `use` returns.

    Raises:
        UndecodableImageError: With the reason; "crashed" when it ended two processes.
    """
    for _ in range(2):
        with suppress(EOFError, OSError), _POOL.borrow() as decoder:
            return use(decoder.decode(data))
    raise UndecodableImageError("crashed", "the process that decoded it died, twice.")


def start(count: int) -> None:
    """Have so many processes ready when the first images come; does not wait for them.

    Args:
        count: How many.
    """
    with _POOL.guard:
        _POOL.idle += [Decoder() for _ in range(count - len(_POOL.idle))]


def processor_seconds() -> float:
    """Return what idle decoder processes have used so far, for benchmarks; Linux only."""
    with _POOL.guard:
        return sum(decoder.processor_seconds() for decoder in _POOL.idle)

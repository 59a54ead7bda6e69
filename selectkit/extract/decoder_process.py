"""What runs in a decoder process: image files in, pixels into shared memory.

An image that makes a decoder crash takes a process of its own with it, not the run. A request on
the socket is a `HEAD` with the size of a file and then its bytes. The answer is a `TAIL` with
width, height, status, and the size that the shared memory has now; the first answer, before any
request, carries the memory's file descriptor. Pixels lie at the start of the memory, row by row.
"""

import mmap
import os
import socket
import struct
import sys
import tempfile
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from selectkit.extract.decode import UndecodableImageError, decode_pixels, quiet_pillow

HEAD = struct.Struct("<Q")
TAIL = struct.Struct("<IIQ16p")  # width, height, size of the memory, status
USUAL = 1 << 26
"""Bytes of shared memory; pages that were never needed take none. Larger images get more."""


@dataclass(slots=True)
class Memory:
    """Where pixels are left for the other side.

    Attributes:
        handle: Its file descriptor.
        size: In bytes.
    """

    handle: int
    size: int = 0
    _view: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))

    @classmethod
    def make(cls) -> "Memory":
        """Return memory of the usual size."""
        if hasattr(os, "memfd_create"):
            handle = os.memfd_create("selectkit-pixels")
        else:
            with tempfile.TemporaryFile() as file:
                handle = os.dup(file.fileno())
        made = cls(handle)
        made.resize(USUAL)
        return made

    def resize(self, size: int) -> None:
        """Map another size.

        Args:
            size: In bytes.
        """
        if size != self.size:
            os.truncate(self.handle, size)
            self._view = np.frombuffer(mmap.mmap(self.handle, size), dtype=np.uint8)
            self.size = size

    def put(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Leave an image.

        Args:
            pixels: Shape (height, width, 3).
        """
        self.resize(max(USUAL, pixels.size))
        self._view[: pixels.size].reshape(pixels.shape)[...] = pixels


def serve(channel: socket.socket) -> None:
    """Answer until the other side closes the channel.

    Args:
        channel: The socket.
    """
    memory = Memory.make()
    socket.send_fds(channel, [TAIL.pack(0, 0, memory.size, b"ready")], [memory.handle])
    while head := _receive(channel, HEAD.size):
        data = _receive(channel, *HEAD.unpack(head))
        try:
            pixels = decode_pixels(data)
        except UndecodableImageError as error:
            answer = TAIL.pack(0, 0, memory.size, error.reason.encode())
        else:
            memory.put(pixels)
            answer = TAIL.pack(*pixels.shape[1::-1], memory.size, b"ok")
        channel.sendall(answer)


def _receive(channel: socket.socket, size: int) -> bytes:
    """Exactly so many bytes; fewer when the other side is gone."""
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        more = channel.recv_into(view[got:], 0, socket.MSG_WAITALL)
        if not more:
            return b""
        got += more
    return bytes(data)


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    with socket.socket(fileno=int(sys.argv[1])) as channel, quiet_pillow():
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # what a C library says when it crashes is of no use to anybody
        serve(channel)


if __name__ == "__main__":
    main()

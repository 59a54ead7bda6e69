"""SIGTERM as Ctrl-C, for commands that the same command goes on from."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block, the first SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    After it the earlier handler is back, so a second one acts at once. Outside the main thread,
    where handlers cannot be set, the block changes nothing.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        restore()
        raise KeyboardInterrupt

    def restore() -> None:
        # None: it was not set from Python, and cannot be put back
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        restore()

"""Stopping on request: the first signal asks, the second one insists."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """Within the block, the first SIGINT or SIGTERM only sets `requested` and `signal`, its number.

    After it the earlier handlers are back, so a second signal acts at once. Outside the main
    thread, where handlers cannot be set, the block changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the earlier handlers back."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # None: it was not set from Python, and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

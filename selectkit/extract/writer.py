"""One shard is written while the next one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Generic, ParamSpec, Self

P = ParamSpec("P")


class Writer(Generic[P]):
    """Calls a function in a thread of its own, one call after the other, in order.

    At most one call is in progress; `put` waits for it. An error of a call is raised by the next
    `put` or `check`, or at the end of the block, and nothing is written after it.
    """

    def __init__(self, finish: Callable[P, None]) -> None:
        self._finish = finish
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._current: Future[None] | None = None

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the call in progress; an error of the block wins over one of the call."""
        try:
            with suppress(*([] if kind is None else [Exception])):
                self.drain()
        finally:
            self._pool.shutdown()

    def put(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Wait for the call before, then start one with these arguments."""
        self.drain()
        self._current = self._pool.submit(self._finish, *args, **kwargs)

    def check(self) -> None:
        """Raise the error of the call in progress if it has failed; do not wait."""
        if self._current is not None and self._current.done():
            self.drain()

    def drain(self) -> None:
        """Wait for the call in progress, and raise its error."""
        current, self._current = self._current, None
        if current is not None:
            current.result()

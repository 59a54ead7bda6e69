"""How several processes come to write the shards of one store beside each other."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from selectkit.cache.lock import BusyError, Lock


@dataclass(frozen=True, slots=True)
class Entrance:
    """Whoever comes first prepares the store, alone; the others join when that is done.

    Attributes:
        lock: The store's.
        begin: Sees the store as it is now, and removes what interrupted writers left; called only
            by a process that is alone.
        look: Sees the store as it is now; changes nothing.
        prepare: Makes and grows what the shards need; may find it all done.
        prepared: Whether that is done; changes nothing.
    """

    lock: Lock
    begin: Callable[[], None]
    look: Callable[[], None]
    prepare: Callable[[], None]
    prepared: Callable[[], bool]

    @contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Share the store's lock for as long as the block lasts.

        Args:
            patience: Seconds to wait for other writers.

        Yields:
            Nothing.

        Raises:
            BusyError: If somebody else writes, and something is to be prepared.
        """
        until = time.monotonic() + patience
        with ExitStack() as stack:
            while not (self._is_first(stack) or self._has_joined(stack)):
                if time.monotonic() > until:
                    stack.enter_context(self.lock.held())  # says that it is busy
                time.sleep(self.lock.pause)
            yield

    def _is_first(self, stack: ExitStack) -> bool:
        try:
            with ExitStack() as attempt:
                attempt.enter_context(self.lock.held())
                self.begin()
                self.prepare()
                self.lock.share()
                stack.enter_context(attempt.pop_all())
                return True
        except BusyError:
            return False

    def _has_joined(self, stack: ExitStack) -> bool:
        try:
            with ExitStack() as attempt:
                attempt.enter_context(self.lock.held(shared=True))
                self.look()
                joined = self.prepared()
                if joined:
                    stack.enter_context(attempt.pop_all())
                return joined
        except BusyError:
            return False

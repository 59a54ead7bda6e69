"""Which worker gets which shard, when workers may die. Knows nothing of Ray."""

from collections import Counter, deque
from collections.abc import Collection, Mapping

DEATHS = 3
"""A shard is given up when so many workers ended while they had nothing else in hand."""


class Shares:
    """Gives every shard to a worker, and again to another one if that ends.

    A worker gets a second shard while it computes the first, so that it never waits. The shards of
    a worker that ended are suspects: each is given to a worker that has nothing else, so that the
    shard that ends workers, if there is one, is known before it ends many.

    Attributes:
        todo: Rows by shard, of all shards.
        open: Shards that are neither finished nor given up.
        returned: Shards that came back from a worker at least once.
        given_up: Why the last worker ended, by shard.
    """

    def __init__(self, todo: Mapping[int, int], crew: int) -> None:
        """All shards wait.

        Args:
            todo: Rows by shard.
            crew: Number of workers.
        """
        self.todo, self._crew = todo, crew
        self.open = set(todo)
        self.returned: set[int] = set()
        self.given_up: dict[int, str] = {}
        self._waiting, self._suspects = deque(todo), deque[int]()
        self._deaths = Counter[int]()

    def take(self, held: Collection[int], queued: int = 0) -> list[int]:
        """Return what a worker is given next, perhaps nothing.

        Args:
            held: The shards that it has.
            queued: Those of them that it has not begun.
        """
        if not held and self._suspects:
            return [self._suspects.popleft()]
        if not self.returned.isdisjoint(held):
            return []
        spare = len(self._waiting) >= self._crew  # the last ones go to whoever is free first
        room = (not held) + (spare and not queued)
        return [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]

    def finish(self, shard: int) -> None:
        """Note that a shard is committed, whoever did it."""
        self.open.discard(shard)

    def lose(self, held: Collection[int], why: str) -> None:
        """Take back the shards of a worker that ended.

        Args:
            held: Its shards.
            why: What it died of.
        """
        if len(held) == 1:
            self._deaths.update(held)
        for shard in sorted(held):
            self.returned.add(shard)
            if self._deaths[shard] < DEATHS:
                self._suspects.append(shard)
            else:
                self.open.discard(shard)
                self.given_up[shard] = why

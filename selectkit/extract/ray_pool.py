"""Workers as Ray actors: each has at most one call under way, and may be lost at any moment."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from selectkit.extract.ray_cluster import Crew
from selectkit.extract.ray_worker import Failure, Opened, Report, Worker
from selectkit.extract.session import Extraction
from selectkit.extract.timings import Timings


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known of a worker that does not answer any more."""

    why: str


@dataclass(eq=False, slots=True)
class Member:
    """One worker.

    Attributes:
        actor: Its handle.
        call: The call under way; None when it waits to be called.
        opened: Whether it has opened the store.
        busy: Whether it has something to do.
        queued: Shards it was given and has not begun.
        held: Shards it was given and has not finished.
        images: Images that went through it, of shards that are not finished.
        failed: Those of them that could not be used.
    """

    actor: Any
    call: Any
    opened: bool = False
    busy: bool = False
    queued: int = 0
    held: set[int] = field(default_factory=set)
    images: int = 0
    failed: int = 0


Answer: TypeAlias = Opened | Report | Failure | Lost


class Pool:
    """The workers of a run.

    Attributes:
        members: Those that are not lost.
    """

    def __init__(self, ray: ModuleType, build: Callable[[], Extraction], crew: Crew) -> None:
        """No worker is started.

        Args:
            ray: The module, connected.
            build: What a worker builds; see `Worker`.
            crew: What each worker has.
        """
        self._ray = ray
        self._arguments = build, crew.cpus, str(Path.cwd())
        self._kind = ray.remote(Worker).options(num_cpus=crew.cpus, num_gpus=crew.gpus)
        self.members: list[Member] = []
        self._dying: list[Any] = []

    def start(self, *, first: bool = False) -> None:
        """Start a worker; its first answer is `Opened`.

        Args:
            first: Whether it prepares the store.
        """
        actor = self._kind.remote(*self._arguments)
        self.members.append(Member(actor, actor.begin.remote(first=first)))

    def step(self, member: Member, shards: Sequence[int], *, stop: bool = False) -> None:
        """Call a worker, to give it shards or to hear from it; its answer is a `Report`.

        Args:
            member: One that waits to be called.
            shards: Their numbers.
            stop: Whether it is to end after the current batch.
        """
        member.held.update(shards)
        member.busy = True
        member.call = member.actor.step.remote(list(shards), stop=stop)

    def answers(self, timeout: float) -> Iterator[tuple[Member, Answer]]:
        """Wait for the first answer, and return all that are there.

        Args:
            timeout: Seconds to wait at most.

        Yields:
            Workers and answers; a lost worker is no longer a member, any other waits to be called.
        """
        calling = {member.call: member for member in self.members if member.call is not None}
        if not calling:
            time.sleep(timeout)
            return
        self._ray.wait(list(calling), timeout=timeout)
        ready, _ = self._ray.wait(list(calling), num_returns=len(calling), timeout=0)
        for call in ready:
            member = calling[call]
            member.call = None
            answer = self._get(call)
            if isinstance(answer, Lost):
                self.drop(member)
            yield member, answer

    def drop(self, member: Member) -> None:
        """Part with a worker without a word, dead or alive."""
        self.members.remove(member)
        self._ray.kill(member.actor)
        self._dying.append(member.call or member.actor.end.remote())  # fails when it is dead

    def end(self, patience: float) -> Timings:
        """Let all workers leave the store in order.

        Args:
            patience: Seconds after which they are no longer waited for.

        Returns:
            Where their time went, summed.
        """
        calls = [m.actor.end.remote() for m in self.members if m.opened]
        ready: list[Any] = []
        if calls:
            ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=patience)
        answers = [self._get(call) for call in ready]
        while self.members:
            self.drop(self.members[-1])
        if self._dying:
            self._ray.wait(self._dying, num_returns=len(self._dying), timeout=patience)
            self._dying = []
        return sum((a for a in answers if isinstance(a, Timings)), Timings())

    def _get(self, call: Any) -> Any:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            return Lost(_in_short(str(error)))


def _in_short(message: str) -> str:
    """The end of what Ray says; before it are numbers of things that are gone."""
    text = " ".join(message.split())
    return (text.partition("The actor is dead because ")[2] or text)[:300]

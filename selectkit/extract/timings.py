"""Where the time of a run went, seen from the thread that feeds the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from time import perf_counter
from typing import Any


@dataclass(frozen=True, slots=True)
class Timings:
    """What the feeding thread waited for; the rest of `seconds` is its own book-keeping.

    Attributes:
        images: Images that went through, failed ones included.
        seconds: Wall time.
        decode: Waiting for images to be read, decoded and resized.
        forward: In the model; with the transfers where these are not measured.
        write: Waiting for an earlier shard to be written.
        transfer: Time that the device stood still for pixels on their way to it; None where nothing
            measures it: on the CPU, where pixels lie in the memory that the model reads.
        computed: Those of `images` that went through the model; of others the features were known.
    """

    images: int = 0
    seconds: float = 0.0
    decode: float = 0.0
    forward: float = 0.0
    write: float = 0.0
    transfer: float | None = None
    computed: int = 0

    def __add__(self, other: "Timings") -> "Timings":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Timings(*(a if b is None else b if a is None else a + b for a, b in pairs))

    @property
    def limit(self) -> str:
        """What the run spent most time on: "decode", "transfer", "forward" or "write"."""
        return max(self.shares, key=lambda name: self.shares[name])

    @property
    def shares(self) -> dict[str, float]:
        """Shares of `seconds` by what they were spent on; the rest is book-keeping."""
        spent = {"forward": self.forward, "decode": self.decode, "write": self.write}
        if self.transfer is not None:
            spent["transfer"] = self.transfer
        return {name: x / self.seconds if self.seconds else 0.0 for name, x in spent.items()}

    @property
    def images_per_second(self) -> float:
        """`images` over `seconds`, 0 when nothing was done."""
        return self.images / self.seconds if self.images else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, `images_per_second`, `limit` and `shares`."""
        return {
            **asdict(self),
            "images_per_second": self.images_per_second,
            "limit": self.limit,
            "shares": self.shares,
        }


@dataclass(slots=True)
class Clock:
    """Sums up time by name.

    Attributes:
        images: Counted by the user of the clock.
        computed: Likewise.
    """

    images: int = 0
    computed: int = 0
    _began: float = field(default_factory=perf_counter)
    _spent: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "forward", "write"), 0.0)
    )

    @contextmanager
    def spent_on(self, name: str) -> Iterator[None]:
        """Add the time of the block to "decode", "forward" or "write".

        Args:
            name: Which.

        Yields:
            Nothing.
        """
        start = perf_counter()
        try:
            yield
        finally:
            self._spent[name] += perf_counter() - start

    def timings(self, transfer: float | None = None) -> Timings:
        """Return the sums so far.

        Args:
            transfer: Part of "forward" that a device stood still for pixels, None = not measured.

        Returns:
            The sums.
        """
        spent = dict(self._spent)
        if transfer is not None:
            transfer = min(transfer, spent["forward"])
            spent["forward"] -= transfer
        seconds = perf_counter() - self._began
        return Timings(self.images, seconds, **spent, transfer=transfer, computed=self.computed)

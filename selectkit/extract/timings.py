"""Where the time of a run went, seen from the thread that feeds the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Timings:
    """What the feeding thread waited for; the rest of `seconds` is its own book-keeping.

    Attributes:
        images: Images that went through, failed ones included.
        seconds: Wall time.
        decode: Waiting for images to be read, decoded and resized.
        forward: In the model, transfers included.
        write: Waiting for an earlier shard to be written.
    """

    images: int = 0
    seconds: float = 0.0
    decode: float = 0.0
    forward: float = 0.0
    write: float = 0.0

    def __add__(self, other: "Timings") -> "Timings":
        return Timings(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def limit(self) -> str:
        """What the run spent most time on: "decode", "forward" or "write"."""
        return max(("forward", "decode", "write"), key=lambda name: float(getattr(self, name)))

    @property
    def images_per_second(self) -> float:
        """`images` over `seconds`, 0 when nothing was done."""
        return self.images / self.seconds if self.images else 0.0

    def to_dict(self) -> dict[str, float | str]:
        """Return the fields, `limit` and `images_per_second`."""
        return {
            "images": self.images,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "limit": self.limit,
            "decode": self.decode,
            "forward": self.forward,
            "write": self.write,
        }


@dataclass(slots=True)
class Clock:
    """Sums up time by name.

    Attributes:
        images: Counted by the user of the clock.
    """

    images: int = 0
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

    def timings(self) -> Timings:
        """Return the sums so far."""
        return Timings(self.images, perf_counter() - self._began, **self._spent)

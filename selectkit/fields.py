"""Typed fields of a JSON document; an ArtifactError names the one that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from selectkit.errors import ArtifactError

_INFINITE = {"inf": inf, "-inf": -inf}


@dataclass(frozen=True, slots=True)
class Fields:
    """A document whose fields are checked as they are read.

    Attributes:
        document: By name.
        what: What the document is called in messages, such as "the gate policy".

    Examples:
        >>> Fields({"delta": 0.1}, "the gate policy").level("delta")
        0.1
    """

    document: Mapping[str, Any]
    what: str

    @classmethod
    def of(cls, document: Any, what: str) -> "Fields":
        """Return the fields of an object.

        Args:
            document: A JSON object, or what stands in its place.
            what: What it is called in messages.

        Returns:
            Its fields.

        Raises:
            ArtifactError: If it is no object.
        """
        if not isinstance(document, Mapping):
            raise ArtifactError(f"{what} is malformed: expected an object, got {document!r:.60}.")
        return cls(document, what)

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.document.get(name) is not None

    def value(self, name: str) -> Any:
        """Return a field as it is."""
        if name not in self.document:
            raise ArtifactError(f"{self.what} lacks {name!r}.")
        return self.document[name]

    def text(self, name: str) -> str:
        """Return a string that is not empty."""
        found = self.value(name)
        if not isinstance(found, str) or not found:
            raise self.wrong(name, "a text")
        return found

    def flag(self, name: str) -> bool:
        """Return true or false."""
        found = self.value(name)
        if not isinstance(found, bool):
            raise self.wrong(name, "true or false")
        return found

    def number(self, name: str, low: float = -inf, high: float = inf) -> float:
        """Return a finite number from low to high."""
        found = _number(self.value(name))
        if found is None or not isfinite(found) or not low <= found <= high:
            bounds = "" if low == -inf else f" of at least {low:g}"
            bounds = bounds if high == inf else f" from {low:g} to {high:g}"
            raise self.wrong(name, f"a number{bounds}")
        return found

    def level(self, name: str) -> float:
        """Return a number strictly between 0 and 1."""
        found = _number(self.value(name))
        if found is None or not 0 < found < 1:
            raise self.wrong(name, "a number between 0 and 1")
        return found

    def threshold(self, name: str) -> float:
        """Return a number, infinite ones included."""
        found = _threshold(self.value(name))
        if found is None:
            raise self.wrong(name, 'a number, "inf" or "-inf"')
        return found

    def thresholds(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers, infinite ones included."""
        found = [_threshold(value) for value in self.items(name)]
        if None in found:
            raise self.wrong(name, 'numbers, "inf" or "-inf"')
        return tuple(value for value in found if value is not None)

    def count(self, name: str, low: int = 0) -> int:
        """Return an integer of at least low."""
        found = self.value(name)
        if not isinstance(found, int) or isinstance(found, bool) or found < low:
            raise self.wrong(name, f"a count of at least {low}")
        return found

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        found = self.value(name)
        if not isinstance(found, list | tuple):
            raise self.wrong(name, "a list")
        return list(found)

    def maybe_count(self, name: str, low: int = 0) -> int | None:
        """Return a count, or None where the field is null."""
        return None if self.value(name) is None else self.count(name, low)

    def maybe_number(self, name: str, low: float = -inf) -> float | None:
        """Return a number, or None where the field is null or absent."""
        return self.number(name, low) if name in self else None

    def maybe_text(self, name: str) -> str | None:
        """Return a text, or None where the field is null or absent."""
        return self.text(name) if name in self else None

    def wrong(self, name: str, expected: str) -> ArtifactError:
        """Return the error for a field that is not what it should be."""
        value = repr(self.document.get(name))[:60]
        return ArtifactError(
            f"{self.what} is malformed: {name!r} should be {expected}, got {value}."
        )


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _threshold(value: Any) -> float | None:
    if isinstance(value, str):
        return _INFINITE.get(value)
    found = _number(value)
    return None if found is None or found != found else found

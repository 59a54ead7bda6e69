"""Tables of a plan: labels per promise, and the chance that they are enough."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, log10
from typing import Any

import numpy as np

from selectkit.risk import labels_needed
from selectkit.risk.plan import (
    images_for_power,
    images_needed,
    labels_on_average,
    power_of_images,
)

LEVELS = (0.5, 0.8, 0.95)
ERRORS = range(6)
POINTS = 200
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Budget:
    """What one promise needs.

    Attributes:
        promise: In words.
        kind: "expectation" or "pac".
        errors: Errors that may be among the evidence.
        evidence: Samples the promise rests on.
        calib: Images in val_calib that hold so many with high probability; None when unknown.
        labelled: The same, images in all.
        verified: Images in all that give val_test so many; None when unknown, where val_test has no
            share, or where there is nothing to verify.
    """

    promise: str
    kind: str
    errors: int
    evidence: int
    calib: int | None
    labelled: int | None
    verified: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class PowerCurve:
    """How likely a rule with one true rate is certified.

    Attributes:
        true_rate: Its true rate.
        needed: By probability of success: from how many images on it is reached; None = never.
        labelled: The same in images in all; empty where evidence itself is counted.
        numbers: Numbers of images of the table.
        at: The chance at each.
        n: Numbers of images of the curve.
        chance: The chance at each.
    """

    true_rate: float
    needed: dict[float, int | None]
    labelled: dict[float, int | None]
    numbers: tuple[int, ...]
    at: tuple[float, ...]
    n: tuple[int, ...]
    chance: tuple[float, ...]

    def reached(self, level: float) -> str:
        """From how many images on a chance is reached, and in all, as a cell of a table."""
        n, total = self.needed[level], self.labelled.get(level)
        return "never" if n is None else f"{n:,}" + ("" if total is None else f" ({total:,})")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        document = asdict(self)
        for name in ("needed", "labelled"):
            document[name] = {f"{level:g}": n for level, n in document[name].items()}
        return document


def budgets(
    alpha: float, delta: float, share: float | None, calib: float, test: float, sure: float
) -> tuple[Budget, ...]:
    """Count labels for each promise.

    Args:
        alpha: Rate to promise.
        delta: Probability with which the promise may fail.
        share: Share of images that are evidence, None when unknown.
        calib: Share of val_calib.
        test: Share of val_test.
        sure: Probability with which the images are to hold enough evidence.

    Returns:
        The promise on average (conformal risk control), then those with confidence 1 - delta that
        0, 1, ... errors leave standing.
    """

    def images(n: int, part: float) -> int | None:
        return images_needed(n, share * part, sure) if share and part else None

    def one(promise: str, kind: str, errors: int, n: int) -> Budget:
        verified = images(n, test) if kind == "pac" else None
        return Budget(promise, kind, errors, n, images(n, 1.0), images(n, calib), verified)

    confidence = f"{100 * (1 - delta):.3g} % sure"
    return (
        one("on average over draws", "expectation", 0, labels_on_average(alpha)),
        *(
            one(
                f"{confidence}, {k or 'no'} error{'s' if k > 1 else ''}",
                "pac",
                k,
                labels_needed(alpha, delta, k),
            )
            for k in ERRORS
        ),
    )


def power_curves(
    alpha: float,
    delta: float,
    rates: Sequence[float],
    numbers: tuple[int, ...],
    share: float | None,
    calib: float,
) -> tuple[PowerCurve, ...]:
    """Compute power by true rate.

    Args:
        alpha: Rate to promise.
        delta: Probability with which the promise may fail.
        rates: True rates.
        numbers: Numbers of images of the table; chosen when empty.
        share: Share of images that are evidence; None to count evidence itself.
        calib: Share of val_calib.

    Returns:
        One curve per rate, over the same numbers of images.
    """

    def needed_at(of: float, rate: float) -> dict[float, int | None]:
        return {
            level: images_for_power(level, of, alpha=alpha, delta=delta, true_rate=rate)
            for level in LEVELS
        }

    in_all = [{} if share is None else needed_at(share * calib, rate) for rate in rates]
    share = share or 1.0
    needed = [needed_at(share, rate) for rate in rates]
    first = images_needed(labels_needed(alpha, delta), share, 0.5)
    last = max([first, *(n for row in needed for n in row.values() if n is not None)])
    numbers = numbers or round_numbers(first / 2, last)
    low, high = min(first / 2, numbers[0]), max(last, numbers[-1])
    grid = _grid(low, high, alpha, delta, saw=share == 1)

    def chances(of: tuple[int, ...], rate: float) -> tuple[float, ...]:
        found = power_of_images(np.array(of), share, alpha=alpha, delta=delta, true_rate=rate)
        return tuple(found.tolist())

    return tuple(
        PowerCurve(rate, row, labelled, numbers, chances(numbers, rate), grid, chances(grid, rate))
        for rate, row, labelled in zip(rates, needed, in_all, strict=True)
    )


def _grid(low: float, high: float, alpha: float, delta: float, saw: bool) -> tuple[int, ...]:
    """Numbers for a curve: equal ratios; of a saw the ends of its teeth, if few."""
    points = {int(n) for n in np.ceil(np.geomspace(low, high, POINTS))}
    if saw and alpha * high < 2 * POINTS:
        starts = [labels_needed(alpha, delta, k) for k in range(ceil(alpha * high) + 1)]
        ends = (n for start in starts for n in (start - 1, start))
        points = {n for n in ends if low <= n <= high} | {ceil(low), int(high)}
    return tuple(sorted(points))


def round_numbers(low: float, high: float) -> tuple[int, ...]:
    """Return those of 1, 2, 5, 10, 20, ... that span two numbers."""
    first, last = (int(log10(max(n, 1))) for n in (low, high))
    steps = [m * 10**e for e in range(first, last + 2) for m in (1, 2, 5)]
    start = max(i for i, step in enumerate(steps) if step <= max(low, 1))
    end = next(i for i, step in enumerate(steps) if step >= high)
    return tuple(steps[start : end + 1])


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """Return numbers in [0, 1] as a line of bars."""
    places = np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int)
    return "".join(_BARS[min(7, int(8 * values[i]))] for i in places)

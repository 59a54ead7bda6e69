"""What certifying on n fresh samples would give, judged by samples that are there already.

Each draw goes as a real certification would: the samples at hand are resampled (what a second lot
of them might have looked like), n are drawn from the resampled ones, `certify_threshold` runs on
the n, and the coverage of its threshold is counted on the lot they came from. So the spread holds
both kinds of chance, that of the n samples and that of the samples at hand. Without the second, a
range of 90 % of the draws would hold the coverage of a real certification half of the time when the
samples at hand are few; with it, most of the time.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools
from selectkit.errors import DataError
from selectkit.risk.certificate import Certificate
from selectkit.risk.threshold import certify_threshold

Float64s = npt.NDArray[np.float64]

LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """G independent sources (groups of images) that stand for those to come.

    Attributes:
        confidence: Shape (G,), float64: of the image by which the source's coverage is counted.
        evidence: Shape (G,), bool: the source has an image that the risk is about.
        evidence_confidence: Shape (G,), float64: of that image; ignored where there is none.
        evidence_loss: Shape (G,), bool: it is wrong; ignored where there is none.
    """

    confidence: Float64s
    evidence: Bools
    evidence_confidence: Float64s
    evidence_loss: Bools

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths.

        Raises:
            DataError: If the lengths differ or there is no source.
        """
        lengths = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(lengths) != 1 or not lengths.pop():
            raise DataError("the arrays of the sources must have one length, at least 1.")

    def __len__(self) -> int:
        """G."""
        return len(self.confidence)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of n sources.

    Attributes:
        n: Sources that would be drawn for certification.
        draws: Simulated certifications.
        infeasible: Share of them that ended INFEASIBLE.
        expected: Mean coverage, an INFEASIBLE one counting as 0.
        mean: Mean coverage where certified; None if never.
        low: 5 % quantile of it.
        high: 95 % quantile.
    """

    n: int
    draws: int
    infeasible: float
    expected: float
    mean: float | None
    low: float | None
    high: float | None

    @property
    def feasible(self) -> bool:
        """Whether any draw was certified."""
        return self.mean is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def forecast(
    sources: Sources,
    n: int,
    *,
    alpha: float,
    delta: float = 0.1,
    denominator: Literal["accepted", "all"] = "accepted",
    draws: int = 200,
    rng: np.random.Generator,
    on_draw: Callable[[], None] | None = None,
) -> Forecast:
    """Simulate the certification of a threshold on n fresh sources.

    Args:
        sources: What is known.
        n: Sources to draw, >= 1.
        alpha: Rate to certify, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).
        denominator: As in `certify_threshold`.
        draws: Simulated certifications, >= 1.
        rng: Source of the draws.
        on_draw: Called after each.

    Returns:
        Coverage and failures.

    Raises:
        DataError: If n or draws are below 1.
        RiskError: If alpha, delta or the denominator makes no sense.
    """
    if n < 1 or draws < 1:
        raise DataError(f"n and draws must be at least 1, got {n} and {draws}.")
    reached = np.zeros(draws)
    certified = np.zeros(draws, dtype=np.bool_)
    for i in range(draws):
        lot = rng.integers(len(sources), size=len(sources))
        threshold = _threshold(sources, lot[rng.integers(len(lot), size=n)], alpha, delta,
                               denominator)  # fmt: skip
        certified[i] = threshold is not None
        if threshold is not None:
            reached[i] = (sources.confidence[lot] >= threshold).mean()
        if on_draw is not None:
            on_draw()
    return _summary(n, reached, certified)


def _threshold(
    sources: Sources,
    drawn: npt.NDArray[np.int64],
    alpha: float,
    delta: float,
    denominator: Literal["accepted", "all"],
) -> float | None:
    about = drawn[sources.evidence[drawn]]
    if not len(about):
        return None
    found = certify_threshold(
        sources.evidence_confidence[about],
        sources.evidence_loss[about],
        alpha=alpha,
        delta=delta,
        denominator=denominator,
    )
    return found.threshold if isinstance(found, Certificate) else None


def _summary(n: int, reached: Float64s, certified: Bools) -> Forecast:
    share = reached[certified]
    mean = low = high = None
    if len(share):
        mean = float(share.mean())
        low, high = (float(q) for q in np.quantile(share, (LOW, HIGH)))
    return Forecast(
        n=n,
        draws=len(reached),
        infeasible=float((~certified).mean()),
        expected=float(reached.mean()),
        mean=mean,
        low=low,
        high=high,
    )

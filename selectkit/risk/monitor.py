"""Does the promise still hold? Evidence from audited decisions that may be looked at all the time.

The promise alpha of a certificate is about the distribution of the calibration split. In service
that distribution moves, so some of the accepted items are audited: their true labels are found
out. `RiskMonitor` bets against "the risk is at most alpha" (`selectkit.stats.EProcess`).

Audits with unequal probabilities. Let each accepted item be audited with a probability q_t that is
fixed before its label is known, may depend on anything seen until then (its score, say), and is at
least q_min. The monitor is fed alpha + (q_min / q_t) (loss_t - alpha), which lies in [0, 1]. Its
mean over the audit's coin exceeds alpha if and only if the risk does, and an item that is not
audited leaves the capital as it is, so only audited items are passed. The same holds for risks
over positives: audited items that turn out negative are left out.

Source: Podkopaev and Ramdas (2022), "Tracking the risk of a deployed model and detecting harmful
distribution shifts", ICLR, https://arxiv.org/abs/2110.06177; for the weights, Waudby-Smith, Wu,
Ramdas, Karampatziakis and Mineiro (2024), "Anytime-valid off-policy inference for contextual
bandits", https://arxiv.org/abs/2210.10768.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf, isfinite, log
from typing import Any, Self

import numpy as np

from selectkit.arrays import ArrayLike, finite_vector, regular_array
from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk.certificate import Certificate, unit
from selectkit.risk.stored import exact_fields
from selectkit.stats.bernstein import bounded_losses
from selectkit.stats.binomial import Float64s, check_level
from selectkit.stats.eprocess import EProcess, Restarts
from selectkit.stats.sequences import anytime_lower, anytime_upper


@dataclass(frozen=True, slots=True)
class RiskMonitor:
    """The evidence against a promise so far; `update` returns the next state.

    An alarm says that the risk of the deployed threshold exceeds alpha, not why: because the world
    has changed, or because the promise failed from the start (a "pac" certificate fails with
    probability delta; one of kind "expectation" holds on average only, and may be exceeded often).

    Order of arrival. Labels may come late and in any order, as long as what comes next is not
    chosen by how it turned out. Where bad news travels faster (a complaint comes before a
    confirmation), wait until a batch is labelled as a whole and pass it in the order of decision:
    else errors pile up at the front and look like a change.

    Attributes:
        risk: What was promised to be small: "error", "fnr", ...
        alpha: The promise, in (0, 1).
        least_probability: q_min in (0, 1]; 1 means that audited items were drawn with equal
            probabilities (or all are audited).
        alarm_at: The capital that raises the alarm. 1 / delta without detectors; for the
            detectors ("sum", "max") the mean run length.
        process: The bets.
        weighted_losses: Sum of (q_min / q_t) loss_t.
        weights: Sum of q_min / q_t.
        alarmed_after: Number of audited items at the first alarm, None before it.
    """

    risk: str
    alpha: float
    least_probability: float
    alarm_at: float
    process: EProcess
    weighted_losses: float = 0.0
    weights: float = 0.0
    alarmed_after: int | None = None

    @classmethod
    def start(
        cls,
        promise: Certificate | float,
        *,
        delta: float = 0.05,
        run_length: float = 10_000,
        restarts: Restarts = "spread",
        least_probability: float = 1.0,
        bets: ArrayLike | None = None,
    ) -> Self:
        """Return a monitor before the first audit.

        Args:
            promise: The certificate whose alpha is watched, or alpha itself, in (0, 1).
            delta: With restarts "never" or "spread": probability of a false alarm at any time.
            run_length: With "sum" or "max": a false alarm comes on average after at least so many
                audited items, and among the first t with probability at most t / run_length.
            restarts: When bets are opened, see `selectkit.stats.eprocess`. "spread" and "never"
                have the same guarantee for all time and find what is wrong from the start equally
                fast; "spread" finds a late change much sooner. "sum" finds any change soonest,
                "max" a little later, but both are bound to raise a false alarm some day. Median
                time of the alarm at a promise of 0.02 when the risk rises from 0.015 to 0.05 after
                10,000 audits, with the defaults: 14,200 "never", 11,050 "spread", 10,470 "max",
                10,170 "sum".
            least_probability: q_min, the smallest probability with which an accepted item is
                audited, in (0, 1]; 1 if all have the same.
            bets: Sizes of the bets, as in `EProcess.start`.

        Returns:
            The monitor.

        Raises:
            RiskError: If a number is out of range, or the certificate promises nothing.

        Examples:
            >>> monitor = RiskMonitor.start(0.02).update([0, 0, 1] * 20)
            >>> monitor.alarm, monitor.alarmed_after
            (True, 6)
        """
        risk, alpha = _promise(promise)
        check_level(delta, "delta")
        if not 1 < run_length < inf:
            raise RiskError(f"run_length must be a number above 1, got {run_length}.")
        if not 0 < least_probability <= 1:
            raise RiskError(f"least_probability must lie in (0, 1], got {least_probability}.")
        process = EProcess.start(alpha, bets=bets, restarts=restarts)
        alarm_at = run_length if restarts in {"sum", "max"} else 1 / delta
        return cls(risk, alpha, float(least_probability), float(alarm_at), process)

    @property
    def audited(self) -> int:
        """Number of audited items so far."""
        return self.process.n

    @property
    def alarm(self) -> bool:
        """Whether the promise was found broken; once raised, an alarm stays."""
        return self.alarmed_after is not None

    @property
    def e_value(self) -> float:
        """The capital now."""
        return self.process.value

    @property
    def p_value(self) -> float | None:
        """Anytime-valid p-value of "the promise holds"; None for detectors."""
        return self.process.p_value

    @property
    def estimate(self) -> float | None:
        """The risk so far, each loss weighted by 1 / q_t; None before the first audit."""
        return self.weighted_losses / self.weights if self.weights else None

    def interval(self, delta: float = 0.05) -> tuple[float, float]:
        """Return bounds of the risk, for display at any time.

        Args:
            delta: Probability that a constant risk is ever outside, in (0, 1).

        Returns:
            Lower and upper bound, valid at all times at once. If the risk changes over time, it has
            been above the lower bound at some time and below the upper bound at some time.

        Raises:
            RiskError: If delta is outside (0, 1).
        """
        total = min(self.weighted_losses, self.weights)
        return (
            anytime_lower(total, self.weights, delta / 2),
            anytime_upper(total, self.weights, delta / 2),
        )

    def update(self, losses: ArrayLike, probabilities: ArrayLike | None = None) -> Self:
        """Return the monitor after more audits.

        Args:
            losses: Shape (T,), T >= 0, in [0, 1]: of audited accepted items that the risk counts
                (for "fnr" positives only). One by one or in batches: the state is the same.
            probabilities: Shape (T,), in [q_min, 1]: with which each was chosen for the audit.
                Needed if and only if q_min < 1.

        Returns:
            The new state.

        Raises:
            DataError: If a shape or a value is wrong, or probabilities are missing.
        """
        of = [losses] if probabilities is None else [losses, probabilities]
        if {regular_array(each, "losses").shape for each in of} == {(0,)}:
            return self
        x = bounded_losses(losses)
        w = self._weights(probabilities, x)
        process, path = self.process.advance(self.alpha + w * (x - self.alpha))
        alarms = np.flatnonzero(path >= log(self.alarm_at))
        alarmed_after = self.alarmed_after
        if alarmed_after is None and alarms.size:
            alarmed_after = self.process.n + 1 + int(alarms[0])
        return replace(
            self,
            process=process,
            weighted_losses=_running_sum(self.weighted_losses, w * x),
            weights=_running_sum(self.weights, w),
            alarmed_after=alarmed_after,
        )

    def _weights(self, probabilities: ArrayLike | None, x: Float64s) -> Float64s:
        least = self.least_probability
        if probabilities is None:
            if least < 1:
                raise DataError(
                    f"probabilities are missing: this monitor was started with least_probability "
                    f"{least:g}, so it needs each audited item's probability."
                )
            return np.ones(len(x))
        q = finite_vector(probabilities, "probabilities")
        if q.shape != x.shape:
            raise DataError(f"probabilities have shape {q.shape} but losses {x.shape}.")
        if q.min() < least or q.max() > 1:
            row = int(np.flatnonzero((q < least) | (q > 1))[0])
            raise DataError(
                f"probability {q[row]:g} in row {row} is outside [{least:g}, 1]: the smallest one "
                "must be stated in advance (least_probability)."
            )
        return np.asarray(least / q)

    def sentence(self) -> str:
        """Return the state as English sentences, exactly as strong as proven."""
        claim = f"the {self.risk} among accepted {unit(self.risk)} is at most {self.alpha:.3g}"
        seen = f"{self.audited} audited {unit(self.risk)}"
        if self.estimate is None:
            return f"No audit yet of the promise that {claim}."
        low, high = self.interval()
        range_ = f"The risk so far: {self.estimate:.3g}, between {low:.3g} and {high:.3g}"
        range_ += " with 95 % confidence at all times if it is constant."
        if self.alarm:
            return (
                f"ALARM after {self.alarmed_after} of {seen}: while {claim}, {self._rate()}. "
                f"{range_}"
            )
        return (
            f"No alarm after {seen} (evidence {self.e_value:.3g}, alarm at {self.alarm_at:.6g}). "
            f"This does not prove that {claim}. {range_}"
        )

    def _rate(self) -> str:
        if self.p_value is None:
            return (
                f"a false alarm comes on average after {self.alarm_at:.6g} audits or later, and "
                f"within {self.alarmed_after} with probability at most "
                f"{min(1.0, (self.alarmed_after or 0) / self.alarm_at):.3g}"
            )
        return f"the probability of an alarm at any time is at most {1 / self.alarm_at:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON values, as in the schema monitor.v1; floats survive exactly."""
        document: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"monitor": "risk", **document, "process": self.process.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the state that `to_dict` wrote.

        Args:
            document: The fields by name; `kind` and `format_version` of a file may be among them.

        Returns:
            The monitor.

        Raises:
            ArtifactError: If fields are missing or unknown, or the state is impossible.
        """
        values = {k: v for k, v in document.items() if k not in {"kind", "format_version"}}
        values = exact_fields(values, cls, "a risk monitor", monitor="risk")
        try:
            monitor = cls(**{**values, "process": EProcess.from_dict(values["process"])})
            monitor._require_possible()
        except OverflowError:
            raise ArtifactError("the risk monitor cannot be used: a number is too large.") from None
        return monitor

    def _require_possible(self) -> None:
        numbers = (self.alpha, self.least_probability, self.alarm_at)
        sums, n, first = (self.weighted_losses, self.weights), self.process.n, self.alarmed_after
        possible = (
            isinstance(self.risk, str)
            and all(isinstance(v, int | float) and isfinite(v) for v in numbers + sums)
            and 0 < self.least_probability <= 1 < self.alarm_at
            and self.alpha == self.process.mean
            and 0 <= self.weighted_losses <= self.weights * (1 + 1e-9) <= n * (1 + 2e-9)
            and (first is None or (type(first) is int and 1 <= first <= n))
            and (first is not None) == (self.process.log_peak >= log(self.alarm_at))
        )
        if not possible:
            raise ArtifactError("the risk monitor cannot be used: its numbers contradict itself.")


def _promise(promise: Certificate | float) -> tuple[str, float]:
    if not isinstance(promise, Certificate):
        check_level(promise, "the promised risk")
        return "error", float(promise)
    if promise.kind == "none":
        raise RiskError(
            f"nothing is promised about {promise.risk}, so there is nothing to watch: pass a "
            "certificate of a risk, or the rate itself."
        )
    check_level(promise.alpha, "the promised risk")
    return promise.risk, promise.alpha


def _running_sum(before: float, values: Float64s) -> float:
    """A sum strictly from left to right, so that batches do not change it."""
    return float(np.add.accumulate(np.concatenate(([before], values)))[-1])

"""Whether fine-tuning through the conformal step helped, on rows by which nothing was chosen."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit import heads
from selectkit.arrays import log_softmax
from selectkit.config import FitConfig
from selectkit.heads.training.conformal_thresholds import rows_needed
from selectkit.metrics import bootstrap_weights
from selectkit.pipeline.conformal import Counted, conformal_loss, counted, halves
from selectkit.pipeline.inputs import Inputs

REPLICATES = 400
_MEASURES = {"fpr": "false positive rate", "deferral": "share deferred"}


@dataclass(frozen=True)
class FineTuning:
    """What fine-tuning through the conformal step changed, on rows by which nothing was chosen.

    Attributes:
        loss: "conformal_risk" or "conformal_sets".
        target: What the threshold keeps, "fnr=0.02".
        started_from: The run, or "cross_entropy" for a head that was trained for this.
        measure: "false positive rate", "share deferred" or "mean set size"; lower is better.
        before: Of the head that it started from.
        after: Of the head that is kept.
        low: 2.5 % quantile of after - before over resamples of groups; None when undefined.
        high: 97.5 % quantile.
        n: Rows of the half of val_select for comparing.
        counted: Those of them that the threshold is taken from.
        needed: How many it needs; with fewer, no miss was allowed.
        kept_start: Whether no epoch was better than the head that it started from.
    """

    loss: str
    target: str
    started_from: str
    measure: str
    before: float
    after: float
    low: float | None
    high: float | None
    n: int
    counted: int
    needed: int
    kept_start: bool

    @classmethod
    def of(cls, inputs: Inputs, config: FitConfig, before: heads.Head, after: heads.Head) -> Self:
        """Compare two heads on the half of val_select by which nothing was chosen.

        Args:
            inputs: What was fitted on.
            config: The settings of the fine-tuning.
            before: The head that it started from.
            after: The head that is kept.

        Returns:
            The comparison.
        """
        loss = conformal_loss(inputs, config)
        _, rows = halves(inputs)
        y = rows.select.y
        x = np.asarray(rows.features_of(rows.select)[:], dtype=np.float32)
        z = [head.logits(x) for head in (before, after)]
        values = [counted(loss, logits, y) for logits in z]
        ones = np.ones(len(y), dtype=np.int64)
        low, high = _interval(values, rows.select.groups)
        risk = isinstance(loss, heads.ConformalRisk)
        return cls(
            loss=loss.kind,
            target=str(config.target),
            started_from=config.init or "cross_entropy",
            measure=_MEASURES[config.objective] if risk else "mean set size",
            before=values[0](ones),
            after=values[1](ones),
            low=low,
            high=high,
            n=len(y),
            counted=int((y == getattr(loss, "positive", None)).sum()) if risk else len(y),
            needed=rows_needed(loss.alpha),
            kept_start=bool(np.allclose(log_softmax(z[0]), log_softmax(z[1]), 1e-3, 1e-3)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def helped(self) -> bool:
        """Whether the figure fell by more than chance explains."""
        return self.high is not None and self.high < 0

    def lines(self) -> list[str]:
        """Return the comparison as lines for people."""
        told = (
            f"{self.measure} at {self.target}, on the half of val_select by which nothing was "
            f"chosen ({self.n:,} rows): {self.before:.3f} before fine-tuning, "
            f"{self.after:.3f} after"
        )
        if self.low is not None:
            told += f" (95 % of the difference {self.low:+.3f} to {self.high:+.3f})"
        return [
            told,
            self._verdict(),
            "no guarantee comes from training; calibrate certifies on val_calib, not touched here",
        ]

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should look at."""
        if self.counted >= self.needed:
            return ()
        return (
            f"the comparison has {self.counted} rows to take its threshold from, and "
            f"{self.target} needs {self.needed}; no miss was allowed there, which is noisy",
        )

    def _verdict(self) -> str:
        if self.kept_start:
            return (
                "fine-tuning did not help: no epoch was better than the head it started from, "
                "which is kept"
            )
        instead = self.started_from
        if instead == "cross_entropy":
            instead = "--loss cross_entropy"
        if self.helped:
            return f"fine-tuning helped: it lowered the {self.measure}"
        if self.low is not None and self.low > 0:
            return f"fine-tuning did harm: it raised the {self.measure}; use {instead}"
        return f"fine-tuning did not help by more than chance explains; use {instead}"


def _interval(
    values: list[Counted], groups: npt.NDArray[np.object_]
) -> tuple[float | None, float | None]:
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    chunks = bootstrap_weights(len(codes), REPLICATES, codes, np.random.default_rng(0))
    differences = [values[1](c) - values[0](c) for chunk in chunks for c in chunk]
    low, high = np.quantile(differences, [0.025, 0.975])
    return (float(low), float(high)) if isfinite(low) and isfinite(high) else (None, None)

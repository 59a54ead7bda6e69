"""The verb `calibrate`: a probability calibrator on val_select, a threshold on val_calib."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import artifact
from selectkit.cache import Features
from selectkit.calibrate import Calibrator, Identity, Platt, Temperature
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError
from selectkit.pipeline.extract import settled
from selectkit.pipeline.run import RunDirectory
from selectkit.policies import SoftmaxPolicy, Target
from selectkit.risk import Infeasible, labels_needed

CALIBRATORS = {"temperature": Temperature, "platt": Platt, "none": Identity}


@dataclass(frozen=True)
class Calibration:
    """The answer of `calibrate`: a policy, or the reason why there is none.

    Attributes:
        run: The run directory.
        target: What was asked.
        delta: Probability with which the promise may fail.
        calibrator: The fitted probability calibrator.
        answer: The policy, or why the target is infeasible.
        warnings: What the user should look at.
    """

    run: Path
    target: Target
    delta: float
    calibrator: Calibrator
    answer: SoftmaxPolicy | Infeasible
    warnings: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether a policy was found; when not, nothing was written."""
        return isinstance(self.answer, SoftmaxPolicy)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "run": str(self.run),
            "feasible": self.feasible,
            "target": str(self.target),
            "delta": self.delta,
            "calibrator": self.calibrator.to_dict(),
            "policy" if self.feasible else "infeasible": self.answer.to_dict(),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        if isinstance(self.answer, Infeasible):
            return [self.answer.message(), "nothing was written"]
        certificate = self.answer.certificate
        return [
            certificate.sentence(),
            f"accept iff {self.answer.score} >= {self.answer.threshold:.6g}: "
            f"{certificate.coverage:.1%} of val_calib",
            f"next: selectkit evaluate {self.run}",
        ]


def calibrate(
    run: str | Path,
    *,
    config: CalibrateConfig | None = None,
    store: str | Path | None = None,
    **settings: Any,
) -> Calibration:
    """Fit the probability calibrator on val_select, then the policy on val_calib.

    Args:
        run: Run directory made by `fit`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        **settings: Fields of `CalibrateConfig`, over `config`; `target` must be among them.

    Returns:
        The answer. When it is infeasible, the run is left as it was.

    Raises:
        ConfigError: If the target is missing or makes no sense.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        CalibrationError: If val_select does not identify the calibrator.
    """
    chosen = settled(CalibrateConfig, config, settings)
    if chosen.target is None:
        raise ConfigError(
            "no target: say what to promise, for instance --target fnr=0.02, --target error=0.01 "
            "or --target coverage=0.8."
        )
    target = Target.parse(chosen.target)
    opened = RunDirectory.open(Path(run))
    cache = opened.store(Path(store) if store else None)
    select, raw = opened.outputs(cache, "val_select")
    calibrator = CALIBRATORS[chosen.calibrator].fit(raw.logits, select.y)
    calib, outputs = opened.outputs(cache, "val_calib", calibrator)
    answer = SoftmaxPolicy.fit(
        outputs,
        calib.y,
        target=target,
        delta=chosen.delta,
        score=chosen.score,
        positive=opened.head.positive,
        split=calib.fingerprint,
    )
    result = Calibration(
        run=opened.path,
        target=target,
        delta=chosen.delta,
        calibrator=calibrator,
        answer=answer,
        warnings=_warnings(target, chosen.delta, calib, opened, cache),
    )
    if isinstance(answer, SoftmaxPolicy):
        _write(opened, chosen, calibrator, select, answer)
    opened.log("calibrate", **result.to_dict())
    return result


def _write(
    run: RunDirectory,
    config: CalibrateConfig,
    calibrator: Calibrator,
    select: Features,
    policy: SoftmaxPolicy,
) -> None:
    fitted_on = {"fitted_on": select.fingerprint, "head": run.head.hash}
    path = run.path / "calibrator.json"
    calibrator_hash = artifact.save(path, "calibrator", {**calibrator.to_dict(), **fitted_on})
    document = {**policy.to_dict(), "head": run.head.hash, "calibrator": calibrator_hash}
    artifact.save(run.path / "thresholds.json", "thresholds", document)
    for name in ("metrics.json", "metrics.csv", "report.html"):
        (run.path / name).unlink(missing_ok=True)
    run.update(calibrate=config)


def _warnings(
    target: Target, delta: float, calib: Features, run: RunDirectory, store: Any
) -> tuple[str, ...]:
    """Say when val_test cannot verify what val_calib promises, and when groups repeat."""
    lines = []
    if target.risk != "coverage":
        needs = labels_needed(target.alpha, delta)
        test = store.read(run.head.view, "val_test", feature=run.head.feature)
        classes, positive = run.head.classes, run.head.positive
        who, n = "images", len(test.y)
        if target.risk in {"fnr", "miss_rate"} and positive is not None:
            who = "positives"
            n = sum(test.classes[code] == classes[positive] for code in test.y)
        if n < needs:
            lines.append(
                f"val_test has {n:,} {who}; verifying {target} at confidence {1 - delta:.0%} "
                f"takes at least {needs:,}. The certificate stands, the test is only indicative"
            )
    repeats = len(calib.groups) - len(np.unique(calib.groups.astype(str)))
    if repeats and target.risk != "coverage":
        lines.append(
            f"val_calib has {len(calib.groups):,} images of "
            f"{len(calib.groups) - repeats:,} groups: the certificate takes images as independent "
            "draws; correlated images of one group make it weaker than it says"
        )
    return tuple(lines)

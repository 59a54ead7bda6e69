"""The verb `calibrate`: a probability calibrator on val_select, a threshold on val_calib."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import artifact
from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import CALIBRATORS, Calibrator
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError, LeakageError
from selectkit.pipeline.extract import settled
from selectkit.pipeline.run import RunDirectory, recode
from selectkit.policies import POSITIVE_RISKS, Outputs, SoftmaxPolicy, Target
from selectkit.risk import Infeasible, labels_needed


@dataclass(frozen=True)
class Calibration:
    """The answer of `calibrate`: a policy, or the reason why everything must be deferred.

    Attributes:
        run: The run directory.
        target: What was asked.
        delta: Probability with which the promise may fail.
        calibrator: The fitted probability calibrator.
        policy: The active policy of the run from now on.
        warnings: What the user should look at.
    """

    run: Path
    target: Target
    delta: float
    calibrator: Calibrator
    policy: SoftmaxPolicy
    warnings: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether there is a threshold; when not, the policy defers everything."""
        return self.policy.infeasible is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "run": str(self.run),
            "feasible": self.feasible,
            "target": str(self.target),
            "delta": self.delta,
            "calibrator": self.calibrator.to_dict(),
            "policy": self.policy.to_dict(),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        if self.policy.infeasible is not None:
            return [self.policy.infeasible.message(), "the run now defers everything"]
        certificate = self.policy.certificate
        assert certificate is not None  # a feasible policy has one
        rule = f"accept iff {self.policy.score} >= {self.policy.threshold:.6g}"
        if self.policy.threshold < -1e300:  # below every finite score
            rule = "accept everything"
        return [
            certificate.sentence(),
            f"{rule}: {certificate.coverage:.1%} of val_calib",
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

    The certificate takes its rows for independent draws. Images of one group (site, video,
    track) are not, so only one image of each group of val_calib is used, the one whose id hashes
    lowest: the promise is then about a random image of a random group.

    Args:
        run: Run directory made by `fit`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        **settings: Fields of `CalibrateConfig`, over `config`; `target` must be among them.

    Returns:
        The answer. When the target is infeasible, the run defers everything from now on.

    Raises:
        ConfigError: If the target is missing or makes no sense.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        CalibrationError: If val_select does not identify the calibrator.
    """
    chosen = settled(CalibrateConfig, config, settings)
    target = _target(chosen)
    opened = RunDirectory.open(Path(run))
    if target.risk in POSITIVE_RISKS and opened.head.positive is None:
        raise ConfigError(
            f"--target {target} is about positives, and {opened.path} names no positive class: "
            f"fit again with --positive, one of {', '.join(opened.head.classes)}."
        )
    cache = opened.store(Path(store) if store else None)
    select, raw = opened.outputs(cache, "val_select")
    calibrator = CALIBRATORS[chosen.calibrator].fit(raw.logits, select.y)
    calib, outputs = opened.outputs(cache, "val_calib", calibrator)
    policy, n_used = certified(
        calib,
        outputs,
        target=target,
        delta=chosen.delta,
        score=chosen.score,
        positive=opened.head.positive,
    )
    result = Calibration(
        run=opened.path,
        target=target,
        delta=chosen.delta,
        calibrator=calibrator,
        policy=policy,
        warnings=_warnings(target, chosen, calib, n_used, opened, cache),
    )
    _write(opened, chosen, result, select, calib)
    opened.log("calibrate", **result.to_dict())
    return result


def certified(
    calib: Features,
    outputs: Outputs,
    *,
    target: Target,
    delta: float,
    score: str,
    positive: int | None,
) -> tuple[SoftmaxPolicy, int]:
    """Find the policy for one target on val_calib.

    Args:
        calib: The labelled rows of val_calib.
        outputs: What head and calibrator say about them.
        target: What to promise.
        delta: Probability with which the promise may fail.
        score: Name of the confidence score.
        positive: Index of the positive class.

    Returns:
        The policy (deferring everything when the target is infeasible), and the number of
        independent rows it was certified on.

    Raises:
        LeakageError: If the rows are not those of val_calib.
    """
    if calib.split != "val_calib":
        raise LeakageError(
            f"a threshold is certified on val_calib only; got the rows of {calib.split}."
        )
    alone = one_per_group(calib)
    answer = SoftmaxPolicy.fit(
        Outputs(outputs.logits[alone], outputs.probabilities[alone]),
        calib.y[alone],
        target=target,
        delta=delta,
        score=score,
        positive=positive,
        split=calib.fingerprint,
    )
    if isinstance(answer, Infeasible):
        answer = SoftmaxPolicy.deferring(answer, score=score, positive=positive)
    return answer, len(alone)


def one_per_group(rows: Features) -> npt.NDArray[np.int64]:
    """Return the position of one row of each group, the one whose id hashes lowest, ascending."""
    chosen: dict[str, tuple[bytes, int]] = {}
    for place, (group, id_) in enumerate(zip(rows.groups, rows.ids, strict=True)):
        key = hashlib.sha256(str(id_).encode()).digest(), place
        chosen[group] = min(chosen.get(group, key), key)
    return np.array(sorted(place for _, place in chosen.values()), dtype=np.int64)


def _target(config: CalibrateConfig) -> Target:
    if config.target is None:
        raise ConfigError(
            "no target: say what to promise, for instance --target fnr=0.02, --target error=0.01 "
            "or --target coverage=0.8."
        )
    return Target.parse(config.target)


def _write(
    run: RunDirectory,
    config: CalibrateConfig,
    result: Calibration,
    select: Features,
    calib: Features,
) -> None:
    head = {"head": run.head.hash}
    calibrator_hash = artifact.save(
        run.path / "calibrator.json",
        "calibrator",
        {**result.calibrator.to_dict(), "fitted_on": select.fingerprint, **head},
    )
    artifact.save(
        run.path / "thresholds.json",
        "thresholds",
        {
            **result.policy.to_dict(),
            "calibrator": calibrator_hash,
            "split": calib.fingerprint,
            **head,
        },
    )
    for name in ("metrics.json", "metrics.csv", "report.html"):
        (run.path / name).unlink(missing_ok=True)
    run.update(calibrate=config)


def _warnings(
    target: Target,
    config: CalibrateConfig,
    calib: Features,
    n_used: int,
    run: RunDirectory,
    store: FeatureStore,
) -> tuple[str, ...]:
    """Say when val_test cannot verify what val_calib promises, and when groups repeat."""
    if target.risk == "coverage":
        return ()
    lines = []
    if n_used < len(calib.y):
        lines.append(
            f"val_calib has {len(calib.y):,} images of {n_used:,} groups; images of one group are "
            "no independent evidence, so one image of each was used"
        )
    needs = labels_needed(target.alpha, config.delta)
    test = store.read(run.head.view, "val_test", feature=run.head.feature)
    who, n = "images", len(test.y)
    if run.head.positive is not None and target.risk in {"fnr", "miss_rate"}:
        name = run.head.classes[run.head.positive]
        who, n = "positives", int((recode(test, run.head.classes).y == run.head.positive).sum())
        who += f" ({name})"
    if n < needs:
        lines.append(
            f"val_test has {n:,} {who}; to verify {target} on it at confidence "
            f"{1 - config.delta:.0%} takes at least {needs:,}: what it shows is only indicative"
        )
    return tuple(lines)

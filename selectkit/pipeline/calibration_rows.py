"""The rows that `calibrate` reads of a run, and what policies rank them by."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from selectkit.cache import Features, FeatureStore
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError, LeakageError
from selectkit.pipeline.calibrators import FittedCalibrator, fitted_calibrator
from selectkit.pipeline.certify import POLICIES
from selectkit.pipeline.evidence import Evidence, Names
from selectkit.pipeline.prepared import PreparedCascade
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import calibrated_gate, score_named
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.strata import Strata
from selectkit.policies import Guide, Outputs, OwnScore
from selectkit.policies.scores import Gate


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """What one run says about val_select and val_calib.

    Attributes:
        run: The run.
        cache: Its store.
        select: Rows of val_select.
        fit: The calibrator, fitted on them.
        guide: What head and calibrator say about them.
        calib: Rows of val_calib.
        rows: What head and calibrator say about them.
    """

    run: RunDirectory
    cache: FeatureStore
    select: Features
    fit: FittedCalibrator
    guide: Guide
    calib: Features
    rows: Evidence

    @classmethod
    def of(cls, run: RunDirectory, config: CalibrateConfig, store: str | Path | None) -> Self:
        """Read the rows, and fit the calibrator.

        Args:
            run: The run.
            config: Settings of the calibrator, and for whom promises are to hold.
            store: Where its store is now, if it was moved.

        Returns:
            The rows.

        Raises:
            DataError: If rows lack a value in the column of `per_group`.
            LeakageError: If the store is no longer split as it was when the head was fitted.
            CalibrationError: If val_select does not identify the calibrator.
        """
        cache = run.store(store)
        strata = None if config.per_group is None else Strata.of(cache, config.per_group)
        select, raw = run.outputs(cache, "val_select")
        fit = fitted_calibrator(config.calibrator, raw, select)
        seen = replace(raw, probabilities=fit.calibrator.probabilities(raw.logits))
        calib, outputs = run.outputs(cache, "val_calib", fit.calibrator)
        guide = Guide(seen, select.y, None if strata is None else strata.among(select))
        rows = evidence_of(calib, outputs, guide, None if strata is None else strata.among(calib))
        return cls(run, cache, select, fit, guide, calib, rows)

    def staged(
        self, settings: StageSettings, config: CalibrateConfig, store: str | Path | None
    ) -> PreparedCascade:
        """Make this run the first of a cascade.

        Args:
            settings: The other runs, and what an image costs.
            config: Its score is that of every stage.
            store: Where the store of all runs is now, if it was moved.

        Returns:
            The cascade, not certified yet.
        """
        stages = settings.opened(self.run.path, store)
        return PreparedCascade.of(
            stages, settings, fit=self.fit, fitted_on=self.select.fingerprint, scores=config.score
        )


def evidence_of(
    calib: Features, outputs: Outputs, guide: Guide | None, strata: Names | None
) -> Evidence:
    """Return the rows that a promise rests on.

    Args:
        calib: The labelled rows of val_calib.
        outputs: What head and calibrator say about them.
        guide: Rows of val_select, or None.
        strata: For whom each promise is to hold on its own, or None.

    Returns:
        The evidence.

    Raises:
        LeakageError: If the rows are not those of val_calib.
    """
    if calib.split != "val_calib":
        raise LeakageError(
            f"a threshold is certified on val_calib only; got the rows of {calib.split}."
        )
    return Evidence(outputs, calib.y, calib.ids, calib.groups, guide, calib.fingerprint, strata)


def scores_of(
    config: CalibrateConfig, read: CalibrationRows
) -> tuple[dict[str, str | OwnScore], str, tuple[str, ...]]:
    """Return what every policy may rank images by.

    Args:
        config: Settings of policy and score.
        read: The rows.

    Returns:
        The score of each policy, the fingerprint of what the chosen score was fitted on, and what
        the user should know.

    Raises:
        ConfigError: If the policy does not know the score.
    """
    select, outputs = read.select, read.guide.outputs
    if config.policy == "gate":
        if config.score not in {CalibrateConfig().score, Gate.kind}:
            raise ConfigError("--policy gate accepts by the trained gate; leave --score out.")
        gate, notes = calibrated_gate(select, outputs)
        return {"gate": gate}, select.fingerprint, notes
    score, fitted_on, notes = score_named(config.score, read.run, read.cache, select, outputs)
    scores: dict[str, str | OwnScore] = {name: score for name in POLICIES if name != "gate"}
    if config.policy == "auto" and outputs.gate is not None:
        scores["gate"], more = calibrated_gate(select, outputs)
        notes = (*notes, *(note for note in more if note not in notes))
    return scores, fitted_on, notes

"""A cascade before it is certified: its runs, what they say about rows, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from selectkit.cache import Features
from selectkit.errors import ConfigError
from selectkit.pipeline.calibrators import FittedCalibrator
from selectkit.pipeline.cautions import about_groups
from selectkit.pipeline.evidence import Labels, one_per_group
from selectkit.pipeline.scores import calibrated_gate
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.stages import StageRun, common_outputs
from selectkit.policies import CascadePolicy, Outputs, StageCosts, Targets
from selectkit.policies.cascade.rows import Plain
from selectkit.policies.scores import Gate

HEADS_ALONE = (
    "costs are those of the heads alone; give the seconds of each view, or the cost of each stage, "
    "to count extraction"
)


@dataclass(frozen=True, eq=False)
class PreparedCascade:
    """The runs of a cascade, and what they say about the rows that all of them have.

    Attributes:
        stages: The runs.
        fit: The calibrator of the first run.
        fitted_on: Fingerprint of the rows that it was fitted on.
        later: Hashes of the calibrators of the others.
        scores: What each stage ranks images by.
        select: Rows of val_select.
        guides: What each stage says about them.
        calib: Rows of val_calib.
        outputs: What each stage says about them.
        alone: Positions of one image of each group of `calib`.
        costs: What the stages cost.
        seconds: Of each head for one image.
        last_decides: Whether the last stage decides every image that reaches it.
        notes: What the user should know.
    """

    stages: tuple[StageRun, ...]
    fit: FittedCalibrator
    fitted_on: str
    later: tuple[str, ...]
    scores: tuple[Plain, ...]
    select: Features
    guides: tuple[Outputs, ...]
    calib: Features
    outputs: tuple[Outputs, ...]
    alone: Labels
    costs: StageCosts
    seconds: tuple[float, ...]
    last_decides: bool
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        stages: Sequence[StageRun],
        settings: StageSettings,
        *,
        fit: FittedCalibrator,
        fitted_on: str,
        scores: str | Sequence[str],
    ) -> Self:
        """Read the rows that all stages have, rank them, and find what the stages cost.

        Args:
            stages: The runs; the later ones must have their calibrators.
            settings: What an image costs.
            fit: The calibrator of the first run.
            fitted_on: Fingerprint of the rows that it was fitted on.
            scores: Score of the stages, or one per stage: a plain one, or "gate".

        Returns:
            Everything that a cascade is certified with.

        Raises:
            ConfigError: If runs, scores or costs make no sense together.
            ArtifactError: If a later run has no calibrator.
            LeakageError: If a row has another label or group in another store.
            DataError: If a split has no labelled image.
        """
        later = [stage.run.calibrator() for stage in stages[1:]]
        calibrators = (fit.calibrator, *(found for found, _ in later))
        select, guides = common_outputs(stages, "val_select", calibrators)
        ranked_by, about = stage_scores(scores, select, guides)
        calib, outputs = common_outputs(stages, "val_calib", calibrators)
        alone = one_per_group(calib)
        costs, seconds = settings.prices(stages, outputs)
        return cls(
            stages=tuple(stages),
            fit=fit,
            fitted_on=fitted_on,
            later=tuple(hash_ for _, hash_ in later),
            scores=ranked_by,
            select=select,
            guides=tuple(guides),
            calib=calib,
            outputs=tuple(outputs),
            alone=alone,
            costs=costs,
            seconds=seconds,
            last_decides=settings.last_decides,
            notes=(*about, *_notes(stages, calib, settings)),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of a certificate for it."""
        repeated = about_groups(len(self.calib.y), len(self.alone))
        return (*self.fit.warnings, *repeated, *self.notes)

    @property
    def independent(self) -> list[Outputs]:
        """What each stage says about one image of each group of val_calib."""
        return [said.take(self.alone) for said in self.outputs]

    def certified(self, targets: Targets, delta: float) -> CascadePolicy:
        """Find the best thresholds that keep the targets; see `CascadePolicy.fit`."""
        return CascadePolicy.fit(
            self.independent,
            self.calib.y[self.alone],
            costs=self.costs,
            target=targets,
            select=(self.guides, self.select.y),
            delta=delta,
            scores=self.scores,
            names=[stage.name for stage in self.stages],
            positive=self.stages[0].run.head.positive,
            last_decides=self.last_decides,
            split=self.calib.fingerprint,
            grouped=len(self.alone) < len(self.calib.y),
        )


def stage_scores(
    scores: str | Sequence[str], select: Features, guides: Sequence[Outputs]
) -> tuple[tuple[Plain, ...], tuple[str, ...]]:
    """Return what each stage ranks images by, and what to know about it.

    Args:
        scores: Score of the stages, or one per stage: a plain one, or "gate".
        select: Rows of val_select.
        guides: What each stage says about them.

    Returns:
        The scores; a gate is calibrated on val_select.

    Raises:
        ConfigError: If there are not as many scores as stages, or a stage has no gate.
    """
    names = [scores] * len(guides) if isinstance(scores, str) else list(scores)
    if len(names) != len(guides):
        raise ConfigError(f"{len(guides)} stages need one score or as many, got {len(names)}.")
    found: list[Plain] = []
    notes: list[str] = []
    for name, said in zip(names, guides, strict=True):
        if name != Gate.kind:
            found.append(name)
            continue
        gate, about = calibrated_gate(select, said)
        found.append(gate)
        notes += about
    return tuple(found), tuple(notes)


def lacking(stages: Sequence[StageRun], split: str, shared: int) -> tuple[str, ...]:
    """Say which stages have images that others lack.

    Args:
        stages: The stages.
        split: Name of the split.
        shared: Labelled images of it that all stages have.

    Returns:
        One line for each such stage.
    """
    lines = []
    for stage in stages:
        total = len(stage.store.rows_of(stage.run.head.view, split).ids)
        if total > shared:
            lines.append(
                f"{stage.name} has {total - shared:,} images of {split} that another stage lacks; "
                "they were left out"
            )
    return tuple(lines)


def _notes(stages: Sequence[StageRun], calib: Features, settings: StageSettings) -> tuple[str, ...]:
    """Say when images are missing, and when extraction costs nothing."""
    missing = lacking(stages, "val_calib", len(calib.y))
    return missing if settings.extraction_counts else (*missing, HEADS_ALONE)

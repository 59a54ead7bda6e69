"""The verb `compare`: which score should decide what is accepted?

Every score is fitted on train, and all are judged on the same rows. val_select is there to choose
by. val_calib is not offered: a score chosen on it would void the certificate computed on it.
val_test is for reporting a choice that is made.
"""

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import artifact
from selectkit.arrays import Bools
from selectkit.cache import Features, FeatureStore
from selectkit.calibrate import Calibrator
from selectkit.config import CalibrateConfig, CompareConfig
from selectkit.metrics import Interval
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.extract import settled
from selectkit.pipeline.output_file import require_output
from selectkit.pipeline.ranking import REFERENCE, ScoreRow, ranked
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import available, calibrated_gate, fitted_on_train, train_rows
from selectkit.policies import FITTED, SCORES, Outputs, Score
from selectkit.policies.scores import Gate
from selectkit.report.comparison import Contrast, contrasts

FEW_ERRORS = 20


@dataclass(frozen=True)
class Comparison:
    """Scores of one run, best first.

    Attributes:
        run: The run directory.
        split: On which rows.
        n: Labelled rows.
        errors: Wrong predictions among them.
        rows: One per score, by AUGRC.
        notes: What the user should look at.
    """

    run: Path
    split: str
    n: int
    errors: int
    rows: tuple[ScoreRow, ...]
    notes: tuple[str, ...]

    @property
    def recommended(self) -> str:
        """The best score that is shown to be better than msp, or msp."""
        return next((r.score for r in self.rows if r.verdict == "better"), REFERENCE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is undefined is null."""
        return {
            "run": str(self.run),
            "split": self.split,
            "n": self.n,
            "errors": self.errors,
            "reference": REFERENCE,
            "recommended": self.recommended,
            "scores": [
                {**artifact.json_values(asdict(row)), "verdict": row.verdict} for row in self.rows
            ],
            "warnings": list(self.notes),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows; areas in thousandths."""
        header = ["score", "AUGRC", "95 %", f"minus {REFERENCE}", "95 %", "p (Holm)", "verdict"]
        rows = []
        for row in self.rows:
            against = ["", "", ""]
            if row.score != REFERENCE:
                against = [
                    f"{1000 * row.difference.value:+.2f}",
                    _range(row.difference, "+.2f"),
                    f"{row.p_holm:.3g}" if isfinite(row.p_holm) else "-",
                ]
            area = [f"{1000 * row.augrc.value:.2f}", _range(row.augrc, ".2f")]
            rows.append([row.score, *area, *against, row.verdict])
        return header, rows

    def lines(self) -> list[str]:
        """Return the answer as lines for people."""
        lines = []
        gate = next((row for row in self.rows if row.score == Gate.kind), None)
        if gate is not None:
            lines.append(_about_gate(gate))
        if self.split == "val_select":
            lines.append(f"next: selectkit calibrate {self.run} --score {self.recommended} "
                         "--target error=0.05")  # fmt: skip
        return lines


def compare(
    run: str | Path,
    *,
    config: CompareConfig | None = None,
    store: str | Path | None = None,
    **settings: Any,
) -> Comparison:
    """Rank every score of a run by AUGRC, each against msp on the same rows.

    Predictions come from the run's calibrator; before `calibrate`, from temperature scaling fitted
    on val_select. Nothing in the run is changed but its log.

    Args:
        run: Run directory made by `fit`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        **settings: Fields of `CompareConfig`, over `config`.

    Returns:
        The comparison.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        DataError: If a split has no labelled row.
    """
    chosen = settled(CompareConfig, config, settings)
    opened = RunDirectory.open(Path(run))
    cache = opened.store(store)
    select, raw = opened.outputs(cache, "val_select")
    calibrator, notes = _calibrator(opened, select, raw)
    judged, outputs = opened.outputs(cache, chosen.split, calibrator)
    at_select = (
        outputs
        if chosen.split == "val_select"
        else (opened.outputs(cache, "val_select", calibrator)[1])
    )
    scores, about_gate = _scores(opened, cache, select, at_select)
    wrong = np.asarray(outputs.prediction != judged.y)
    confidences = {name: score(outputs) for name, score in scores.items()}
    rows = ranked(
        confidences, wrong, groups=_groups(judged), n_replicates=chosen.replicates, seed=chosen.seed
    )
    result = Comparison(
        run=opened.path,
        split=chosen.split,
        n=len(judged.y),
        errors=int(wrong.sum()),
        rows=rows,
        notes=(*notes, *about_gate, *_notes(chosen.split, wrong, judged, opened)),
    )
    opened.log("compare", fingerprint=judged.fingerprint, **result.to_dict())
    return result


def _calibrator(
    run: RunDirectory, select: Features, raw: Outputs
) -> tuple[Calibrator, tuple[str, ...]]:
    if (run.path / "calibrator.json").is_file():
        return run.calibrator()[0], ()
    fit = fitted_calibrator(CalibrateConfig().calibrator, raw, select)
    return fit.calibrator, fit.warnings


def _scores(
    run: RunDirectory, store: FeatureStore, select: Features, at_select: Outputs
) -> tuple[dict[str, Score], tuple[str, ...]]:
    rows, train = train_rows(run, store)
    scores: dict[str, Score] = {}
    notes: tuple[str, ...] = ()
    for name in available(at_select):
        if name in SCORES:
            scores[name] = SCORES[name]
        elif name in FITTED:
            scores[name] = fitted_on_train(name, rows, train)
        else:
            scores[name], notes = calibrated_gate(select, at_select)
    return scores, notes


def _groups(rows: Features) -> Any:
    names, codes = np.unique(rows.groups.astype(str), return_inverse=True)
    return None if len(names) == len(rows.y) else codes


def _notes(split: str, wrong: Bools, rows: Features, run: RunDirectory) -> tuple[str, ...]:
    lines = []
    errors = int(wrong.sum())
    if errors < FEW_ERRORS:
        lines.append(
            f"{split} has {errors} errors among {len(wrong):,} images: too few to tell scores "
            "apart; what differs here may be chance"
        )
    if split == "val_select":
        has_gate = hasattr(run.head.head, "gate_logits")
        lines.append(
            "val_select has chosen the head"
            + (", its gate included," if has_gate else "")
            + " and now a score: its figures flatter what wins. The certificate is not touched, it "
            "comes from val_calib; to report figures, compare --split val_test once"
        )
    else:
        lines.append("a score chosen by these figures can no longer be evaluated on val_test")
    if len(set(rows.groups)) < len(rows.y):
        lines.append(f"{split} has several images per group: intervals resample groups")
    return tuple(lines)


def _about_gate(row: ScoreRow) -> str:
    if row.verdict == "better":
        return (
            f"the trained gate beats {REFERENCE}: AUGRC {_thousandths(row)} (p = {row.p_holm:.2g}, "
            "Holm)"
        )
    how = "is worse than" if row.verdict == "worse" else "does not beat"
    return (
        f"the trained gate {how} {REFERENCE} (AUGRC {_thousandths(row)}): take {REFERENCE}, which "
        "needs no gate"
    )


def _thousandths(row: ScoreRow) -> str:
    return f"{1000 * row.difference.value:+.2f} ({_range(row.difference, '+.2f')}) x 1e-3"


def _range(interval: Interval, form: str) -> str:
    if not isfinite(interval.low):
        return "-"
    return f"{1000 * interval.low:{form}} to {1000 * interval.high:{form}}"


def chart(comparison: Comparison, path: Path) -> None:
    """Draw every score's difference from msp, best first.

    Args:
        comparison: The answer of `compare`.
        path: Where the picture goes, .svg or .png.

    Raises:
        ConfigError: If it cannot go there.
    """
    require_output(path, "--out", "a chart")
    lines = [
        Contrast(
            name=row.score,
            value=1000 * row.difference.value,
            low=1000 * row.difference.low,
            high=1000 * row.difference.high,
            clear=row.verdict in {"better", "worse"},
        )
        for row in comparison.rows
    ]
    about = (
        f"AUGRC on {comparison.split} ({comparison.n:,} images, {comparison.errors:,} errors); "
        "grey: not told apart"
    )
    drawn = contrasts(lines, reference=REFERENCE, about=about)
    artifact.write_bytes(path, drawn.svg() if path.suffix == ".svg" else drawn.png())

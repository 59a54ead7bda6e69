"""The verb `calibrate`: a probability calibrator on val_select, an exit policy on val_calib."""

from pathlib import Path
from typing import Any

from selectkit.cache import Features
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError
from selectkit.location import local_path
from selectkit.pipeline.active import replace_policy
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.calibration_rows import CalibrationRows, evidence_of, scores_of
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.cascade import certify_cascade
from selectkit.pipeline.cautions import about_evidence, about_groups
from selectkit.pipeline.certify import POLICIES, Certified, Question, SetSettings, softmax
from selectkit.pipeline.choice import CASCADE, Tried, Watch, asked_of, choose_policy
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.extract import settled
from selectkit.pipeline.prepared import HEADS_ALONE, PreparedCascade
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import save_score
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.pipeline.tries import CascadeTry
from selectkit.policies import (
    SCORES,
    Costs,
    Guide,
    Outputs,
    OwnScore,
    SoftmaxPolicy,
    Target,
    Targets,
)
from selectkit.policies.scores import Gate

_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "scrc": ("variant", "sets", "exits"),
    "cascade or auto": (
        *("stages", "stage_costs", "view_seconds", "cost_unit", "human_cost", "last_decides"),
    ),
    "scrc or auto": ("xi",),
}


def calibrate(
    run: str | Path,
    *,
    config: CalibrateConfig | None = None,
    store: str | Path | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Calibration:
    """Fit the probability calibrator on val_select, then the policy on val_calib.

    The certificate takes its rows for independent draws. Images of one group (site, video,
    track) are not, so only one image of each group of val_calib is used (among the positives,
    when the only target is about them), the one whose id hashes lowest: the promise is then about a
    random image of a random group.

    Args:
        run: Run directory made by `fit`; of a cascade the first.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        watch: Called while `policy="auto"` tries policies: number done, number in all, the policy.
        **settings: Fields of `CalibrateConfig`, over `config`; `target` or `cost` must be among
            them.

    Returns:
        The answer. When the question is infeasible, the run keeps a feasible policy that it has;
        without one it defers everything from now on, and says why.

    Raises:
        ConfigError: If there is no target, a setting makes no sense or would have no effect.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        CalibrationError: If val_select does not identify the calibrator.
        DataError: If images lack a value in the column of `per_group`.
    """
    chosen = settled(CalibrateConfig, config, settings)
    _refuse_idle(chosen)
    stages = StageSettings.of(chosen)
    targets = Targets(()) if chosen.target is None else Targets.parse(chosen.target)
    costs = None if chosen.cost is None else Costs.parse(chosen.cost)
    opened = RunDirectory.open(local_path(run, "a run directory"))
    if chosen.policy == CASCADE:
        return _cascade(opened, chosen, targets, stages, store)
    question = Question(
        targets,
        chosen.delta,
        opened.head.classes,
        opened.head.positive,
        costs,
        SetSettings(chosen.xi, chosen.variant, chosen.sets, chosen.exits),
    )
    read = CalibrationRows.of(opened, chosen, store)
    scores, fitted_on, notes = scores_of(chosen, read)
    tried: tuple[Tried, ...] = ()
    kind: str = chosen.policy
    if kind == "auto":
        prepared = None if stages is None else read.staged(stages, chosen, store)
        tried = _tried(question, read, scores, prepared, stages, watch)
        kind = next(t.policy for t in tried if t.chosen)
        if prepared is not None and stages is not None:
            if kind == CASCADE:
                return _certified_cascade(chosen, targets, prepared, tried)
            more = [n for n in prepared.notes if stages.priced or n != HEADS_ALONE]
            notes = tuple(dict.fromkeys([*notes, *more]))
        question = asked_of(kind, question)
    found = POLICIES[kind](question, read.rows, scores[kind])
    result = _told(question, read, found, notes, tried)
    if not result.kept:
        _write(read, chosen, result, scores[kind], fitted_on)
    opened.log("calibrate", split=read.calib.fingerprint, **result.to_dict())
    return result


def certified(
    calib: Features,
    outputs: Outputs,
    *,
    target: Target,
    delta: float,
    score: str | OwnScore,
    positive: int | None,
) -> tuple[SoftmaxPolicy, int]:
    """Find the threshold for one target on val_calib.

    Args:
        calib: The labelled rows of val_calib.
        outputs: What head and calibrator say about them.
        target: What to promise.
        delta: Probability with which the promise may fail.
        score: Name of the confidence score, or the score when it has numbers of its own.
        positive: Index of the positive class.

    Returns:
        The policy (deferring everything when the target is infeasible), and the number of
        independent rows it was certified on.

    Raises:
        LeakageError: If the rows are not those of val_calib.
    """
    rows = evidence_of(calib, outputs, None, None)
    found = softmax(Question(Targets([target]), delta, calib.classes, positive), rows, score)
    assert isinstance(found.policy, SoftmaxPolicy)
    return found.policy, found.n


def _refuse_idle(config: CalibrateConfig) -> None:
    """Refuse settings that would have no effect."""
    fresh = CalibrateConfig()
    for policies, names in _ONLY_FOR.items():
        for name in names:
            given = getattr(config, name) != getattr(fresh, name)
            if given and config.policy not in policies.split(" or "):
                raise ConfigError(
                    f"--{name.replace('_', '-')} belongs to --policy {policies}, and the policy is "
                    f"{config.policy}. Leave it out, or name that policy."
                )
    staged = config.policy == CASCADE or config.stages is not None
    if staged and (config.cost or config.per_group):
        raise ConfigError(
            "--cost and --per-group belong to policies of one run, softmax and two_sided; what the "
            "stages of a cascade cost is said by --stage-costs or --view-seconds."
        )
    if staged and config.score not in {*SCORES, Gate.kind}:
        raise ConfigError(
            f"--score {config.score} cannot rank the images of a cascade's stages; known there: "
            f"{', '.join(SCORES)}, {Gate.kind}."
        )


def _tried(
    question: Question,
    read: CalibrationRows,
    scores: dict[str, str | OwnScore],
    prepared: PreparedCascade | None,
    settings: StageSettings | None,
    watch: Watch | None,
) -> tuple[Tried, ...]:
    """Try all policies on the independent rows of val_select; with stages on those they share."""
    alone = one_per_group(read.select)
    if prepared is None or settings is None:
        return choose_policy(question, read.rows, scores, read.guide.take(alone), watch=watch)
    alone = one_per_group(prepared.select)
    units = Guide(prepared.guides[0], prepared.select.y).take(alone)
    staged = CascadeTry.of(prepared, alone, priced=settings.priced)
    return choose_policy(question, read.rows, scores, units, cascade=staged, watch=watch)


def _cascade(
    run: RunDirectory,
    config: CalibrateConfig,
    targets: Targets,
    settings: StageSettings | None,
    store: str | Path | None,
) -> Calibration:
    if not targets:
        raise ConfigError("--policy cascade needs a --target, for instance --target error=0.05.")
    if settings is None:
        raise ConfigError(
            "--policy cascade needs --stages RUN,RUN: the runs that see what the first one leaves."
        )
    stages = settings.opened(run.path, store)
    select, raw = run.outputs(stages[0].store, "val_select")
    fit = fitted_calibrator(config.calibrator, raw, select)
    prepared = PreparedCascade.of(
        stages, settings, fit=fit, fitted_on=select.fingerprint, scores=config.score
    )
    return _certified_cascade(config, targets, prepared)


def _certified_cascade(
    config: CalibrateConfig,
    targets: Targets,
    prepared: PreparedCascade,
    tried: tuple[Tried, ...] = (),
) -> Calibration:
    answer = certify_cascade(prepared, targets, config.delta, tried)
    if not answer.kept:
        prepared.stages[0].run.update("calibrate", config)
    return answer


def _told(
    question: Question,
    read: CalibrationRows,
    found: Certified,
    notes: tuple[str, ...],
    tried: tuple[Tried, ...],
) -> Calibration:
    """Put the answer together, with what the user should know of it."""
    targets, delta, costs = question.targets, question.delta, question.costs
    alone = read.rows.outputs.take(read.rows.everyone)
    cautions = _warnings(targets, delta, read, found.n)
    return Calibration(
        run=read.run.path,
        targets=targets,
        delta=delta,
        fit=read.fit,
        policy=found.policy,
        kept=found.policy.infeasible is not None and read.run.has_feasible_policy(),
        warnings=(*read.fit.warnings, *notes, *cautions, *_dear(found, costs)),
        costs=costs,
        trade_off=found.table,
        tried=tried,
        coverage=float(found.policy.decide(alone).accepted.mean()),
    )


def _write(
    read: CalibrationRows,
    config: CalibrateConfig,
    result: Calibration,
    score: str | OwnScore,
    score_fitted_on: str,
) -> None:
    run, select = read.run, read.select.fingerprint
    calibrator = run.save_calibrator(result.calibrator, select)
    about = {"calibrator": calibrator, "split": read.calib.fingerprint, "head": run.head.hash}
    if result.policy.kind == Gate.kind:
        replace_policy(run.path, result.policy, {**about, "fitted_on": select})
    else:
        field, files = save_score(run, score, score_fitted_on, calibrator)
        replace_policy(run.path, result.policy, {**about, **field}, files)
    run.forget_measurements()
    run.update("calibrate", config)


def _warnings(
    targets: Targets, delta: float, read: CalibrationRows, n_used: int
) -> tuple[str, ...]:
    """Say when groups repeat, val_test cannot verify a promise, and when choices pile up."""
    if any(t.risk == "coverage" for t in targets):
        return ()
    groups = about_groups(len(read.calib.y), len(set(read.calib.groups)), n_used)
    return (*groups, *about_evidence(targets, delta, read.calib, read.run, read.cache))


def _dear(found: Certified, costs: Costs | None) -> tuple[str, ...]:
    """Say when keeping the targets costs more than deferring everything would."""
    spent = next((row.cost for row in found.table if row.chosen), None)
    if costs is None or spent is None or spent < costs.defer:
        return ()
    return (
        f"deferring every image would cost {costs.defer:g} each, which is no more than the policy "
        f"costs on val_calib ({spent:.4g})",
    )

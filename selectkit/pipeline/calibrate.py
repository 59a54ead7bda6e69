"""The verb `calibrate`: a probability calibrator on val_select, an exit policy on val_calib."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selectkit.cache import Features, FeatureStore
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError, LeakageError
from selectkit.location import local_path
from selectkit.pipeline.active import replace_policy
from selectkit.pipeline.calibration import Calibration
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.cascade import calibrate_cascade
from selectkit.pipeline.certify import POLICIES, Certified, Question, SetSettings, softmax
from selectkit.pipeline.choice import Tried, Watch, asked_of, choose_policy
from selectkit.pipeline.evidence import Evidence, Names, one_per_group
from selectkit.pipeline.extract import settled
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.scores import calibrated_gate, save_score, score_named
from selectkit.pipeline.split import evidence
from selectkit.pipeline.strata import Strata
from selectkit.policies import Costs, Guide, Outputs, OwnScore, SoftmaxPolicy, Target, Targets
from selectkit.policies.scores import Gate
from selectkit.risk import labels_needed

_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "scrc": ("variant", "sets", "exits"),
    "cascade": ("stages", "stage_costs", "view_seconds", "cost_unit", "human_cost", "last_decides"),
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
    targets = Targets(()) if chosen.target is None else Targets.parse(chosen.target)
    costs = None if chosen.cost is None else Costs.parse(chosen.cost)
    opened = RunDirectory.open(local_path(run, "a run directory"))
    if chosen.policy == "cascade":
        return _cascade(opened, chosen, targets, store)
    question = Question(
        targets,
        chosen.delta,
        opened.head.classes,
        opened.head.positive,
        costs,
        SetSettings(chosen.xi, chosen.variant, chosen.sets, chosen.exits),
    )
    cache = opened.store(store)
    strata = None if chosen.per_group is None else Strata.of(cache, chosen.per_group)
    select, raw = opened.outputs(cache, "val_select")
    fit = fitted_calibrator(chosen.calibrator, raw, select)
    guide_outputs = replace(raw, probabilities=fit.calibrator.probabilities(raw.logits))
    calib, outputs = opened.outputs(cache, "val_calib", fit.calibrator)
    guide = Guide(guide_outputs, select.y, None if strata is None else strata.among(select))
    rows = _evidence(calib, outputs, guide, None if strata is None else strata.among(calib))
    scores, fitted_on, about_scores = _scores(chosen, opened, cache, select, guide_outputs)
    tried: tuple[Tried, ...] = ()
    kind: str = chosen.policy
    if kind == "auto":
        units = guide.take(one_per_group(select))
        tried = choose_policy(question, rows, scores, units, watch=watch)
        kind = next(t.policy for t in tried if t.chosen)
        question = asked_of(kind, question)
    found = POLICIES[kind](question, rows, scores[kind])
    kept = found.policy.infeasible is not None and opened.has_feasible_policy()
    result = Calibration(
        run=opened.path,
        targets=targets,
        delta=chosen.delta,
        fit=fit,
        policy=found.policy,
        kept=kept,
        warnings=(
            *fit.warnings,
            *about_scores,
            *_warnings(targets, chosen, calib, found.n, opened, cache),
            *_dear(found, costs),
        ),
        costs=costs,
        trade_off=found.table,
        tried=tried,
        coverage=float(found.policy.decide(outputs.take(rows.everyone)).accepted.mean()),
    )
    if not kept:
        _write(opened, chosen, result, select, calib, scores[kind], fitted_on)
    opened.log("calibrate", split=calib.fingerprint, **result.to_dict())
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
    rows = _evidence(calib, outputs, None, None)
    found = softmax(Question(Targets([target]), delta, calib.classes, positive), rows, score)
    assert isinstance(found.policy, SoftmaxPolicy)
    return found.policy, found.n


def _evidence(
    calib: Features, outputs: Outputs, guide: Guide | None, strata: Names | None
) -> Evidence:
    if calib.split != "val_calib":
        raise LeakageError(
            f"a threshold is certified on val_calib only; got the rows of {calib.split}."
        )
    return Evidence(outputs, calib.y, calib.ids, calib.groups, guide, calib.fingerprint, strata)


def _refuse_idle(config: CalibrateConfig) -> None:
    """Refuse settings that would have no effect."""
    fresh = CalibrateConfig()
    for policy, names in _ONLY_FOR.items():
        for name in names:
            if config.policy != policy and getattr(config, name) != getattr(fresh, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} belongs to --policy {policy}, and the policy is "
                    f"{config.policy}. Leave it out, or name that policy."
                )
    if config.policy not in {"scrc", "auto"} and config.xi != fresh.xi:
        raise ConfigError(f"--xi belongs to --policy scrc, and the policy is {config.policy}.")
    if config.policy == "cascade" and (config.cost or config.per_group):
        raise ConfigError(
            "--cost and --per-group belong to the policies softmax and two_sided; what the stages "
            "of a cascade cost is said by --stage-costs or --view-seconds."
        )


def _scores(
    config: CalibrateConfig,
    run: RunDirectory,
    store: FeatureStore,
    select: Features,
    outputs: Outputs,
) -> tuple[dict[str, str | OwnScore], str, tuple[str, ...]]:
    """The score of every policy, what the chosen score was fitted on, and what to know."""
    if config.policy == "gate":
        if config.score not in {CalibrateConfig().score, Gate.kind}:
            raise ConfigError("--policy gate accepts by the trained gate; leave --score out.")
        gate, notes = calibrated_gate(select, outputs)
        return {"gate": gate}, select.fingerprint, notes
    score, fitted_on, notes = score_named(config.score, run, store, select, outputs)
    scores: dict[str, str | OwnScore] = {name: score for name in POLICIES if name != "gate"}
    if config.policy == "auto" and outputs.gate is not None:
        scores["gate"], more = calibrated_gate(select, outputs)
        notes = (*notes, *(note for note in more if note not in notes))
    return scores, fitted_on, notes


def _cascade(
    run: RunDirectory, config: CalibrateConfig, targets: Targets, store: str | Path | None
) -> Calibration:
    if not targets:
        raise ConfigError("--policy cascade needs a --target, for instance --target error=0.05.")
    if config.stages is None:
        raise ConfigError(
            "--policy cascade needs --stages RUN,RUN: the runs that see what the first one leaves."
        )
    answer = calibrate_cascade(
        [run.path, *(part.strip() for part in config.stages.split(","))],
        target=str(targets),
        delta=config.delta,
        calibrator=config.calibrator,
        scores=config.score,
        view_seconds=_named_numbers(config.view_seconds),
        costs=_numbers(config.stage_costs),
        unit=config.cost_unit,
        human=config.human_cost,
        last_decides=config.last_decides,
        store=store,
    )
    if not answer.kept:
        run.update("calibrate", config)
    return answer


def _numbers(text: str | None) -> Sequence[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--stage-costs {text}: give one number for each stage, for instance 0.002,0.03."
        ) from None


def _named_numbers(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        pairs = [part.partition("=") for part in text.split(",")]
        return {name.strip(): float(number) for name, _, number in pairs}
    except ValueError:
        raise ConfigError(
            f"--view-seconds {text}: give VIEW=SECONDS,VIEW=SECONDS, for instance "
            "small=0.002,large=0.03."
        ) from None


def _write(
    run: RunDirectory,
    config: CalibrateConfig,
    result: Calibration,
    select: Features,
    calib: Features,
    score: str | OwnScore,
    score_fitted_on: str,
) -> None:
    calibrator = run.save_calibrator(result.calibrator, select.fingerprint)
    about = {"calibrator": calibrator, "split": calib.fingerprint, "head": run.head.hash}
    if result.policy.kind == Gate.kind:
        replace_policy(run.path, result.policy, {**about, "fitted_on": select.fingerprint})
    else:
        field, files = save_score(run, score, score_fitted_on, calibrator)
        replace_policy(run.path, result.policy, {**about, **field}, files)
    run.forget_measurements()
    run.update("calibrate", config)


def _warnings(
    targets: Targets,
    config: CalibrateConfig,
    calib: Features,
    n_used: int,
    run: RunDirectory,
    store: FeatureStore,
) -> tuple[str, ...]:
    """Say when val_test cannot verify a promise, when groups repeat, and when choices pile up."""
    if any(t.risk == "coverage" for t in targets):
        return ()
    lines = []
    groups = len(set(calib.groups))
    if groups < len(calib.y):
        lines.append(
            f"val_calib has {len(calib.y):,} images of {groups:,} groups; images of one group are "
            f"no independent evidence, so one of each was used ({n_used:,} for this target): the "
            "promise is about a random image of a random group"
        )
    for target in targets:
        needs = labels_needed(target.alpha, config.delta)
        who, n = evidence(store, "val_test", target.risk, run.head.document["positive"])
        if n < needs:
            lines.append(
                f"val_test has {n:,} {who}; to verify {target} on it at confidence "
                f"{1 - config.delta:.0%} takes at least {needs:,}: what it shows is only indicative"
            )
    before = sum(e["event"] == "calibrate" and e["split"] == calib.fingerprint
                 and e["feasible"] for e in run.events())  # fmt: skip
    if before:
        lines.append(
            f"{before} earlier policies of this run were certified on the same images; each "
            "promise holds on its own, but choosing the best of several needs a smaller delta "
            f"(--delta {config.delta / (before + 1):.3g} for {before + 1})"
        )
    if any(event["event"] == "bench policies" for event in run.events()):
        lines.append(
            "`bench policies` has read the labels of val_calib: nothing is promised about a policy "
            "that was chosen by its table; --policy auto chooses on val_select"
        )
    return tuple(lines)


def _dear(found: Certified, costs: Costs | None) -> tuple[str, ...]:
    """Say when keeping the targets costs more than deferring everything would."""
    spent = next((row.cost for row in found.table if row.chosen), None)
    if costs is None or spent is None or spent < costs.defer:
        return ()
    return (
        f"deferring every image would cost {costs.defer:g} each, which is no more than the policy "
        f"costs on val_calib ({spent:.4g})",
    )

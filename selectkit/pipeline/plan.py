"""The verb `plan`: how many labels for which promise, and what to expect of them."""

from pathlib import Path
from typing import Any

import numpy as np

from selectkit import artifact
from selectkit.cache import SplitScheme
from selectkit.config import PlanConfig
from selectkit.errors import ConfigError
from selectkit.location import local_path
from selectkit.pipeline.extract import settled
from selectkit.pipeline.output_file import require_output
from selectkit.pipeline.plan_answer import EVIDENCE, SURE, Plan
from selectkit.pipeline.plan_budget import budgets, power_curves, round_numbers
from selectkit.pipeline.plan_run import Watch, about_val_select, forecasts, read_sources
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.split import fractions_of
from selectkit.policies import POSITIVE_RISKS, Target
from selectkit.policies.counted import WHOLE
from selectkit.risk import labels_needed
from selectkit.risk.plan import images_needed

MOST = 1_000_000


def plan(
    run: str | Path | None = None,
    *,
    config: PlanConfig | None = None,
    store: str | Path | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Plan:
    """Say how many labels a promise needs; with a run, what coverage to expect of them.

    With a run, only its val_select is read: rows that certify or evaluate must not say what is to
    be promised. Nothing in the run is changed but its log.

    Args:
        run: Run directory made by `fit`, or None.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        watch: Called after every simulated certification.
        **settings: Fields of `PlanConfig`, over `config`; `target` must be among them.

    Returns:
        The plan.

    Raises:
        ConfigError: If a setting is missing, makes no sense, or would be ignored.
        ArtifactError: If the run is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        DataError: If val_select has nothing that the target is about.
    """
    chosen = settled(PlanConfig, config, settings)
    target = _target(chosen.target)
    numbers = _numbers(chosen.labels)
    if run is None:
        if store is not None:
            raise ConfigError("--store belongs to a run: selectkit plan RUN --store STORE.")
        return _from_settings(chosen, target, numbers)
    for name in ("prevalence", "coverage", "fractions", "true_risk"):
        if getattr(chosen, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} is for planning without a run; {run} knows its own."
            )
    return _from_run(RunDirectory.open(local_path(run, "a run directory")), store, chosen, target,
                     numbers, watch)  # fmt: skip


def draw(answer: Plan, path: Path) -> None:
    """Draw a plan as .svg or .png.

    Args:
        answer: The plan.
        path: Where the picture goes.

    Raises:
        ConfigError: If it cannot go there.
    """
    require_output(path, "--plot", "a plot")
    drawing = answer.drawing()
    artifact.write_bytes(path, drawing.svg() if path.suffix == ".svg" else drawing.png())


def _from_settings(config: PlanConfig, target: Target, numbers: tuple[int, ...]) -> Plan:
    share = _share(config, target)
    fractions = SplitScheme(fractions=fractions_of(config.fractions) or SplitScheme().fractions)
    calib, test = _parts(fractions.fractions)
    rates = (config.true_risk,) if config.true_risk is not None else tuple(
        target.alpha * part for part in (0.25, 0.5, 0.75)
    )  # fmt: skip
    return Plan(
        target=target,
        delta=config.delta,
        share=share,
        fractions=(calib, test),
        budget=budgets(target.alpha, config.delta, share, calib, test, SURE),
        curves=power_curves(target.alpha, config.delta, rates, numbers, share, calib),
        run=None,
        judged_by="",
        forecasts=(),
        warnings=(),
    )


def _from_run(
    run: RunDirectory,
    store: str | Path | None,
    config: PlanConfig,
    target: Target,
    numbers: tuple[int, ...],
    watch: Watch | None,
) -> Plan:
    cache = run.store(store)
    sources, by = read_sources(run, cache, target)
    share = float(np.mean(sources.evidence))
    calib, test = _parts(cache.splits.fractions)
    least = images_needed(labels_needed(target.alpha, config.delta), share, 0.5)
    tried = numbers or round_numbers(min(least, MOST) / 2, min(50 * least, MOST))
    found = forecasts(sources, tried, target=target, delta=config.delta, draws=config.draws,
                      seed=config.seed, watch=watch)  # fmt: skip
    result = Plan(
        target=target,
        delta=config.delta,
        share=share,
        fractions=(calib, test),
        budget=budgets(target.alpha, config.delta, share, calib, test, SURE),
        curves=(),
        run=run.path,
        judged_by=by,
        forecasts=found,
        warnings=about_val_select(
            sources, EVIDENCE[target.risk].removeprefix("decided "), target, config.delta, tried[-1]
        ),
    )
    run.log("plan", **result.to_dict())
    return result


def _target(text: str | None) -> Target:
    if text is None:
        raise ConfigError("no target: say what is to be promised, for instance --target fnr=0.02.")
    target = Target.parse(text)
    if target.risk not in EVIDENCE:
        raise ConfigError(
            f"--target {target}: labels are planned for {', '.join(EVIDENCE)}; {target.risk} "
            "is no promise about errors."
        )
    return target


def _share(config: PlanConfig, target: Target) -> float | None:
    """Probability that an image is evidence."""
    if target.risk not in POSITIVE_RISKS and config.prevalence is not None:
        raise ConfigError(f"--prevalence has no say in {target}, which is about all images.")
    if target.risk in WHOLE and config.coverage is not None:
        raise ConfigError(f"--coverage has no say in {target}, which counts deferred images, too.")
    decided = config.coverage or 1.0
    if target.risk not in POSITIVE_RISKS:
        return decided
    if config.prevalence is None:
        if config.coverage is not None or config.fractions is not None:
            raise ConfigError("--coverage and --fractions need --prevalence, the share of "
                              "positives, to count images.")  # fmt: skip
        return None
    about_negatives = target.risk in {"fpr", "false_alarm"}
    return decided * (1 - config.prevalence if about_negatives else config.prevalence)


def _parts(fractions: tuple[float, ...]) -> tuple[float, float]:
    calib, test = fractions[2:]
    if not calib:
        raise ConfigError("val_calib has no share of the images: nothing can be certified.")
    return calib, test


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(
            f"labels = {text!r}: give whole numbers of images, for instance 500,1000,2000."
        ) from None
    if not (numbers[0] >= 1 and numbers[-1] <= MOST and len(numbers) <= 20):
        raise ConfigError(f"labels = {text!r}: give at most 20 numbers from 1 to {MOST:,}.")
    return tuple(numbers)

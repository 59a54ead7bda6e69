"""What a run's own scores say about a certificate to come: from val_select, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from selectkit.cache import Features, FeatureStore
from selectkit.config import CalibrateConfig
from selectkit.errors import ConfigError, DataError, LeakageError
from selectkit.pipeline.calibrators import fitted_calibrator
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.run import RunDirectory
from selectkit.policies import POSITIVE_RISKS, SCORES, CascadePolicy, Target
from selectkit.policies.counted import WHOLE, counted
from selectkit.risk import labels_needed
from selectkit.risk.plan_forecast import Forecast, Sources, forecast

Labels = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]
Watch = Callable[[int, int, int], None]
"""Called with draws done, draws in all, and the number of images that is tried."""


def sources_of(
    select: Features, prediction: Labels, score: Float64s, *, risk: str, positive: int | None
) -> Sources:
    """Return one image of each group of val_select, as `calibrate` takes them from val_calib.

    Args:
        select: The labelled rows of val_select.
        prediction: Shape (N,), class codes.
        score: Shape (N,), the confidence.
        risk: The risk that is to be promised.
        positive: Code of the positive class, None when the risk needs none.

    Returns:
        The groups, in the order of their first image.

    Raises:
        LeakageError: If the rows are not those of val_select.
        DataError: If the risk is about none of them.
    """
    if select.split != "val_select":
        raise LeakageError(
            f"a plan looks at val_select only; got the rows of {select.split}, which are kept for "
            "certifying or evaluating what is planned."
        )
    about, wrong = counted(risk, prediction, select.y, positive)
    alone = one_per_group(select)
    place = {select.groups[row]: g for g, row in enumerate(alone.tolist())}
    chosen = one_per_group(select, among=about)
    if not len(chosen):
        which = "negative" if risk in {"fpr", "false_alarm"} else "positive"
        raise DataError(f"val_select has no {which} image: its scores cannot say what to expect.")
    at = np.array([place[select.groups[row]] for row in chosen.tolist()])
    evidence, loss = np.zeros(len(alone), dtype=np.bool_), np.zeros(len(alone), dtype=np.bool_)
    confidence = np.zeros(len(alone))
    evidence[at], loss[at], confidence[at] = True, wrong[chosen], score[chosen]
    return Sources(score[alone], evidence, confidence, loss)


def read_sources(run: RunDirectory, store: FeatureStore, target: Target) -> tuple[Sources, str]:
    """Judge val_select by the run's policy; before `calibrate`, by the calibrated msp.

    Args:
        run: The run.
        store: Its store.
        target: What is to be promised.

    Returns:
        The groups of val_select, and what decides in words.

    Raises:
        ConfigError: If the target is about positives and the run names no positive class.
        ArtifactError: If the run is damaged.
        DataError: If val_select has nothing that the target is about.
    """
    positive = run.head.positive
    if target.risk in POSITIVE_RISKS and positive is None:
        raise ConfigError(
            f"--target {target} is about positives, and {run.path} names no positive class: "
            f"fit again with --positive, one of {', '.join(run.head.classes)}."
        )
    select, raw = run.outputs(store, "val_select")
    policy, document = run.policy() if (run.path / "calibrator.json").is_file() else (None, {})
    if policy is not None and not isinstance(policy, CascadePolicy):
        outputs = replace(raw, probabilities=run.calibrator()[0].probabilities(raw.logits))
        decision = policy.decide(outputs)
        prediction, score = decision.prediction, decision.score
        by = f"the score of the run's policy, {document.get('score', policy.kind)}"
    else:
        fit = fitted_calibrator(CalibrateConfig().calibrator, raw, select)
        outputs = replace(raw, probabilities=fit.calibrator.probabilities(raw.logits))
        prediction, score = outputs.prediction, SCORES["msp"](outputs)
        by = (
            "msp, because the run has no policy yet"
            if policy is None
            else "msp, because a cascade ranks by several scores"
        )
    return sources_of(select, prediction, score, risk=target.risk, positive=positive), by


def forecasts(
    sources: Sources,
    numbers: Sequence[int],
    *,
    target: Target,
    delta: float,
    draws: int,
    seed: int,
    watch: Watch | None,
) -> tuple[Forecast, ...]:
    """Simulate certification for several numbers of images.

    Args:
        sources: The groups of val_select.
        numbers: Independent images to try.
        target: What is to be promised.
        delta: Probability with which the promise may fail.
        draws: Simulated certifications for each number.
        seed: Seed; each number has draws of its own.
        watch: Called after every draw.

    Returns:
        What to expect of each number.
    """
    done = 0
    found = []
    for n, rng in zip(numbers, np.random.default_rng(seed).spawn(len(numbers)), strict=True):

        def one_more(n: int = n) -> None:
            nonlocal done
            done += 1
            if watch is not None:
                watch(done, draws * len(numbers), n)

        found.append(
            forecast(
                sources,
                n,
                alpha=target.alpha,
                delta=delta,
                denominator="all" if target.risk in WHOLE else "accepted",
                draws=draws,
                rng=rng,
                on_draw=one_more,
            )
        )
    return tuple(found)


def about_val_select(
    sources: Sources, evidence: str, target: Target, delta: float, largest: int
) -> tuple[str, ...]:
    """Say how far what val_select shows can be trusted.

    Args:
        sources: Its groups.
        evidence: What the target's evidence is called.
        target: What is to be promised.
        delta: Probability with which the promise may fail.
        largest: Largest number of images that was tried.

    Returns:
        Lines for people.
    """
    lines = [
        "an estimate, and an optimistic one: val_select has chosen the head and fitted the "
        "calibrator, so its errors are too few. Only val_calib certifies"
    ]
    n, needs = int(sources.evidence.sum()), labels_needed(target.alpha, delta)
    if n < needs:
        lines.append(
            f"val_select has {n:,} groups with {evidence} and {needs:,} are needed to tell a rate "
            f"of {100 * target.alpha:g} % from none: whether it is reached is little more than a "
            "guess"
        )
    if largest > 5 * len(sources):
        lines.append(
            f"val_select has {len(sources):,} independent images: what is said about more than "
            f"{5 * len(sources):,} repeats its own chance"
        )
    return tuple(lines)

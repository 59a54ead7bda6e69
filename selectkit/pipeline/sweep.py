"""`fit --sweep`: many configurations, one table, one winner, and what the winner is worth."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit import artifact, heads, metrics
from selectkit.arrays import softmax
from selectkit.cache import FeatureStore
from selectkit.config import FitConfig
from selectkit.errors import DataError
from selectkit.location import local_path
from selectkit.pipeline.criteria import criterion
from selectkit.pipeline.extract import settled
from selectkit.pipeline.fit import Watch, finished, require_other_run, watched
from selectkit.pipeline.folds import require_foldable
from selectkit.pipeline.inputs import Inputs
from selectkit.pipeline.log import log_event
from selectkit.pipeline.recipes import idle, without_unused
from selectkit.pipeline.reestimate import Reestimate, reestimate, statistic
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.sweep_file import Sweep, read_sweep
from selectkit.pipeline.training import criterion_for, fit_heads
from selectkit.pipeline.trials import FIGURES, SweepSummary, Trial, signed
from selectkit.pipeline.unfinished import Unfinished
from selectkit.report.sweep import Axis, Picture, page

Logits: TypeAlias = npt.NDArray[np.float64] | DataError
"""What a head says about val_select, or why there is none."""


def sweep(
    store: str | Path,
    *,
    out: str | Path,
    file: str | Path,
    config: FitConfig | None = None,
    watch: Watch | None = None,
    on_head: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> SweepSummary:
    """Fit every configuration of a sweep, keep the best on val_select as the run's head.

    Args:
        store: Feature store.
        out: Run directory to make; an earlier run there is replaced.
        file: What is tried, as `selectkit.pipeline.sweep_file` says.
        config: Settings of all configurations; the defaults when None.
        watch: Called after every epoch of a trained head.
        on_head: Called with (finished heads, heads in all).
        **settings: Fields of `FitConfig`, over `config`.

    Returns:
        What was found.

    Raises:
        ConfigError: If a setting or the file is unusable.
        DataError: If the labels cannot be fitted on, no configuration gave a head, or views hold
            different rows.
        CacheError: If the store is missing, damaged, or lacks a view.
        MissingExtraError: If TensorBoard is asked for and not installed.
    """
    base = settled(FitConfig, config, settings)
    plan = read_sweep(Path(file), base)
    place = local_path(out, "a run directory")
    RunDirectory.require_usable(place)
    for one in plan.configs:
        require_other_run(place, one)
    start = perf_counter()
    inputs = _inputs(FeatureStore.open(store), plan)
    with Unfinished(place) as unfinished, watched(place, base, watch) as told:
        fitted = _fit_all(plan, inputs, unfinished, told, on_head)
        logits = [
            h if isinstance(h, DataError) else _logits(inputs[_source(c)], h)
            for c, h in zip(plan.configs, fitted, strict=True)
        ]
        judged = [_judged(i, plan, inputs, fitted[i], z) for i, z in enumerate(logits)]
        best = _best(judged, logits)
        estimate, trials = _estimated(plan, inputs, logits, judged)
        chosen = _as_one(plan.configs[best])
        rows = inputs[_source(chosen)]
        run = finished(place, chosen, rows, fitted[best], unfinished, told, start)
        summary = SweepSummary(
            run, base.select_by, plan.varied, trials, best + 1, estimate, perf_counter() - start
        )
        _write(summary)
        log_event(place, "sweep", **summary.to_dict())
        return summary


def _inputs(store: FeatureStore, plan: Sweep) -> dict[tuple[str, str], Inputs]:
    """Rows of every view and feature that is tried; the same rows of val_select for all."""
    found: dict[tuple[str, str], Inputs] = {}
    for config in plan.configs:
        if _source(config) not in found:
            found[_source(config)] = Inputs.of(store, config)
    prints = {(i.train.fingerprint, i.select.fingerprint) for i in found.values()}
    if len(prints) > 1:
        raise DataError(
            "the views of this sweep hold different rows, so their figures cannot be compared. "
            "Complete them with `selectkit extract`, or sweep one at a time."
        )
    first = plan.configs[0]
    for inputs in found.values():
        criterion_for(inputs, first.select_by)
        if first.folds is not None:
            require_foldable(inputs, first.folds)
    return found


def _source(config: FitConfig) -> tuple[str, str]:
    return config.view, config.feature


def _fit_all(
    plan: Sweep,
    inputs: dict[tuple[str, str], Inputs],
    unfinished: Unfinished,
    told: Watch,
    on_head: Callable[[int, int], None] | None,
) -> list[heads.Head | DataError]:
    found: dict[int, heads.Head | DataError] = {}
    done = 0

    def one_more(_: int) -> None:
        nonlocal done
        done += 1
        if on_head is not None:
            on_head(done, len(plan.configs))

    for source, rows in inputs.items():
        members = [i for i, config in enumerate(plan.configs) if _source(config) == source]
        # Every finished head is kept: a sweep that is interrupted goes on after it.
        fitted = fit_heads(
            rows,
            [replace(plan.configs[i], folds=None) for i in members],
            unfinished,
            _numbered(told, members),
            one_more,
        )
        found |= dict(zip(members, fitted, strict=True))
    return [found[i] for i in range(len(plan.configs))]


def _numbered(told: Watch, members: Sequence[int]) -> Callable[[int, heads.Epoch], None]:
    return lambda j, epoch: told(f"sweep-{members[j] + 1}", epoch)


def _as_one(config: FitConfig) -> FitConfig:
    """The settings with which `fit` alone gives the head of this configuration."""
    one = without_unused(config)
    return replace(one, select_by=FitConfig().select_by) if "select_by" in idle(one) else one


def _logits(inputs: Inputs, head: heads.Head) -> npt.NDArray[np.float64]:
    return head.logits(np.asarray(inputs.features_of(inputs.select)[:], dtype=np.float32))


def _judged(
    i: int,
    plan: Sweep,
    inputs: dict[tuple[str, str], Inputs],
    head: heads.Head | DataError,
    z: Logits,
) -> Trial:
    config = plan.configs[i]
    settings = plan.settings(i)
    if isinstance(z, DataError):
        return Trial(i + 1, settings, error=str(z))
    rows = inputs[_source(config)]
    value = criterion(config.select_by, rows.positive)(z, rows.select.y)
    wrong = z.argmax(axis=1) != rows.select.y
    history = getattr(head, "history", None)
    return Trial(
        i + 1,
        settings,
        criterion=value if isfinite(value) else None,
        nll=heads.negative_log_likelihood(z, rows.select.y),
        augrc=float(metrics.augrc(softmax(z).max(axis=1), wrong)),
        accuracy=float(1 - wrong.mean()),
        epochs=None if history is None else len(history),
    )


def _best(trials: Sequence[Trial], logits: Sequence[Logits]) -> int:
    values = [(np.inf if t.criterion is None else t.criterion, t.nll or 0.0) for t in trials]
    best = min(range(len(values)), key=values.__getitem__)  # of equal ones the likeliest
    if not isfinite(values[best][0]):
        first = next((str(z) for z in logits if isinstance(z, DataError)), "no criterion is finite")
        raise DataError(f"none of {len(trials)} configurations gave a head; the first: {first}")
    return best


def _estimated(
    plan: Sweep,
    inputs: dict[tuple[str, str], Inputs],
    logits: Sequence[Logits],
    trials: Sequence[Trial],
) -> tuple[Reestimate | None, tuple[Trial, ...]]:
    statistics, usable = [], []
    for i in sorted(range(len(trials)), key=lambda i: trials[i].nll or 0.0):  # the first wins ties
        z = logits[i]
        if not isinstance(z, DataError) and trials[i].criterion is not None:
            rows = inputs[_source(plan.configs[i])]
            by = plan.configs[i].select_by
            statistics.append(statistic(by, z, rows.select.y, rows.positive))
            usable.append(i)
    if len(usable) < 2:
        return None, tuple(trials)
    groups = next(iter(inputs.values())).select.groups
    found = reestimate(statistics, groups, rng=np.random.default_rng(0))
    won = np.zeros(len(trials))
    won[usable] = found.won
    told = tuple(replace(trial, won=float(won[i])) for i, trial in enumerate(trials))
    return replace(found, won=won), told


def _write(summary: SweepSummary) -> None:
    run = summary.fitted.run
    artifact.save(run / "sweep.json", "sweep", summary.to_dict())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*summary.columns, "error"])
    for trial in summary.sorted_by("criterion"):
        figures = [getattr(trial, name) for name in FIGURES]
        settings = [trial.settings.get(name) for name in summary.varied]
        writer.writerow([trial.number, *settings, *figures, trial.error])
    artifact.write_bytes(run / "sweep.csv", text.getvalue().encode())
    artifact.write_bytes(run / "sweep.html", page(_picture(summary)).encode())


def _picture(summary: SweepSummary) -> Picture:
    trials = [t for t in summary.trials if t.criterion is not None]
    axes = [Axis(name, [_label(t, name) for t in trials]) for name in summary.varied]
    sign = signed(summary.select_by)
    figures = [(summary.select_by, [sign * (t.criterion or 0) for t in trials])]
    figures += [(n, [getattr(t, n) for t in trials]) for n in ("nll", "augrc", "accuracy")
                if n != summary.select_by]  # fmt: skip
    return Picture(
        title=f"Sweep of {summary.fitted.run.name}",
        axes=(*axes, *(Axis(name, values) for name, values in figures)),
        order=tuple(float(t.criterion or 0) for t in trials),
        numbers=tuple(t.number for t in trials),
        winner=next(i for i, t in enumerate(trials) if t.number == summary.winner),
        x=("NLL on val_select, nats", tuple(float(t.nll or 0) for t in trials)),
        y=("AUGRC on val_select", tuple(float(t.augrc or 0) for t in trials)),
        notes=(*summary.lines()[:1], *summary.warnings),
        table=summary.table(),
    )


def _label(trial: Trial, name: str) -> Any:
    """A value as the picture shows it: "none" for the absence of a setting, None if it is idle."""
    if name not in trial.settings:
        return None
    value = trial.settings[name]
    return "none" if value is None else value

"""The verb `bench policies`: exit policies beside each other on repeated random re-splits."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from selectkit import artifact
from selectkit.config import BenchConfig
from selectkit.errors import ConfigError, DataError
from selectkit.pipeline.bench_answer import PolicyBench, Standing
from selectkit.pipeline.bench_contenders import Contender, contenders
from selectkit.pipeline.bench_rows import Population
from selectkit.pipeline.bench_sources import read_population
from selectkit.pipeline.bench_splits import Watch, resplit
from selectkit.pipeline.extract import settled
from selectkit.pipeline.stage_settings import StageSettings
from selectkit.policies import Costs, Targets
from selectkit.stats.binomial import check_level
from selectkit.threads import usable_cores

FILES = ("policies.json", "policies.md", "policies.svg", "policies.png")


def bench_policies(
    source: str | Path,
    *,
    config: BenchConfig | None = None,
    store: str | Path | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> PolicyBench:
    """Compare all policies that can answer, on random re-splits of held-out rows.

    The rows are those of val_calib and val_test together, one image of each group: labelled rows
    that head and calibrator have not seen. Val_select guides the policies that want a guide. With
    stages these are the images that all of their runs have, and a cascade takes part. Each
    re-split calibrates every policy on a random part and looks what it does with the rest, and with
    all rows. Nothing in the run is changed but its log, and nothing at all in a store.

    Args:
        source: Run directory made by `fit`; a feature store with the logits of a head, for which
            the usual calibrator is fitted; or a file *.npz with labels, and logits or
            probabilities.
        config: Settings; the defaults when None.
        store: Where the feature store of a run is now, if it was moved.
        watch: Called after every re-split.
        **settings: Fields of `BenchConfig`, over `config`; a target or a cost must be among them.

    Returns:
        What came of it.

    Raises:
        ConfigError: If a setting is missing or makes no sense.
        DataError: If the file, or the logits in the store, cannot be used, or there are too few
            rows.
        ArtifactError: If the run is missing or damaged.
        CacheError: If the store is missing or damaged.
        LeakageError: If the store is no longer split as it was when the head was fitted.
    """
    chosen = settled(BenchConfig, config, settings)
    StageSettings.of(chosen)  # refuses what would have no effect
    targets, costs = questions(chosen)
    rows, run = read_population(source, chosen, store)
    answer = compare_policies(
        rows, targets, costs=costs, delta=chosen.delta, xi=chosen.xi, share=chosen.share,
        splits=chosen.splits, seed=chosen.seed, workers=chosen.workers, watch=watch,
    )  # fmt: skip
    if run is not None:
        run.log("bench policies", **answer.to_dict())
    return answer


def questions(config: BenchConfig) -> tuple[tuple[Targets, ...], Costs | None]:
    """Read targets and costs.

    Args:
        config: The settings.

    Returns:
        What to keep, one question for each; a single empty one when only costs are given.

    Raises:
        ConfigError: If there is none, one cannot be read, or one promises nothing.
    """
    costs = None if config.cost is None else Costs.parse(config.cost)
    if not config.target and costs is None:
        raise ConfigError(
            "no target: say what to promise, for instance --target error=0.05 --target "
            "fnr=0.02,fpr=0.05, or what errors cost."
        )
    if costs is not None and config.stages is not None:
        raise ConfigError(
            "--cost is for policies of one run; a cascade keeps targets, and what its stages cost "
            "is said by --stage-costs or --view-seconds. Leave --cost or --stages out."
        )
    asked = tuple(Targets.parse(text) for text in config.target) or (Targets(),)
    for targets in asked:
        if any(t.risk == "coverage" for t in targets):
            raise ConfigError(
                f"--target {targets} promises nothing, so nothing can be broken. Name a risk, such "
                "as error=0.05."
            )
    return asked, costs


def compare_policies(
    rows: Population,
    targets: Sequence[Targets],
    *,
    costs: Costs | None = None,
    delta: float = 0.1,
    xi: float = 0.8,
    share: float = 0.5,
    splits: int = 200,
    seed: int = 0,
    workers: int | None = None,
    only: Collection[str] | None = None,
    extra: Sequence[Contender] = (),
    watch: Watch | None = None,
) -> PolicyBench:
    """Compare policies on rows in memory.

    Args:
        rows: The population.
        targets: What to keep, one question for each.
        costs: What decisions cost: rules are then chosen by it, and it is reported. None: where
            the stages of the rows have a price, it is reported.
        delta: Probability with which a promise may fail.
        xi: Share of rows that the score of selective sets is to let pass.
        share: Share of the rows that each re-split calibrates on.
        splits: Re-splits.
        seed: Their seed; the answer depends on it and not on the number of workers.
        workers: Threads; None: the cores that this process may use.
        only: Names of the contenders to compare; None: everybody who can answer.
        extra: More contenders, for every question.
        watch: Called after every re-split.

    Returns:
        What came of it.

    Raises:
        ConfigError: If a question makes no sense.
        DataError: If there are fewer than two rows in a part.
        RiskError: If delta is outside (0, 1).
    """
    check_level(delta, "delta")
    n_calib = round(share * len(rows))
    if not 2 <= n_calib <= len(rows) - 2:
        raise DataError(
            f"{len(rows)} independent rows cannot be split into {n_calib} to calibrate and "
            f"{len(rows) - n_calib} to test; each part needs at least 2."
        )
    everybody = [contenders(rows, t, costs, delta, xi) for t in targets]
    asked = [(*(c for c in field if only is None or c.name in only), *extra) for field in everybody]
    found = resplit(
        rows, [(c, costs) for c in asked], n_calib=n_calib, splits=splits, seed=seed,
        workers=workers or usable_cores(), watch=watch,
    )  # fmt: skip
    standings = tuple(
        Standing.of(_name(t, costs), contender.name, contender.kind, contender.own, trials)
        for t, field, by_contender in zip(targets, asked, found, strict=True)
        for contender, trials in zip(field, by_contender, strict=True)
    )
    return PolicyBench(
        source=rows.source,
        rows=len(rows),
        n_classes=rows.n_classes,
        n_calib=n_calib,
        splits=splits,
        seed=seed,
        delta=delta,
        costs=None if costs is None else str(costs),
        standings=standings,
        warnings=rows.notes,
        stages=None if rows.staged is None else rows.staged.about,
    )


def write_policies(answer: PolicyBench, folder: Path) -> None:
    """Write the answer as JSON, Markdown and picture.

    Args:
        answer: The answer.
        folder: Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(answer.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    drawing = answer.drawing()
    contents = (text.encode(), answer.document(FILES[2]).encode(), drawing.svg(), drawing.png())
    for name, content in zip(FILES, contents, strict=True):
        artifact.write_bytes(folder / name, content)


def require_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before anything is computed.

    Args:
        folder: Where the files should go.

    Raises:
        ConfigError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; name a folder for {', '.join(FILES)}.")


def _name(targets: Targets, costs: Costs | None) -> str:
    if not targets:
        return f"least cost ({costs})"
    return str(targets)

"""`selectkit fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Store, flag, settings
from selectkit.config import FitConfig

MOST_ROWS = 40

if TYPE_CHECKING:
    from selectkit.heads import Epoch
    from selectkit.pipeline import FitSummary, SweepSummary


def command(
    context: typer.Context,
    store: Store,
    out: Annotated[str, typer.Option("--out", help="Run directory to make.")],
    sweep: Annotated[
        Path | None,
        typer.Option(
            "--sweep",
            help="TOML file with values of these settings to try, in tables grid and random; the "
            "best on val_select is kept.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="Column by which the table of a sweep is sorted.")
    ] = "criterion",
    view: Annotated[list[str] | None, flag(FitConfig, "view")] = None,
    feature: Annotated[str | None, flag(FitConfig, "feature")] = None,
    head: Annotated[str | None, flag(FitConfig, "head")] = None,
    positive: Annotated[str | None, flag(FitConfig, "positive")] = None,
    seed: Annotated[int | None, flag(FitConfig, "seed")] = None,
    loss: Annotated[str | None, flag(FitConfig, "loss")] = None,
    init: Annotated[str | None, flag(FitConfig, "init")] = None,
    target: Annotated[str | None, flag(FitConfig, "target")] = None,
    objective: Annotated[str | None, flag(FitConfig, "objective")] = None,
    temperature: Annotated[float | None, flag(FitConfig, "temperature")] = None,
    kappa: Annotated[int | None, flag(FitConfig, "kappa")] = None,
    size_weight: Annotated[float | None, flag(FitConfig, "size_weight")] = None,
    class_weights: Annotated[str | None, flag(FitConfig, "class_weights")] = None,
    smoothing: Annotated[float | None, flag(FitConfig, "smoothing")] = None,
    gamma: Annotated[float | None, flag(FitConfig, "gamma")] = None,
    coverage: Annotated[float | None, flag(FitConfig, "coverage")] = None,
    coverage_penalty: Annotated[float | None, flag(FitConfig, "coverage_penalty")] = None,
    alpha: Annotated[float | None, flag(FitConfig, "alpha")] = None,
    unnormalised: Annotated[bool | None, flag(FitConfig, "unnormalised")] = None,
    risk_target: Annotated[float | None, flag(FitConfig, "risk_target")] = None,
    risk_penalty: Annotated[float | None, flag(FitConfig, "risk_penalty")] = None,
    payoff: Annotated[float | None, flag(FitConfig, "payoff")] = None,
    target_momentum: Annotated[float | None, flag(FitConfig, "target_momentum")] = None,
    entropy: Annotated[float | None, flag(FitConfig, "entropy")] = None,
    pretrain: Annotated[int | None, flag(FitConfig, "pretrain")] = None,
    hidden: Annotated[int | None, flag(FitConfig, "hidden")] = None,
    epochs: Annotated[int | None, flag(FitConfig, "epochs")] = None,
    patience: Annotated[int | None, flag(FitConfig, "patience")] = None,
    batch_size: Annotated[int | None, flag(FitConfig, "batch_size")] = None,
    accumulation: Annotated[int | None, flag(FitConfig, "accumulation")] = None,
    learning_rate: Annotated[float | None, flag(FitConfig, "learning_rate")] = None,
    warm_up: Annotated[float | None, flag(FitConfig, "warm_up")] = None,
    weight_decay: Annotated[float | None, flag(FitConfig, "weight_decay")] = None,
    optimizer: Annotated[str | None, flag(FitConfig, "optimizer")] = None,
    clip: Annotated[float | None, flag(FitConfig, "clip")] = None,
    averaging: Annotated[str | None, flag(FitConfig, "averaging")] = None,
    sam_rho: Annotated[float | None, flag(FitConfig, "sam_rho")] = None,
    sam_sigma: Annotated[float | None, flag(FitConfig, "sam_sigma")] = None,
    sam_decay: Annotated[float | None, flag(FitConfig, "sam_decay")] = None,
    sam_adaptive: Annotated[bool | None, flag(FitConfig, "sam_adaptive")] = None,
    select_by: Annotated[str | None, flag(FitConfig, "select_by")] = None,
    device: Annotated[str | None, flag(FitConfig, "device")] = None,
    folds: Annotated[int | None, flag(FitConfig, "folds")] = None,
    tensorboard: Annotated[bool | None, flag(FitConfig, "tensorboard")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fit a head on the cached features of train, selected on val_select.

    Its logits for every row, and those of its gate, are written back to the
    store. A fit that Ctrl-C or SIGTERM interrupted goes on where it stopped:
    give the same command again.

    Examples:
      selectkit fit road.zarr --out run

      selectkit fit road.zarr --out run --head mlp --select-by coverage@fnr=0.02

      selectkit fit road.zarr --out run --head three --coverage 0.9

      selectkit fit road.zarr --out run --head mlp --sweep sweep.toml --sort augrc

      selectkit fit road.zarr --out run --head mlp --loss conformal_risk --target fnr=0.05
    """
    from selectkit.cli.output import print_json, print_table, say, warn

    context.params["view"] = "+".join(view) if view else None
    chosen = settings(context, FitConfig, "fit", config)
    found: FitSummary | SweepSummary
    if sweep is None:
        found = _one(store, out, chosen, hidden=json)
        if not json:
            say(*found.lines())
    else:
        tried = _many(store, out, sweep, chosen, sort, hidden=json)
        if not json:
            header, rows = tried.table(sort)
            kept = [row for row in rows[MOST_ROWS:] if row[0].endswith("*")]
            which = f"first {MOST_ROWS} of {len(rows)} by {sort}, " if rows[MOST_ROWS:] else ""
            title = f"Configurations on val_select ({which}* = kept)"
            print_table(title, header, rows[:MOST_ROWS] + kept)
            say(*tried.lines())
        found = tried
    if json:
        print_json(found.to_dict())
    else:
        warn(found.warnings)


def _one(store: str, out: str, config: FitConfig, hidden: bool) -> "FitSummary":
    from selectkit.cli.curves import live_curves
    from selectkit.cli.termination import ended_by_sigterm
    from selectkit.pipeline import fit
    from selectkit.pipeline.recipes import epochs_judged_by

    told = config.epochs, epochs_judged_by(config), hidden
    with ended_by_sigterm(), live_curves(*told) as curves:
        return fit(store, out=out, config=config, watch=curves.add)


def _many(
    store: str, out: str, file: Path, config: FitConfig, sort: str, hidden: bool
) -> "SweepSummary":
    from selectkit.cli.output import progress_bar
    from selectkit.cli.termination import ended_by_sigterm
    from selectkit.pipeline import sweep
    from selectkit.pipeline.trials import require_column

    require_column(sort, file, config)
    best = float("inf")
    with ended_by_sigterm(), progress_bar("sweep", "heads", hidden) as bar:
        task = bar.task_ids[0]

        def watch(name: str, epoch: "Epoch") -> None:
            nonlocal best
            best = min(best, epoch.criterion if epoch.criterion is not None else best)
            told = f"{name}: epoch {epoch.epoch}, best {config.select_by} {best:.4g}"
            bar.update(task, rate=told)

        return sweep(
            store,
            out=out,
            file=file,
            config=config,
            watch=watch,
            on_head=lambda done, total: bar.update(task, completed=done, total=total),
        )

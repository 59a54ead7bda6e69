"""`selectkit bench policies`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, StoreOverride, flag, settings
from selectkit.config import BenchConfig

app = typer.Typer(help="Compare methods on repeated random re-splits.", no_args_is_help=True)


@app.command()
def policies(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Run directory, feature store (*.zarr), or a file *.npz with labels, and logits."
        ),
    ],
    target: Annotated[list[str] | None, flag(BenchConfig, "target")] = None,
    cost: Annotated[str | None, flag(BenchConfig, "cost")] = None,
    delta: Annotated[float | None, flag(BenchConfig, "delta")] = None,
    score: Annotated[str | None, flag(BenchConfig, "score")] = None,
    positive: Annotated[int | None, flag(BenchConfig, "positive")] = None,
    head: Annotated[str | None, flag(BenchConfig, "head")] = None,
    view: Annotated[str | None, flag(BenchConfig, "view")] = None,
    share: Annotated[float | None, flag(BenchConfig, "share")] = None,
    splits: Annotated[int | None, flag(BenchConfig, "splits")] = None,
    seed: Annotated[int | None, flag(BenchConfig, "seed")] = None,
    workers: Annotated[int | None, flag(BenchConfig, "workers")] = None,
    xi: Annotated[float | None, flag(BenchConfig, "xi")] = None,
    stages: Annotated[str | None, flag(BenchConfig, "stages")] = None,
    stage_costs: Annotated[str | None, flag(BenchConfig, "stage_costs")] = None,
    view_seconds: Annotated[str | None, flag(BenchConfig, "view_seconds")] = None,
    cost_unit: Annotated[str | None, flag(BenchConfig, "cost_unit")] = None,
    human_cost: Annotated[float | None, flag(BenchConfig, "human_cost")] = None,
    last_decides: Annotated[bool | None, flag(BenchConfig, "last_decides")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder: also write policies.json, .md, .svg and .png."),
    ] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Compare exit policies: coverage, and how often their promise is broken.

    Each re-split of a run's held-out rows (val_calib and val_test) calibrates
    every policy on a random part and judges it on the rest and on all rows.
    An empirical threshold, which promises without proof, is among them. Of a
    feature store, the logits that a head left in it are used. Exit code 1
    means that a certified policy broke its promise too often.

    Examples:
      selectkit bench policies run --target error=0.05 --target fnr=0.02

      selectkit bench policies run --target fnr=0.02,fpr=0.05 --out bench

      selectkit bench policies road.zarr --target error=0.05

      selectkit bench policies logits.npz --cost miss=50,false_alarm=3,defer=1

      selectkit bench policies small --stages large --stage-costs 1,4 --target error=0.05
    """
    from selectkit.cli.output import print_json, print_table, progress_bar, say, warn
    from selectkit.pipeline.bench import bench_policies, require_folder, write_policies

    if out is not None:
        require_folder(out)
    chosen = settings(context, BenchConfig, "bench", config)
    with progress_bar("bench", "re-splits", json) as bar:
        task = bar.task_ids[0]

        def watch(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        answer = bench_policies(source, config=chosen, store=store, watch=watch)
    if out is not None:
        write_policies(answer, out)
    if json:
        print_json(answer.to_dict())
    else:
        for title, header, rows in answer.tables():
            print_table(title, header, rows)
        say(*answer.lines(), *([f"bench: {out}"] if out else []))
        warn(answer.warnings)
    raise typer.Exit(1 if answer.refuted else 0)

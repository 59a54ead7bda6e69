"""`selectkit plan`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, StoreOverride, flag, settings
from selectkit.config import PlanConfig


def command(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(help="Run whose val_select scores say what coverage to expect."),
    ] = None,
    target: Annotated[str | None, flag(PlanConfig, "target")] = None,
    delta: Annotated[float | None, flag(PlanConfig, "delta")] = None,
    prevalence: Annotated[float | None, flag(PlanConfig, "prevalence")] = None,
    coverage: Annotated[float | None, flag(PlanConfig, "coverage")] = None,
    fractions: Annotated[str | None, flag(PlanConfig, "fractions")] = None,
    true_risk: Annotated[float | None, flag(PlanConfig, "true_risk")] = None,
    labels: Annotated[str | None, flag(PlanConfig, "labels")] = None,
    draws: Annotated[int | None, flag(PlanConfig, "draws")] = None,
    seed: Annotated[int | None, flag(PlanConfig, "seed")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw it, as .svg or .png.")
    ] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say how many labels a promise needs, and how likely they are enough.

    Without a run: the exact binomial budget and its power. With a run: the
    coverage to expect of a certificate, from the run's scores on val_select.
    Exit code 1 means that no number of labels will do.

    Examples:
      selectkit plan --target fnr=0.02 --delta 0.1 --prevalence 0.1

      selectkit plan --target error=0.01 --true-risk 0.005 --plot power.svg

      selectkit plan run --target fnr=0.02 --labels 500,2000,10000
    """
    from selectkit.cli.output import print_json, print_table, progress_bar, say, warn
    from selectkit.pipeline import plan
    from selectkit.pipeline.output_file import require_output
    from selectkit.pipeline.plan import draw

    if plot is not None:
        require_output(plot, "--plot", "a plot")
    chosen = settings(context, PlanConfig, "plan", config)
    with progress_bar("plan", "draws", json or run is None) as bar:
        task = bar.task_ids[0]

        def watch(done: int, total: int, n: int) -> None:
            bar.update(task, completed=done, total=total, rate=f"{n:,} images")

        answer = plan(run, config=chosen, store=store, watch=watch)
    if plot is not None:
        draw(answer, plot)
    if json:
        print_json(answer.to_dict())
    else:
        for title, header, rows in answer.tables():
            print_table(title, header, rows)
        say(*answer.lines(), *([f"plot: {plot}"] if plot else []))
        warn(answer.warnings)
    raise typer.Exit(0 if answer.feasible else 1)

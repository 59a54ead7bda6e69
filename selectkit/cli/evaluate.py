"""`selectkit evaluate`."""

from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Run, StoreOverride, flag, settings
from selectkit.config import EvaluateConfig


def command(
    context: typer.Context,
    run: Run,
    replicates: Annotated[int | None, flag(EvaluateConfig, "replicates")] = None,
    seed: Annotated[int | None, flag(EvaluateConfig, "seed")] = None,
    thumbnails: Annotated[int | None, flag(EvaluateConfig, "thumbnails")] = None,
    volume: Annotated[int | None, flag(EvaluateConfig, "volume")] = None,
    error_cost: Annotated[float | None, flag(EvaluateConfig, "error_cost")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare", help="Also compare with another evaluated run; may be given repeatedly."
        ),
    ] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Evaluate the run on val_test: metrics.json, metrics.csv and report.html.

    Examples:
      selectkit evaluate run

      selectkit evaluate run --compare other-run

      selectkit evaluate run --json | jq .metrics.operating.error
    """
    from selectkit.cli.output import POLICIES, print_json, print_table, say, warn
    from selectkit.pipeline import evaluate
    from selectkit.pipeline.runs import compare_runs, require_comparable, write_comparison

    require_comparable(run, compare or [])
    chosen = settings(context, EvaluateConfig, "evaluate", config)
    evaluation = evaluate(run, config=chosen, store=store)
    comparison = None
    if compare:
        comparison = compare_runs([run, *compare], replicates=chosen.replicates, seed=chosen.seed)
        for form in ("csv", "json", "md", "html"):
            write_comparison(comparison, evaluation.run / f"comparison.{form}")
    if json:
        print_json(evaluation.to_dict())
        return
    print_table(POLICIES, *evaluation.policy_table())
    print_table("Metrics on val_test, 95 % bootstrap intervals", *evaluation.metric_table())
    if comparison is not None:
        print_table("Differences on the same images of val_test", *comparison.table())
    say(*evaluation.lines())
    if comparison is not None:
        say(*comparison.lines(), f"comparison: {evaluation.run / 'comparison.html'}")
        warn(comparison.notes())
    warn(evaluation.warnings)

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
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Evaluate the run on val_test: metrics.json, metrics.csv and report.html.

    Examples:
      selectkit evaluate run

      selectkit evaluate run --json | jq .metrics.operating.error
    """
    from selectkit.cli.output import POLICIES, print_json, print_table, say, warn
    from selectkit.pipeline import evaluate

    chosen = settings(context, EvaluateConfig, "evaluate", config)
    evaluation = evaluate(run, config=chosen, store=store)
    if json:
        print_json(evaluation.to_dict())
        return
    print_table(POLICIES, *evaluation.policy_table())
    print_table("Metrics on val_test, 95 % bootstrap intervals", *evaluation.metric_table())
    say(*evaluation.lines())
    warn(evaluation.warnings)

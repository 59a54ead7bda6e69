"""`selectkit compare`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Run, StoreOverride, flag, settings
from selectkit.config import CompareConfig


def command(
    context: typer.Context,
    run: Run,
    scores: Annotated[
        bool, typer.Option("--scores", help="Compare the scores that can decide what is accepted.")
    ] = False,
    split: Annotated[str | None, flag(CompareConfig, "split")] = None,
    replicates: Annotated[int | None, flag(CompareConfig, "replicates")] = None,
    seed: Annotated[int | None, flag(CompareConfig, "seed")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also draw a chart, as .svg or .png.")
    ] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Rank scores by AUGRC, each against msp on the same images.

    Scores are fitted on train and compared on val_select. A difference counts
    as shown when its p-value, corrected for the number of scores (Holm), is
    below 5 %.

    Examples:
      selectkit compare run --scores

      selectkit compare run --scores --out scores.svg

      selectkit compare run --scores --split val_test --json
    """
    from selectkit.cli.output import print_json, print_table, say, warn
    from selectkit.errors import ConfigError
    from selectkit.pipeline import compare
    from selectkit.pipeline.compare import chart, require_chart

    if not scores:
        raise ConfigError("say what to compare: `selectkit compare RUN --scores`.")
    if out is not None:
        require_chart(out)
    chosen = settings(context, CompareConfig, "compare", config)
    comparison = compare(run, config=chosen, store=store)
    if out is not None:
        chart(comparison, out)
    if json:
        print_json(comparison.to_dict())
        return
    title = (
        f"AUGRC x 1e-3 on {comparison.split}: {comparison.n:,} images, {comparison.errors:,} "
        "errors; lower is better"
    )
    print_table(title, *comparison.table())
    say(*([f"chart: {out}"] if out else []), *comparison.lines())
    warn(comparison.notes)

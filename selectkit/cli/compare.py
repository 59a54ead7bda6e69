"""`selectkit compare`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, StoreOverride, flag, settings
from selectkit.config import CompareConfig


def command(
    context: typer.Context,
    run: Annotated[
        list[str],
        typer.Argument(help="Run directories; the others are compared with the first."),
    ],
    scores: Annotated[
        bool, typer.Option("--scores", help="Compare the scores that can decide what is accepted.")
    ] = False,
    split: Annotated[str | None, flag(CompareConfig, "split")] = None,
    replicates: Annotated[int | None, flag(CompareConfig, "replicates")] = None,
    seed: Annotated[int | None, flag(CompareConfig, "seed")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write it: .svg, .png; runs: .html, .csv, .json, .md."),
    ] = None,
    store: StoreOverride = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Compare runs on the same test rows, or the scores of one run.

    Runs: differences from the first run in AUGRC, AURC, failure AUROC, risk at
    80 % coverage, accuracy, and the coverage and error of the policies, on the
    val_test rows of `selectkit evaluate`, with paired intervals. --scores:
    scores are fitted on train, compared on val_select and ranked by AUGRC,
    each against msp on the same images. A difference counts as shown when its
    p-value, corrected for the number of comparisons (Holm), is below 5 %.

    Examples:
      selectkit compare run other-run --out comparison.html

      selectkit compare run --scores --out scores.svg

      selectkit compare run --scores --split val_test --json
    """
    from selectkit.cli.output import print_json, print_table, say, warn
    from selectkit.errors import ConfigError
    from selectkit.pipeline import compare
    from selectkit.pipeline.compare import chart
    from selectkit.pipeline.output_file import require_output

    if scores == (len(run) > 1):
        raise ConfigError(
            "say what to compare: `selectkit compare RUN --scores` or `selectkit compare RUN RUN`."
        )
    if not scores:
        if split == "val_select":
            raise ConfigError("runs are compared on val_test, on the rows of their evaluation.")
        chosen = settings(context, CompareConfig, "compare", config)
        _compare_runs(run, chosen, out, json)
        return
    if out is not None:
        require_output(out, "--out", "a chart")
    chosen = settings(context, CompareConfig, "compare", config)
    comparison = compare(run[0], config=chosen, store=store)
    if out is not None:
        chart(comparison, out)
    if json:
        print_json(comparison.to_dict())
        return
    title = (
        f"AUGRC in thousandths on {comparison.split}: {comparison.n:,} images, "
        f"{comparison.errors:,} errors; lower is better"
    )
    print_table(title, *comparison.table())
    say(*([f"chart: {out}"] if out else []), *comparison.lines())
    warn(comparison.notes)


def _compare_runs(runs: list[str], config: CompareConfig, out: Path | None, json: bool) -> None:
    from selectkit.cli.output import print_json, print_table, say, warn
    from selectkit.pipeline.output_file import require_output
    from selectkit.pipeline.runs import FORMATS, compare_runs, write_comparison

    if out is not None:
        require_output(out, "--out", "a comparison", FORMATS)
    comparison = compare_runs(runs, replicates=config.replicates, seed=config.seed)
    if out is not None:
        write_comparison(comparison, out)
    if json:
        print_json(comparison.to_dict())
        return
    print_table(f"On the same {comparison.n:,} images of val_test", *comparison.table())
    say(*comparison.lines(), *([f"comparison: {out}"] if out else []))
    warn(comparison.notes())

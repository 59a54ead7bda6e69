"""`selectkit quickstart`."""

from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import Json


def command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the store, the run and the report.")
    ] = Path("selectkit-quickstart"),
    json: Json = False,
) -> None:
    """See the whole idea on 1,797 real digit images, in seconds, on any machine.

    Examples:
      selectkit quickstart --out demo
    """
    from selectkit.cli.output import POLICIES, print_json, print_table, progress_bar, say, warn
    from selectkit.pipeline import quickstart

    with progress_bar("extract", "images", hidden=json) as bar:
        task = bar.task_ids[0]
        result = quickstart(
            out,
            progress=lambda done, total, rate: bar.update(
                task, completed=done, total=total, rate=f"{rate:,.0f} img/s"
            ),
        )
    if json:
        print_json(result.to_dict())
        return
    print_table(POLICIES, *result.policy_table())
    say(*result.lines())
    warn(result.warnings)

"""`selectkit report`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from selectkit.cli.options import Json, Run


class _Format(StrEnum):
    html = "html"
    png = "png"
    svg = "svg"
    md = "md"


def command(
    run: Run,
    format: Annotated[
        _Format, typer.Option("--format", help="The page, its figures, or Markdown with figures.")
    ] = _Format.html,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for html and md, folder for png and svg; else in RUN."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the report of an evaluated run as files; nothing is measured again.

    Examples:
      selectkit report run --format svg --out figures

      selectkit report run --format md --out report.md
    """
    from selectkit.cli.output import print_json, say
    from selectkit.pipeline.report import report

    written = report(run, format=format.value, out=out)
    if json:
        print_json(written.to_dict())
    else:
        say(*written.lines())

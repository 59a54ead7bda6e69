"""What people and programs see: tables and progress on a terminal, JSON on request."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

POLICIES = "Policies on val_test: error among the accepted images (* = active)"


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def say(*lines: str) -> None:
    """Print lines for people on standard output, unwrapped."""
    for line in lines:
        Console(highlight=False, markup=False, soft_wrap=True).print(line)


def warn(lines: Iterable[str]) -> None:
    """Print warnings on standard error, one line each."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(f"warning: {line}", style="yellow")


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is left-aligned text, the others are figures."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a file or a pipe is as wide as it needs to be
        console = Console(highlight=False, markup=False, width=200)
    console.print(table)


@contextmanager
def progress_bar(what: str, unit: str, hidden: bool) -> Iterator[Progress]:
    """A progress bar on standard error with a free text field `rate`.

    Args:
        what: Name of the work.
        unit: Unit of the counter.
        hidden: True when a program reads the output.

    Yields:
        The bar, without a task yet; add it with `add_task(what, total=..., rate="")`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=hidden or not console.is_terminal) as bar:
        bar.add_task(what, total=None, rate="")
        yield bar

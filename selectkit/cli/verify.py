"""`selectkit verify`."""

import typer

from selectkit.cli.options import Json, Store


def command(store: Store, json: Json = False) -> None:
    """Read every byte of a feature store and compare it with the ledger's checksums.

    Exit code 1 means that something is damaged.

    Examples:
      selectkit verify road.zarr
    """
    from dataclasses import asdict

    from selectkit.cache import FeatureStore
    from selectkit.cli.output import print_json, say

    opened = FeatureStore.open(store)
    problems = opened.verify()
    notes = [] if problems else opened.leftovers()
    if json:
        found = {"problems": [*map(asdict, problems)], "notes": [*map(asdict, notes)]}
        print_json({"ok": not problems, **found})
    elif problems:
        say(*(f"{p.path}: {p.what}" for p in problems), f"{len(problems)} problems")
    else:
        say(*(f"note: {n.path}: {n.what}" for n in notes), "all committed files match the ledger")
    raise typer.Exit(1 if problems else 0)

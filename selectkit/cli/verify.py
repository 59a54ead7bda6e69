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

    problems = FeatureStore.open(store).verify()
    if json:
        print_json({"ok": not problems, "problems": [asdict(p) for p in problems]})
    elif problems:
        say(*(f"{p.path}: {p.what}" for p in problems), f"{len(problems)} problems")
    else:
        say("all committed files match the ledger")
    raise typer.Exit(1 if problems else 0)

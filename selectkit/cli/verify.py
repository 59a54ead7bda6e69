"""`selectkit verify`."""

from typing import Annotated

import typer

from selectkit.cli.options import Json, Store


def command(
    store: Store,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Withdraw damaged shards, so that they are extracted again."),
    ] = False,
    json: Json = False,
) -> None:
    """Read every byte of a feature store and compare it with the ledger's checksums.

    With --repair, damaged shards are withdrawn and damaged descriptions
    mended; `selectkit extract` then writes these shards anew, and
    `selectkit fit` logits. Exit code 1 means that something is damaged,
    still.

    Examples:
      selectkit verify road.zarr
      selectkit verify road.zarr --repair
    """
    from dataclasses import asdict

    from selectkit import cache
    from selectkit.cli.output import print_json, say

    repaired = cache.repair(store) if repair else []
    opened = cache.FeatureStore.open(store)
    problems = opened.verify()
    notes = [] if problems else opened.leftovers()
    if json:
        found = {"repaired": repaired, "problems": problems, "notes": notes}
        print_json({"ok": not problems, **{k: [*map(asdict, v)] for k, v in found.items()}})
    else:
        say(*(f"repaired: {p.path}: {p.what}" for p in repaired))
        say(*(f"{p.path}: {p.what}" for p in problems))
        say(*(f"note: {n.path}: {n.what}" for n in notes))
        say(f"{len(problems)} problems" if problems else "all committed files match the ledger")
    raise typer.Exit(1 if problems else 0)

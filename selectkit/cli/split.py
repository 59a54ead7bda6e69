"""`selectkit split`."""

from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Store, flag, settings
from selectkit.config import FitConfig, SplitConfig


def command(
    context: typer.Context,
    store: Store,
    salt: Annotated[str | None, flag(SplitConfig, "salt")] = None,
    fractions: Annotated[str | None, flag(SplitConfig, "fractions")] = None,
    positive: Annotated[str | None, flag(FitConfig, "positive")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show the four splits, their positives, and what can be certified with them.

    With --salt or --fractions the split is drawn anew; runs fitted on the old
    one then refuse it.

    Examples:
      selectkit split road.zarr

      selectkit split road.zarr --fractions 0.5,0.1,0.3,0.1
    """
    from selectkit.cli.output import print_json, print_table, say, warn
    from selectkit.pipeline import split

    summary = split(
        store, config=settings(context, SplitConfig, "split", config), positive=positive
    )
    if json:
        print_json(summary.to_dict())
        return
    print_table("", *summary.sizes_table())
    print_table("What val_calib can certify and val_test can verify", *summary.budget_table())
    say(*summary.lines())
    warn(summary.warnings)

"""`selectkit fit`."""

from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, Store, flag, settings
from selectkit.config import FitConfig


def command(
    context: typer.Context,
    store: Store,
    out: Annotated[str, typer.Option("--out", help="Run directory to make.")],
    view: Annotated[str | None, flag(FitConfig, "view")] = None,
    feature: Annotated[str | None, flag(FitConfig, "feature")] = None,
    head: Annotated[str | None, flag(FitConfig, "head")] = None,
    positive: Annotated[str | None, flag(FitConfig, "positive")] = None,
    seed: Annotated[int | None, flag(FitConfig, "seed")] = None,
    hidden: Annotated[int | None, flag(FitConfig, "hidden")] = None,
    epochs: Annotated[int | None, flag(FitConfig, "epochs")] = None,
    learning_rate: Annotated[float | None, flag(FitConfig, "learning_rate")] = None,
    weight_decay: Annotated[float | None, flag(FitConfig, "weight_decay")] = None,
    batch_size: Annotated[int | None, flag(FitConfig, "batch_size")] = None,
    class_weights: Annotated[str | None, flag(FitConfig, "class_weights")] = None,
    select_by: Annotated[str | None, flag(FitConfig, "select_by")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fit a head on the cached features of train, selected on val_select.

    Its logits for every row are written back to the store.

    Examples:
      selectkit fit road.zarr --out run

      selectkit fit road.zarr --out run --head mlp --select-by coverage@fnr=0.02
    """
    from selectkit.cli.output import print_json, progress_bar, say, warn
    from selectkit.pipeline import fit

    chosen = settings(context, FitConfig, "fit", config)
    with progress_bar("fit", "epochs", hidden=json or chosen.head != "mlp") as bar:
        task = bar.task_ids[0]
        summary = fit(
            store,
            out=out,
            config=chosen,
            on_epoch=lambda e: bar.update(
                task,
                completed=e.epoch,
                total=chosen.epochs,
                rate=f"{chosen.select_by} {e.criterion or float('nan'):.4f}",
            ),
        )
    if json:
        print_json(summary.to_dict())
    else:
        say(*summary.lines())
        warn(summary.warnings)

"""`selectkit extract`."""

import signal
from typing import Annotated

import typer

from selectkit.cli.options import ConfigFile, Json, flag, settings
from selectkit.config import ExtractConfig


def command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder per class, CSV or Parquet manifest (paths or URLs), or 'digits'."
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Feature store to write or go on with.")],
    path: Annotated[str | None, flag(ExtractConfig, "path")] = None,
    label: Annotated[str | None, flag(ExtractConfig, "label")] = None,
    group: Annotated[str | None, flag(ExtractConfig, "group")] = None,
    id: Annotated[str | None, flag(ExtractConfig, "id")] = None,
    backbone: Annotated[str | None, flag(ExtractConfig, "backbone")] = None,
    view: Annotated[str | None, flag(ExtractConfig, "view")] = None,
    preprocess: Annotated[str | None, flag(ExtractConfig, "preprocess")] = None,
    size: Annotated[int | None, flag(ExtractConfig, "size")] = None,
    dtype: Annotated[str | None, flag(ExtractConfig, "dtype")] = None,
    last: Annotated[int | None, flag(ExtractConfig, "last")] = None,
    flip: Annotated[bool | None, flag(ExtractConfig, "flip")] = None,
    crops: Annotated[int | None, flag(ExtractConfig, "crops")] = None,
    compute: Annotated[str | None, flag(ExtractConfig, "compute")] = None,
    compile: Annotated[bool | None, flag(ExtractConfig, "compile")] = None,
    batch_size: Annotated[int | None, flag(ExtractConfig, "batch_size")] = None,
    workers: Annotated[int | None, flag(ExtractConfig, "workers")] = None,
    rows_per_shard: Annotated[int | None, flag(ExtractConfig, "rows_per_shard")] = None,
    jpeg_decoder: Annotated[str | None, flag(ExtractConfig, "jpeg_decoder")] = None,
    device: Annotated[str | None, flag(ExtractConfig, "device")] = None,
    rescan: Annotated[bool | None, flag(ExtractConfig, "rescan")] = None,
    shard_range: Annotated[str | None, flag(ExtractConfig, "shard_range")] = None,
    engine: Annotated[str | None, flag(ExtractConfig, "engine")] = None,
    actors: Annotated[int | None, flag(ExtractConfig, "actors")] = None,
    ray_address: Annotated[str | None, flag(ExtractConfig, "ray_address")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Send every image once through a frozen backbone and cache its features.

    New images and new labels of a source are taken over by the same command; --rescan also finds
    images with other contents, and marks those that are gone.

    An interrupted run goes on where it stopped: give the same command again.
    Several processes may run the same command at the same time; they share
    the work. Exit code 130 means stopped by Ctrl-C; 0 complete, or stopped
    in order by SIGTERM (--json tells which).

    Examples:
      selectkit extract photos/ --out road.zarr --backbone dinov3-s

      selectkit extract labels.csv --path file --label roadwork --group site --out road.zarr

      selectkit extract photos/ --out road.zarr --engine ray --actors 8
    """
    from selectkit.cli.output import print_json, progress_bar, say, warn
    from selectkit.pipeline import extract

    chosen = settings(context, ExtractConfig, "extract", config)
    with progress_bar("extract", "images", hidden=json) as bar:
        task = bar.task_ids[0]
        summary = extract(
            source,
            out=out,
            config=chosen,
            progress=lambda done, total, rate: bar.update(
                task, completed=done, total=total, rate=f"{rate:,.0f} img/s"
            ),
        )
    if json:
        print_json(summary.to_dict())
    else:
        say(*summary.lines())
        warn(summary.warnings)
    raise typer.Exit(130 if summary.work.signal == signal.SIGINT and summary.interrupted else 0)

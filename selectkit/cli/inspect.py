"""`selectkit inspect`."""

from selectkit.cli.options import Json, Store


def command(store: Store, json: Json = False) -> None:
    """Show what a feature store holds: rows, labels, views, features, logits, bytes.

    Examples:
      selectkit inspect road.zarr
    """
    from dataclasses import asdict

    from selectkit.cache import FeatureStore
    from selectkit.cli.output import print_json, print_table, say

    info = FeatureStore.open(store).info()
    if json:
        print_json(asdict(info))
        return
    say(
        f"{info.path}: {info.rows_committed:,} of {info.rows:,} rows, {info.groups:,} groups, "
        f"{info.unlabelled:,} unlabelled, {info.bytes / 1e6:,.1f} MB",
        "status: " + ", ".join(f"{name} {n:,}" for name, n in info.statuses.items()),
        "labels: " + (", ".join(f"{name} {n:,}" for name, n in info.labels.items()) or "none"),
    )
    rows = [
        [
            view.name,
            f"{view.rows:,}",
            ", ".join(f"{n} {d} x {t}" for n, (d, t) in view.features.items()),
            ", ".join(view.logits) or "none yet",
        ]
        for view in info.views
    ]
    print_table("", ["view", "rows", "features", "logits"], rows)

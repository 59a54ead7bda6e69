"""`selectkit inspect`."""

from selectkit.cli.options import Json, Store


def command(store: Store, json: Json = False) -> None:
    """Show what a feature store holds: rows, labels, views, features, logits, bytes.

    Examples:
      selectkit inspect road.zarr
    """
    from selectkit.cache import FeatureStore
    from selectkit.cli.output import print_json, say

    info = FeatureStore.open(store).info()
    if json:
        print_json(info.to_dict())
    else:
        say(*info.lines())

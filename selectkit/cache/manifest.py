"""The store's manifest: attribute `selectkit` of its zarr.json, written last by `create`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selectkit import schemas
from selectkit.cache import layout
from selectkit.errors import ArtifactError, CacheError

_OURS = re.compile(r"\.lock|splits\.json|index|commits|views|leases|\..+\.[a-z0-9_]{8}")


def claim(root: Path) -> None:
    """Make the folder of a new store; an attempt that was interrupted may be taken over.

    Args:
        root: The folder.

    Raises:
        CacheError: If it holds a store or something else, or cannot be made.
    """
    if (root / "zarr.json").exists():
        raise CacheError(f"{root} already holds a store: open it, or choose another path.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        foreign = [p.name for p in root.iterdir() if not _OURS.fullmatch(p.name)]
    except OSError as error:
        raise CacheError(f"{root} cannot be used for a store: {error.strerror}.") from None
    if foreign:
        raise CacheError(f"{root} is not empty ({min(foreign)!r} lies in it): choose another path.")


def read(root: Path) -> dict[str, Any]:
    """Read and check the manifest.

    Args:
        root: The store.

    Returns:
        rows, rows_per_shard and source, besides kind and format_version.

    Raises:
        CacheError: If there is no store, or its manifest is damaged or of an unknown version.
    """
    if not (root / "zarr.json").is_file():
        raise CacheError(f"no feature store at {root}: run `selectkit extract` first.")
    attributes = layout.read_json(root / "zarr.json").get("attributes")
    found = attributes.get("selectkit") if isinstance(attributes, dict) else None
    if not isinstance(found, dict) or found.get("kind") != "store":
        raise CacheError(
            f"{root} is a Zarr hierarchy but no feature store: its manifest is absent."
        )
    if found.get("format_version") != layout.FORMAT_VERSION:
        raise CacheError(
            f"{root} is a store of format version {found.get('format_version')!r}; this release "
            f"reads version {layout.FORMAT_VERSION}. Upgrade selectkit, or extract again."
        )
    manifest: dict[str, Any] = layout.read_zarr(root)["attributes"]["selectkit"]
    validate(manifest, root / "zarr.json")
    return manifest


def write(root: Path, rows: int, rows_per_shard: int, source: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest and return it.

    Args:
        root: The store.
        rows: Rows planned.
        rows_per_shard: Rows of every shard but the last.
        source: JSON values.

    Returns:
        The manifest.

    Raises:
        CacheError: If the source is no JSON object.
    """
    manifest = {
        "kind": "store",
        "format_version": layout.FORMAT_VERSION,
        "rows": rows,
        "rows_per_shard": rows_per_shard,
        "source": layout.json_object(source, "source"),
    }
    validate(manifest, root / "zarr.json")
    layout.write_zarr(root, layout.group_document({"selectkit": manifest}))
    return manifest


def validate(document: dict[str, Any], where: Path) -> None:
    """Check a document against its schema.

    Args:
        document: With kind and format_version.
        where: The file it is from.

    Raises:
        CacheError: With all places at which it breaks the schema.
    """
    try:
        schemas.validate(document, str(where))
    except ArtifactError as error:
        raise CacheError(str(error)) from None

"""The store's manifest: attribute `selectkit` of its zarr.json, written last by `create`."""

import re
from collections.abc import Mapping
from typing import Any

from selectkit import schemas
from selectkit.cache import layout
from selectkit.cache.files import Files
from selectkit.errors import ArtifactError, CacheError

_OURS = re.compile(r"\.lock|splits\.json|index|commits|views|leases|\..+\.[a-z0-9_]{8}")


def claim(files: Files) -> None:
    """Make the place of a new store; an attempt that was interrupted may be taken over.

    Args:
        files: What will be the store's.

    Raises:
        CacheError: If there is a store or something else, or it cannot be made.
    """
    place = files.place
    if files.exists("zarr.json"):
        raise CacheError(f"{place} already holds a store: open it, or choose another path.")
    try:
        files.make()
        names = [*files.folders(""), *files.names("")]
    except OSError as error:
        raise CacheError(f"{place} cannot be used for a store: {error.strerror}.") from None
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise CacheError(
            f"{place} is not empty ({min(foreign)!r} lies in it): choose another path."
        )


def read(files: Files) -> dict[str, Any]:
    """Read and check the manifest.

    Args:
        files: The store's.

    Returns:
        rows, rows_per_shard and source, besides kind and format_version.

    Raises:
        CacheError: If there is no store, or its manifest is damaged or of an unknown version.
    """
    place = files.place
    if not files.exists("zarr.json"):
        raise CacheError(f"no feature store at {place}: run `selectkit extract` first.")
    attributes = layout.read_json(files, "zarr.json").get("attributes")
    found = attributes.get("selectkit") if isinstance(attributes, dict) else None
    if not isinstance(found, dict) or found.get("kind") != "store":
        raise CacheError(
            f"{place} is a Zarr hierarchy but no feature store: its manifest is absent."
        )
    if found.get("format_version") != layout.FORMAT_VERSION:
        raise CacheError(
            f"{place} is a store of format version {found.get('format_version')!r}; this release "
            f"reads version {layout.FORMAT_VERSION}. Upgrade selectkit, or extract again."
        )
    manifest: dict[str, Any] = layout.read_zarr(files, "")["attributes"]["selectkit"]
    validate(manifest, files.where("zarr.json"))
    return manifest


def write(
    files: Files, rows: int, rows_per_shard: int, source: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the manifest and return it.

    Args:
        files: The store's.
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
    validate(manifest, files.where("zarr.json"))
    layout.write_zarr(files, "", layout.group_document({"selectkit": manifest}))
    return manifest


def validate(document: dict[str, Any], where: str) -> None:
    """Check a document against its schema.

    Args:
        document: With kind and format_version.
        where: The file it is from.

    Raises:
        CacheError: With all places at which it breaks the schema.
    """
    try:
        schemas.validate(document, where)
    except ArtifactError as error:
        raise CacheError(str(error)) from None

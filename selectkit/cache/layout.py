"""Where everything lies in a store, and the small JSON documents that say so.

::

    store.zarr/
      zarr.json                            group; attribute `selectkit`: the store's manifest
      splits.json                          salt and fractions
      index/00000.parquet                  one part per shard of rows
      views/<view>/zarr.json               group; attribute `selectkit`: fingerprint and features
      views/<view>/features/<name>/        Zarr v3 array (N, D), chunk k = file c/<k>/0
      views/<view>/logits/<head>/          Zarr v3 array (N, K)
      commits/<scope>/00000.json           the ledger; scope: index, <view>, <view>.logits.<head>

Every document carries the content hash of the rest of itself. Nothing in it depends on time, place
or chance: equal input gives equal bytes. Zarr v3: https://zarr-specs.readthedocs.io.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from selectkit import artifact
from selectkit.cache.files import Files
from selectkit.errors import CacheError, ConfigError

FORMAT_VERSION = 1
CHECKSUM = "selectkit_checksum"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def checked_name(name: str, what: str) -> str:
    """Return a view's, feature's or head's name, which becomes a folder name.

    Args:
        name: The name.
        what: "view", "feature" or "head"; used in the message.

    Returns:
        The name itself.

    Raises:
        ConfigError: If it has other characters than letters, digits, ".", "_" and "-", starts with
            one of the last three, is longer than 100, or is a view's and means something else.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what} name {name!r} is not usable: use letters, digits, '.', '_' and '-', "
            "start with a letter or digit, at most 100."
        )
    if what == "view" and (name == "index" or ".logits." in name):
        raise ConfigError(f"view name {name!r} is reserved: choose another.")
    return name


def logits_scope(view: str, head: str) -> str:
    """Return the ledger scope of one head's logits."""
    return f"{view}.logits.{head}"


def feature_folder(view: str, name: str) -> str:
    """Return the folder of a feature array, relative to the store."""
    return f"views/{view}/features/{name}"


def logits_folder(view: str, head: str) -> str:
    """Return the folder of a logits array, relative to the store."""
    return f"views/{view}/logits/{head}"


def chunk_path(folder: str, shard: int) -> str:
    """Return the chunk file of a shard, relative to the store."""
    return f"{folder}/c/{shard}/0"


def zarr_path(folder: str) -> str:
    """Return the zarr.json of a folder, relative to the store; the folder "" is the store."""
    return f"{folder}/zarr.json" if folder else "zarr.json"


def index_path(shard: int) -> str:
    """Return the index part of a shard, relative to the store."""
    return f"index/{shard:05d}.parquet"


def commit_path(scope: str, shard: int) -> str:
    """Return the ledger entry of a shard, relative to the store."""
    return f"commits/{scope}/{shard:05d}.json"


def group_document(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the zarr.json of a Zarr v3 group, sealed."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}
    return sealed(document)


def array_document(
    shape: tuple[int, int], chunk_rows: int, dtype: str, attributes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the zarr.json of a Zarr v3 array whose chunk files can be memory-mapped, sealed.

    Args:
        shape: (N, D).
        chunk_rows: Rows of one chunk; a chunk always spans all columns.
        dtype: "float16", "float32" or "bfloat16" (stored as uint16, told by an attribute).
        attributes: Further attributes.

    Returns:
        The document.
    """
    extra = {"selectkit_dtype": "bfloat16"} if dtype == "bfloat16" else {}
    return sealed({
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint16" if dtype == "bfloat16" else dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk_rows, shape[1]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0x7FC0 if dtype == "bfloat16" else "NaN",
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "attributes": {**dict(attributes or {}), **extra},
    })


def with_rows(document: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return the zarr.json of an array with another number of rows, sealed anew."""
    return sealed({**document, "shape": [rows, *document["shape"][1:]]})


def like(document: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an array's zarr.json with as many rows as `found`, if it is an array with more.

    An interrupted `grow` leaves such descriptions, and they do no harm.
    """
    shape = found.get("shape", [0])
    if "shape" in document and shape[0] >= document["shape"][0]:
        return with_rows(document, shape[0])
    return dict(document)


def write_zarr(files: Files, folder: str, document: Mapping[str, Any]) -> None:
    """Write `folder`/zarr.json atomically, unless it already says the same."""
    data = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    path = zarr_path(folder)
    files.clean(folder)
    if not (files.exists(path) and files.read(path) == data):
        files.write(path, data)


def read_zarr(files: Files, folder: str) -> dict[str, Any]:
    """Read `folder`/zarr.json and check its own checksum.

    Args:
        files: The store's.
        folder: The group or array, "" for the store itself.

    Returns:
        The document, checksum included.

    Raises:
        CacheError: If it is missing, no JSON, or not what was written.
    """
    path = zarr_path(folder)
    document = read_json(files, path)
    attributes = document.get("attributes")
    intact = isinstance(attributes, dict) and document == sealed(document)
    if not intact:
        raise CacheError(
            f"{files.where(path)} is damaged: its checksum does not match. "
            "Restore it from a copy, or extract into another store."
        )
    return document


def read_json(files: Files, path: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        files: The store's.
        path: The file.

    Returns:
        The object.

    Raises:
        CacheError: If the file is missing, unreadable or holds something else.
    """
    return _parse(files, path, _read(files, path))


def _read(files: Files, path: str) -> bytes:
    try:
        return files.read(path)
    except FileNotFoundError:
        raise CacheError(
            f"{files.where(path)} is missing. Run `selectkit verify` to see what else is."
        ) from None
    except OSError as error:
        raise CacheError(
            f"{files.where(path)} is damaged: not readable as JSON ({error})."
        ) from None


def _parse(files: Files, path: str, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        where = files.where(path)
        raise CacheError(f"{where} is damaged: not readable as JSON ({error}).") from None
    if not isinstance(document, dict):
        raise CacheError(f"{files.where(path)} is damaged: it holds no JSON object.")
    return document


def read_sealed(files: Files, path: str) -> tuple[dict[str, Any], bool]:
    """Read a JSON object with a field "checksum", the content hash of its other fields.

    Args:
        files: The store's.
        path: The file.

    Returns:
        The object, and whether the checksum matches.

    Raises:
        CacheError: If the file is missing, unreadable or holds something else.
    """
    data = _read(files, path)
    if data[85:86] == b"," and data.endswith(b"}\n"):  # written by us: it can be hashed as it is
        digest = hashlib.sha256(b"{" + data[86:-1]).hexdigest()
        if data[:85] == f'{{"checksum":"sha256:{digest}"'.encode():
            document: dict[str, Any] = json.loads(data)
            return document, True
    document = _parse(files, path, data)
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return document, document.get("checksum") == artifact.content_hash(rest)


def json_object(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a copy that is what JSON will give back (tuples are lists).

    Args:
        value: The object.
        what: What the caller calls it; used in the message.

    Returns:
        The copy.

    Raises:
        ConfigError: If it holds something that JSON has not, such as NaN or a path.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} must hold JSON values only: {error}.") from None
    return copy


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a zarr.json with its checksum among the attributes."""
    attributes = {k: v for k, v in document["attributes"].items() if k != CHECKSUM}
    rest = {**document, "attributes": attributes}
    return {**rest, "attributes": {**attributes, CHECKSUM: artifact.content_hash(rest)}}

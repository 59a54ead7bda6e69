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
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from selectkit import artifact
from selectkit.errors import CacheError, ConfigError

FORMAT_VERSION = 1
CHECKSUM = "selectkit_checksum"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


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


def write_zarr(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `folder`/zarr.json atomically, unless it already says the same."""
    data = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    target = folder / "zarr.json"
    if not (target.is_file() and target.read_bytes() == data):
        artifact.write_bytes(target, data)
        sync_folder(folder)


def read_zarr(folder: Path) -> dict[str, Any]:
    """Read `folder`/zarr.json and check its own checksum.

    Args:
        folder: The group or array.

    Returns:
        The document, checksum included.

    Raises:
        CacheError: If it is missing, no JSON, or not what was written.
    """
    document = read_json(folder / "zarr.json")
    attributes = document.get("attributes")
    intact = isinstance(attributes, dict) and document == sealed(document)
    if not intact:
        raise CacheError(
            f"{folder / 'zarr.json'} is damaged: its checksum does not match. "
            "Restore it from a copy, or extract into another store."
        )
    return document


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        CacheError: If the file is missing, unreadable or holds something else.
    """
    return _parse(path, _read(path))


def _read(path: str | Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return b"".join(iter(partial(os.read, handle, 1 << 20), b""))
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise CacheError(
            f"{path} is missing. Run `selectkit verify` to see what else is."
        ) from None
    except OSError as error:
        raise CacheError(f"{path} is damaged: not readable as JSON ({error}).") from None


def _parse(path: str | Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{path} is damaged: not readable as JSON ({error}).") from None
    if not isinstance(document, dict):
        raise CacheError(f"{path} is damaged: it holds no JSON object.")
    return document


def read_sealed(path: str | Path) -> tuple[dict[str, Any], bool]:
    """Read a JSON object with a field "checksum", the content hash of its other fields.

    Args:
        path: The file.

    Returns:
        The object, and whether the checksum matches.

    Raises:
        CacheError: If the file is missing, unreadable or holds something else.
    """
    data = _read(path)
    if data[85:86] == b"," and data.endswith(b"}\n"):  # written by us: it can be hashed as it is
        digest = hashlib.sha256(b"{" + data[86:-1]).hexdigest()
        if data[:85] == f'{{"checksum":"sha256:{digest}"'.encode():
            document: dict[str, Any] = json.loads(data)
            return document, True
    document = _parse(path, data)
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


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name; none when it does not exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(e.name for e in entries if e.is_dir())]


def stale_temporaries(folder: Path) -> list[Path]:
    """Return the files that an interrupted atomic write left in a folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [folder / e.name for e in entries if _TEMPORARY.fullmatch(e.name) and e.is_file()]


def clean(folder: Path) -> None:
    """Remove what an interrupted atomic write left in a folder. Only for the one writer."""
    for path in stale_temporaries(folder):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a zarr.json with its checksum among the attributes."""
    attributes = {k: v for k, v in document["attributes"].items() if k != CHECKSUM}
    rest = {**document, "attributes": attributes}
    return {**rest, "attributes": {**attributes, CHECKSUM: artifact.content_hash(rest)}}

"""Artifacts on disk: JSON documents and safetensors, written atomically, checked both ways.

A document carries `kind` and `format_version` and must match `<kind>.v<version>.schema.json` in
`schemas/`. Arrays live beside it in a safetensors file whose SHA-256 the document carries.
Nothing is pickled.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit import schemas
from selectkit.errors import ArtifactError

_UMASK = os.umask(0o022)  # reading it means setting it: once, before there are threads
os.umask(_UMASK)
_FILE_MODE = 0o666 & ~_UMASK

Tensors = Mapping[str, npt.NDArray[Any]]


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: temporary file in the same folder, fsync, rename.

    Args:
        path: Target; an existing file is replaced as a whole.
        data: The new content.

    Raises:
        OSError: If the folder cannot be written; the old file is then untouched.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_FILE_MODE)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say where
        raise


def json_values(value: Any) -> Any:
    """Return nested plain values as JSON has them: lists, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {key: json_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if isfinite(value) else None
    return value


def content_hash(content: bytes | object) -> str:
    """Return "sha256:<hex>" of bytes, or of the canonical JSON of any other value."""
    data = content if isinstance(content, bytes) else canonical_json(content)
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(document: object) -> bytes:
    """Return compact UTF-8 JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def save(path: Path, kind: str, document: Mapping[str, Any], tensors: Tensors | None = None) -> str:
    """Write one artifact; with tensors, `<stem>.safetensors` is written beside it first.

    Args:
        path: Where the JSON goes, for instance `run/head.json`.
        kind: Artifact kind, names the schema. The newest version of the kind is written.
        document: The fields besides `kind`, `format_version` and `tensors`.
        tensors: Arrays by name, or None when the kind has none.

    Returns:
        The content hash of the JSON document, "sha256:<hex>".

    Raises:
        ArtifactError: If the document breaks its schema; nothing is written then.
    """
    full: dict[str, Any] = {"kind": kind, "format_version": 1, **document}
    data = None
    if tensors is not None:
        from safetensors.numpy import save as to_bytes

        data = to_bytes({name: np.ascontiguousarray(a) for name, a in sorted(tensors.items())})
        full["tensors"] = content_hash(data)
    schemas.validate(full, path.name)
    if data is not None:
        write_bytes(path.with_suffix(".safetensors"), data)
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())
    return content_hash(full)


def load(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read one artifact and check its kind, version, schema and tensor hash.

    Args:
        path: The JSON file.
        kind: The kind it must be.

    Returns:
        The whole document, and the tensors by name (empty when the document names none).

    Raises:
        ArtifactError: If a file is missing, damaged, of another kind or of an unknown version.
    """
    document = _read_document(path)
    schemas.validate(document, str(path))
    if document["kind"] != kind:
        raise ArtifactError(f"{path} is a {document['kind']!r} artifact; expected {kind!r}.")
    if "tensors" not in document:
        return document, {}
    weights = path.with_suffix(".safetensors")
    if not weights.is_file():
        raise ArtifactError(f"{weights} is missing: {path.name} needs it. Restore it or fit again.")
    data = weights.read_bytes()
    if content_hash(data) != document["tensors"]:
        raise ArtifactError(
            f"{weights} is not the file {path.name} was written with (hash differs). Fit again."
        )
    from safetensors.numpy import load as from_bytes

    return document, from_bytes(data)


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {type(document).__name__}.")
    return document

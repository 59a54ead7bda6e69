"""The state of an unfinished training, in one safetensors file whose header carries the JSON.

One file, written to a temporary name and renamed: a checkpoint is the old one or the new one. The
document matches `fit_checkpoint.v1.schema.json`; nothing is pickled.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selectkit import schemas
from selectkit.artifact import write_bytes
from selectkit.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

_KIND = "fit_checkpoint"


def save(path: Path, document: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> None:
    """Write a checkpoint, replacing the one before.

    Args:
        path: The file.
        document: Fields besides `kind` and `format_version`.
        tensors: Tensors by name, on any device.

    Raises:
        OSError: If the folder cannot be written; the old checkpoint is then untouched.
    """
    from safetensors.torch import save as to_bytes

    full = {"kind": _KIND, "format_version": 1, **document}
    schemas.validate(full, path.name)
    on_cpu = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_bytes(path, to_bytes(on_cpu, {"document": json.dumps(full, allow_nan=False)}))


def load(path: Path, fit: str) -> "tuple[dict[str, Any], dict[str, Tensor]] | None":
    """Read a checkpoint.

    Args:
        path: The file; there may be none yet.
        fit: Fingerprint of settings and data that the checkpoint must have.

    Returns:
        Document and tensors, or None when there is no file.

    Raises:
        ArtifactError: If the file is damaged or belongs to another fit.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})["document"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a readable checkpoint ({error}). Delete it to start from the beginning."
        ) from None
    schemas.validate(document, str(path))
    if document["kind"] != _KIND:
        raise ArtifactError(f"{path} is a {document['kind']!r} artifact; expected {_KIND!r}.")
    if document["fit"] != fit:
        raise ArtifactError(
            f"{path} belongs to a fit with other settings, data or version of torch. "
            "Delete it to start from the beginning, or name another file."
        )
    return document, tensors

"""The parts of `score.json` that fitted scores share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError


def document_of(kind: str, n_features: int, n_train: int, **settings: float) -> dict[str, Any]:
    """Return a score's own fields of its JSON document."""
    return {"type": kind, "n_features": n_features, "n_train": n_train, "settings": settings}


def read(
    document: Mapping[str, Any],
    tensors: Tensors,
    kind: str,
    shapes: Mapping[str, tuple[int | None, ...]],
    *settings: str,
) -> tuple[dict[str, npt.NDArray[np.float64]], list[float]]:
    """Return the tensors and settings that a score needs.

    Args:
        document: The JSON fields.
        tensors: Arrays by name.
        kind: The score, for messages.
        shapes: Names and shapes of the tensors; None stands for any size above zero.
        *settings: Names of the settings.

    Returns:
        The tensors in float64, and the settings in order.

    Raises:
        ArtifactError: If one is missing, malformed or not finite.
    """
    out = {}
    for name, shape in shapes.items():
        array = np.asarray(tensors[name]) if name in tensors else None
        if array is None or not _fits(array.shape, shape) or not np.isfinite(array).all():
            got = "none" if array is None else f"shape {array.shape}"
            raise ArtifactError(
                f"the score {kind} needs a finite tensor {name!r} of shape {shape}, got {got}. "
                "Calibrate again."
            )
        out[name] = array.astype(np.float64)
    try:
        values = [float(document["settings"][name]) for name in settings]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the document of the score {kind} is malformed: {error}. Calibrate again."
        ) from None
    return out, values


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        a == b if b is not None else a > 0 for a, b in zip(shape, wanted, strict=True)
    )

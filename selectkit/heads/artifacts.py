"""The parts of `head.json` that both heads share. The rest is added by whoever knows the split."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError


def document_of(
    kind: str, n_features: int, n_classes: int, training: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the head's own fields of its JSON document."""
    return {
        "type": kind,
        "n_features": n_features,
        "n_classes": n_classes,
        "training": dict(training),
    }


def read_tensors(
    tensors: Tensors, shapes: Mapping[str, tuple[int, ...]], kind: str
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the tensors a head needs, as float64.

    Args:
        tensors: Arrays by name.
        shapes: The names and shapes they must have.
        kind: Head kind for the message.

    Returns:
        The named tensors.

    Raises:
        ArtifactError: If one is missing, has another shape, or holds NaN or infinity.
    """
    out = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise ArtifactError(f"the {kind} head lacks the tensor {name!r}. Fit it again.")
        array = np.asarray(tensors[name])
        if array.shape != shape:
            raise ArtifactError(
                f"tensor {name!r} of the {kind} head must have shape {shape}, got {array.shape}. "
                "Fit it again."
            )
        if not np.isfinite(array).all():
            raise ArtifactError(f"tensor {name!r} of the {kind} head is not finite. Fit it again.")
        out[name] = array.astype(np.float64)
    return out


@contextmanager
def reading(kind: str) -> Iterator[None]:
    """Turn a missing or malformed field met inside the block into an `ArtifactError`.

    Args:
        kind: Head kind for the message.

    Yields:
        Nothing.

    Raises:
        ArtifactError: In place of KeyError, TypeError or ValueError.
    """
    try:
        yield
    except ArtifactError:
        raise
    except KeyError as error:
        raise ArtifactError(
            f"the document of the {kind} head lacks {error.args[0]!r}. Fit it again."
        ) from None
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"the document of the {kind} head is malformed: {error}. Fit it again."
        ) from None

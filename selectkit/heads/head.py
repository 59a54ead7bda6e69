"""What every head offers, and how a stored head is read back."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from selectkit.arrays import ArrayLike
from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError
from selectkit.heads.abstain import AbstainHead
from selectkit.heads.knn import KnnHead
from selectkit.heads.linear import LinearHead
from selectkit.heads.mlp import MlpHead
from selectkit.heads.prototype import PrototypeHead
from selectkit.heads.ridge import RidgeHead
from selectkit.heads.rows import Float64s
from selectkit.heads.three import ThreeHead


class Head(Protocol):
    """Maps features (N, D) to logits (N, K)."""

    kind: ClassVar[str]

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits, float64, row by row."""
        ...

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return document fields and tensors that `load` reads back."""
        ...


class _Kind(Protocol):
    kind: ClassVar[str]

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Head:
        """Rebuild a head."""
        ...


_KINDS: tuple[type[_Kind], ...] = (
    LinearHead, MlpHead, ThreeHead, AbstainHead, RidgeHead, PrototypeHead, KnnHead,
)  # fmt: skip


def load(document: Mapping[str, Any], tensors: Tensors) -> Head:
    """Rebuild the head that a document describes.

    Args:
        document: The JSON of a head, with `type`, `n_features`, `n_classes` and `training`.
        tensors: The arrays stored beside it.

    Returns:
        The head.

    Raises:
        ArtifactError: If the type is unknown, or a field or a tensor is missing or wrong.
    """
    for head in _KINDS:
        if document.get("type") == head.kind:
            return head.from_artifact(document, tensors)
    known = ", ".join(head.kind for head in _KINDS)
    raise ArtifactError(
        f"head type {document.get('type')!r} is unknown to this release; known: {known}."
    )

"""How far a row lies outside the subspace in which the training rows vary most.

Source: Wang, Li, Feng and Zhang 2022, "ViM: Out-of-distribution with virtual-logit matching",
https://arxiv.org/abs/2203.10807, sections 4.1 to 4.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import Floats
from selectkit.artifact import Tensors
from selectkit.blocks import by_blocks
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores.artifacts import document_of, read
from selectkit.policies.scores.plain import energy
from selectkit.policies.scores.score import Float64s, TrainRows, features_of
from selectkit.threads import blas_threads_for


def principal_dimensions(n_features: int) -> int:
    """Return D', the size of the principal subspace: the authors' choices by D.

    Args:
        n_features: D.

    Returns:
        1000 from D = 2048, 512 from D = 768, and half of D below.
    """
    if n_features >= 2048:
        return 1000
    return 512 if n_features >= 768 else n_features // 2


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """-||R'(x - origin)||, R the directions in which the training rows vary least.

    Attributes:
        origin: Shape (D,): where a linear classifier's logits are all alike, -(W')^+ b; the mean of
            the training rows for other heads.
        directions: R, shape (D, D - D'), orthonormal.
        n_train: Training rows, labelled or not.
    """

    kind: ClassVar[str] = "residual"
    origin: Float64s
    directions: Float64s
    n_train: int

    @classmethod
    def fit(cls, train: TrainRows) -> Self:
        """Take the eigenvectors with the smallest second moments about the origin.

        Args:
            train: Features and, when there is one, the linear classifier are used.

        Returns:
            The score.
        """
        d = train.features.shape[1]
        origin = None if train.classifier is None else _alike(*train.classifier)
        with blas_threads_for(2048.0 * d * d):
            mean, second = train.moments(origin)
            vectors = np.linalg.eigh(second)[1]  # eigenvalues ascend
        least = np.ascontiguousarray(vectors[:, : d - principal_dimensions(d)])
        return cls(mean if origin is None else origin, least, len(train.features))

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return minus the length of the residual, at most zero.

        Args:
            outputs: Features are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If there are no features, or none that fit.
        """
        return -self.lengths(features_of(outputs, len(self.origin), self.kind))

    def lengths(self, features: Floats) -> Float64s:
        """Return ||R'(x - origin)|| of checked features (N, D), shape (N,)."""

        def rows(block: Float64s) -> Float64s:
            u = (block - self.origin) @ self.directions
            return np.asarray(np.sqrt(np.einsum("nd,nd->n", u, u))[:, np.newaxis])

        with blas_threads_for(64.0 * features.shape[1] ** 2):
            return by_blocks(features, rows, 1)[:, 0]

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the score's own document fields, and its tensors."""
        fields = document_of(self.kind, len(self.origin), self.n_train)
        return fields, {"origin": self.origin, "directions": self.directions}

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild a score from what `to_artifact` returned.

        Args:
            document: The JSON fields; others than the score's own are ignored.
            tensors: The arrays by name.

        Returns:
            A score whose values equal the original's exactly.

        Raises:
            ArtifactError: If a field or a tensor is missing or of the wrong shape.
        """
        arrays, _ = read(document, tensors, cls.kind, _shapes(document))
        return cls(**arrays, n_train=int(document["n_train"]))


@dataclass(frozen=True, slots=True, eq=False)
class Vim:
    """logsumexp(logits) - alpha ||R'(x - origin)||: energy against one virtual logit.

    The paper's score is minus the softmax probability of the virtual logit alpha ||...||. Its
    log-odds is the above with its sign turned: the same order, without saturating.

    Attributes:
        residual: The length outside the principal subspace.
        alpha: Sum of the largest logits over the sum of the residuals, both over train.
    """

    kind: ClassVar[str] = "vim"
    residual: Residual
    alpha: float

    @classmethod
    def fit(cls, train: TrainRows) -> Self:
        """Fit the residual, and scale it like the largest logits.

        Args:
            train: Features, logits and, when there is one, the linear classifier are used.

        Returns:
            The score.
        """
        residual = Residual.fit(train)
        lengths = float(residual.lengths(train.features).sum())
        largest = float(train.logits.max(axis=1).sum())
        return cls(residual, max(largest, 0.0) / lengths if lengths > 0 else 0.0)

    def __call__(self, outputs: Outputs) -> Float64s:
        """Return the energy less the virtual logit.

        Args:
            outputs: Features and logits are used.

        Returns:
            Shape (N,).

        Raises:
            DataError: If there are no features, or none that fit.
        """
        x = features_of(outputs, len(self.residual.origin), self.kind)
        return energy(outputs) - self.alpha * self.residual.lengths(x)

    def to_artifact(self) -> tuple[dict[str, Any], Tensors]:
        """Return the score's own document fields, and its tensors."""
        _, tensors = self.residual.to_artifact()
        n_features, n_train = len(self.residual.origin), self.residual.n_train
        return document_of(self.kind, n_features, n_train, alpha=self.alpha), tensors

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild a score from what `to_artifact` returned.

        Args:
            document: The JSON fields; others than the score's own are ignored.
            tensors: The arrays by name.

        Returns:
            A score whose values equal the original's exactly.

        Raises:
            ArtifactError: If a field or a tensor is missing or of the wrong shape.
        """
        arrays, (alpha,) = read(document, tensors, cls.kind, _shapes(document), "alpha")
        return cls(Residual(**arrays, n_train=int(document["n_train"])), alpha)


def _shapes(document: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    d = document["n_features"]
    return {"origin": (d,), "directions": (d, d - principal_dimensions(d))}


def _alike(weights: Float64s, bias: Float64s) -> Float64s:
    """-(W')^+ b over the classes that have weights; W is often of rank K - 1."""
    used = weights.any(axis=0)
    return np.asarray(-np.linalg.pinv(weights[:, used].T, rcond=1e-9) @ bias[used])

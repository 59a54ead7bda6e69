"""SelectiveNet's three heads on one trunk: a classifier, a gate, an auxiliary classifier.

Trained with torch (`selectkit.heads.fitting`), used without it. The gate's logit is a score to be
thresholded on held-out data; published evidence (Feng et al. 2023, https://arxiv.org/abs/2206.09034)
says that the largest softmax probability of the same classifier is often the better score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from selectkit.arrays import ArrayLike, Ints
from selectkit.artifact import Tensors
from selectkit.heads.artifacts import document_of, reading
from selectkit.heads.fitting import fit_many, only, unnumbered
from selectkit.heads.network import Layer, Network
from selectkit.heads.rows import Float64s, all_classes
from selectkit.heads.trained import (
    Assembly,
    Criterion,
    negative_log_likelihood,
    read_trained,
    spread_logits,
    training_fields,
)
from selectkit.heads.training.batches import WORKING_SET
from selectkit.heads.training.recipe import Epoch, Recipe
from selectkit.heads.training.selective import SelectiveNet
from selectkit.heads.training.source import FeatureRows


@dataclass(frozen=True, slots=True, eq=False)
class ThreeHead:
    """Classifier (K), gate (1) and auxiliary classifier (K) on a shared trunk D -> hidden (GELU).

    With `hidden = None` all three are linear in the features. N rows, D features, K classes.

    Attributes:
        network: Standardisation, trunk, and a last layer of K + 1 + K outputs in that order;
            float64 with values that float32 can hold.
        recipe: The settings it was trained with.
        history: One entry per epoch.
        n_train: Labelled training rows.
    """

    kind: ClassVar[str] = "three"
    losses: ClassVar[tuple[type, ...]] = (SelectiveNet,)
    network: Network
    recipe: Recipe
    history: tuple[Epoch, ...]
    n_train: int

    @classmethod
    def fit(
        cls,
        features: FeatureRows,
        labels: ArrayLike,
        *,
        select: tuple[FeatureRows, ArrayLike],
        n_classes: int,
        recipe: Recipe = Recipe(loss=SelectiveNet()),  # noqa: B008 # frozen
        criterion: Criterion = negative_log_likelihood,
        on_epoch: Callable[[Epoch], None] | None = None,
        checkpoint: Path | None = None,
        device: str = "cpu",
        working_set: int = WORKING_SET,
    ) -> Self:
        """Train one head; `fit_many` says what every argument means and trains several at once.

        Args:
            features: Shape (N, D), finite; arrays, memory-mapped arrays, lazily read rows.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels for early stopping.
            n_classes: K; at least 2 of them must occur in `labels`.
            recipe: The settings; its loss is `SelectiveNet`.
            criterion: Maps logits (M, K), labels (M,) and gate logits (M,) of `select` to a
                number, lower is better.
            on_epoch: Called with each finished `Epoch`.
            checkpoint: File that an interrupted training goes on from.
            device: "cpu" or a CUDA device.
            working_set: Bytes of features to keep in memory.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, only one class occurs, the loss
                stops being finite, or the criterion is never finite.
            ConfigError: If the recipe is not one for this head.
            ArtifactError: If the checkpoint is damaged or belongs to another fit.
        """
        fitted = fit_many(
            cls, features, labels, select=select, n_classes=n_classes, recipes=[recipe],
            criterion=criterion, on_epoch=unnumbered(on_epoch), checkpoint=checkpoint,
            device=device, working_set=working_set,
        )  # fmt: skip
        return only(fitted)

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits of rows, without torch; each row's answer is independent of the others.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, K), float64.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        return self.outputs(features)[0]

    def gate_logits(self, features: ArrayLike) -> Float64s:
        """Return the gate's logits, shape (N,), float64; higher = accept first. As `logits`.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N,); the gate is their sigmoid.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        return self.outputs(features)[1]

    def outputs(self, features: ArrayLike) -> tuple[Float64s, Float64s, Float64s]:
        """Return logits (N, K), gate logits (N,) and auxiliary logits (N, K) in one pass.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            The three, float64.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        return _parts(self.network.outputs(features))

    def to_artifact(self) -> tuple[dict[str, Any], dict[str, Float64s]]:
        """Return the document fields that belong to the head, and its tensors."""
        training = training_fields(self.recipe, self.history, self.n_train)
        d, k = len(self.network.mean), (self.network.n_outputs - 1) // 2
        return document_of(self.kind, d, k, training), self.network.to_tensors()

    @classmethod
    def from_artifact(cls, document: Mapping[str, Any], tensors: Tensors) -> Self:
        """Rebuild a head from what `to_artifact` returned.

        Args:
            document: The JSON fields; others than the head's own are ignored.
            tensors: The arrays by name.

        Returns:
            A head whose logits equal the original's exactly.

        Raises:
            ArtifactError: If a field or a tensor is missing or of the wrong shape.
        """
        with reading(cls.kind):
            n_outputs = cls.outputs_for(document["n_classes"])
            return cls(*read_trained(document, tensors, cls.kind, n_outputs))

    @staticmethod
    def outputs_for(n_classes: int) -> int:
        """Return 2 K + 1."""
        return 2 * n_classes + 1

    @staticmethod
    def judged(outputs: Float64s, present: Ints, n_classes: int) -> tuple[Float64s, ...]:
        """Return the logits of all classes and the gate logits."""
        logits, gate, _ = _parts(outputs)
        return spread_logits(logits, present, n_classes), gate

    @classmethod
    def assembled(cls, assembly: Assembly) -> Self:
        """Return the head with outputs for all classes."""

        def spread(layer: Layer) -> Layer:
            of_rows = [_parts(array) for array in (layer[0], layer[1][np.newaxis])]
            classes, auxiliary = (
                all_classes(of_rows[0][i], of_rows[1][i][0], assembly.present, assembly.n_classes)
                for i in (0, 2)
            )
            gates = [rows[1][:, np.newaxis] for rows in of_rows]
            weights = np.concatenate([classes[0], gates[0], auxiliary[0]], axis=1)
            return weights, np.concatenate([classes[1], gates[1][0], auxiliary[1]])

        network = assembly.with_last_layer(spread)
        return cls(network, assembly.recipe, assembly.history, assembly.n_train)


def _parts(outputs: Float64s) -> tuple[Float64s, Float64s, Float64s]:
    """Columns of the classifier, the gate and the auxiliary classifier."""
    k = (outputs.shape[1] - 1) // 2
    return outputs[:, :k], outputs[:, k], outputs[:, k + 1 :]

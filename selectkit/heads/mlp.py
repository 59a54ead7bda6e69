"""A head with one hidden layer: D -> hidden (GELU) -> K, trained with torch, used without it.

Training: AdamW without decay on biases, linear warm-up and cosine decay, an exponential moving
average of the weights that is what is evaluated and kept, early stopping on held-out rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, ClassVar, Literal, Self

import numpy as np

from selectkit.arrays import ArrayLike, Floats, Ints, log_softmax
from selectkit.artifact import Tensors
from selectkit.heads.artifacts import document_of, read_tensors, reading
from selectkit.heads.rows import (
    ABSENT_LOGIT,
    Float64s,
    all_classes,
    by_blocks,
    feature_rows,
    labelled_rows,
    moments,
    present_classes,
    select_rows,
    standardised,
)
from selectkit.heads.training import Epoch, Recipe, train

Criterion = Callable[[Float64s, Ints], float]


def negative_log_likelihood(logits: Float64s, labels: Ints) -> float:
    """Mean negative log-likelihood in nats, the default criterion of early stopping.

    Args:
        logits: Shape (N, K).
        labels: Shape (N,), codes in [0, K).

    Returns:
        The mean over the rows; lower is better.
    """
    return float(-log_softmax(logits)[np.arange(len(logits)), labels].mean())


@dataclass(frozen=True, slots=True, eq=False)
class MlpHead:
    """Logits gelu(((x - mean) / scale) weights1 + bias1) weights2 + bias2.

    Sizes: N rows, D features, H hidden units, K classes. All arrays are float64 with values that
    float32 can hold (mean and scale excepted).

    Attributes:
        mean: Shape (D,), column means of the training rows.
        scale: Shape (D,), their standard deviations; 1 for a constant column.
        weights1: Shape (D, H).
        bias1: Shape (H,).
        weights2: Shape (H, K).
        bias2: Shape (K,).
        recipe: The settings it was trained with.
        history: One entry per epoch.
        n_train: Labelled training rows.
    """

    kind: ClassVar[str] = "mlp"
    mean: Float64s
    scale: Float64s
    weights1: Float64s
    bias1: Float64s
    weights2: Float64s
    bias2: Float64s
    recipe: Recipe
    history: tuple[Epoch, ...]
    n_train: int

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        labels: ArrayLike,
        *,
        select: tuple[ArrayLike, ArrayLike],
        n_classes: int,
        hidden: int = 768,
        epochs: int = 50,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 512,
        patience: int = 10,
        class_weights: Literal["balanced"] | None = None,
        seed: int = 0,
        criterion: Criterion = negative_log_likelihood,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Train on the CPU; on one machine, equal arguments give equal weights.

        After each epoch the averaged weights are judged on `select`; the best are kept, and
        training ends after `patience` epochs without a better value. torch's global random state
        is neither read nor changed.

        A class without training rows keeps a logit of -50, which no other logit of the row can
        be far below: the largest is at least zero. Rows of `select` in such a class are left out.

        Args:
            features: Shape (N, D), finite.
            labels: Shape (N,), codes in [0, K); -1 (unlabelled) rows are left out.
            select: Features and labels for early stopping.
            n_classes: K; at least 2 of them must occur in `labels`.
            hidden: H.
            epochs: Most passes over the training rows.
            learning_rate: Peak learning rate of AdamW.
            weight_decay: Decoupled decay of the two weight matrices.
            batch_size: Rows per step; the last batch of an epoch may be smaller.
            patience: Epochs without improvement before training ends.
            class_weights: "balanced" weighs row i by N / (K n_class(i)) in the loss.
            seed: Seed of the initial weights and of the order of rows.
            criterion: Maps float64 logits (M, K) and labels (M,) of `select` to a number; lower
                is better, and what is not finite never wins.
            on_epoch: Called with each finished `Epoch`.

        Returns:
            The fitted head.

        Raises:
            DataError: If an array is wrong, no row is labelled, only one class occurs, the loss
                stops being finite, or the criterion is never finite.
            ConfigError: If a setting is out of range.
        """
        recipe = Recipe(
            hidden, epochs, learning_rate, weight_decay, batch_size, patience, class_weights, seed
        )
        x, y = labelled_rows(features, labels, n_classes, "train")
        present = present_classes(y)
        x_select, y_select = select_rows(
            select, present, n_features=x.shape[1], n_classes=n_classes
        )
        mean, scale = moments(x)

        def judge(outputs: Floats) -> float:
            centred = outputs.astype(np.float64)
            centred -= centred.mean(axis=1, keepdims=True)
            logits = np.full((len(centred), n_classes), ABSENT_LOGIT)
            logits[:, present] = centred
            return criterion(logits, y_select)

        weights, history = train(
            standardised(x, mean, scale, np.float32),
            np.searchsorted(present, y),
            standardised(x_select, mean, scale, np.float32),
            judge=judge,
            recipe=recipe,
            on_epoch=on_epoch,
        )
        weights1, bias1, inner_weights2, inner_bias2 = (w.astype(np.float64) for w in weights)
        weights2, bias2 = all_classes(inner_weights2, inner_bias2, present, n_classes)
        return cls(mean, scale, weights1, bias1, weights2, bias2, recipe, history, len(y))

    def logits(self, features: ArrayLike) -> Float64s:
        """Return the logits of rows, without torch; each row's answer is independent of the others.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, K), float64.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        x = feature_rows(features, "features", len(self.mean))

        def rows(block: Float64s) -> Float64s:
            u = ((block - self.mean) / self.scale) @ self.weights1 + self.bias1
            return np.asarray(gelu(u) @ self.weights2 + self.bias2)

        return by_blocks(x, rows, len(self.bias2))

    def to_artifact(self) -> tuple[dict[str, Any], dict[str, Float64s]]:
        """Return the document fields that belong to the head, and its tensors."""
        training = {
            **asdict(self.recipe),
            "history": [asdict(epoch) for epoch in self.history],
            "n_train": self.n_train,
        }
        names = ("mean", "scale", "weights1", "bias1", "weights2", "bias2")
        tensors = {name: getattr(self, name) for name in names}
        return document_of(self.kind, len(self.mean), len(self.bias2), training), tensors

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
            d, k = document["n_features"], document["n_classes"]
            training = dict(document["training"])
            history = tuple(Epoch(**epoch) for epoch in training.pop("history"))
            n_train = int(training.pop("n_train"))
            recipe = Recipe(**{name: training[name] for name in Recipe.__dataclass_fields__})
            h = recipe.hidden
            shapes = {
                "mean": (d,),
                "scale": (d,),
                "weights1": (d, h),
                "bias1": (h,),
                "weights2": (h, k),
                "bias2": (k,),
            }
            arrays = read_tensors(tensors, shapes, cls.kind)
            return cls(**arrays, recipe=recipe, history=history, n_train=n_train)


def gelu(u: Floats) -> Float64s:
    """Exact GELU, u Phi(u) (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)."""
    from scipy.special import erf

    return np.asarray(0.5 * u * (1 + erf(u / sqrt(2))))

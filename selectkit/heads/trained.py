"""What a trained head says of itself, so that it can be fitted, written and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Ints, log_softmax
from selectkit.artifact import Tensors
from selectkit.heads.network import Layer, Network
from selectkit.heads.rows import ABSENT_LOGIT, Float64s
from selectkit.heads.training.recipe import Epoch, Recipe

Criterion = Callable[..., float]
"""Maps logits (M, K), labels (M,) and, for heads that have a gate, gate logits (M,) of the select
rows to a number; lower is better, and what is not finite never wins."""


def negative_log_likelihood(
    logits: Float64s, labels: Ints, gate_logits: Float64s | None = None
) -> float:
    """Mean negative log-likelihood in nats, the default criterion of early stopping.

    Args:
        logits: Shape (N, K).
        labels: Shape (N,), codes in [0, K).
        gate_logits: Not looked at.

    Returns:
        The mean over the rows; lower is better.
    """
    return float(-log_softmax(logits)[np.arange(len(logits)), labels].mean())


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a trained head is made of.

    Attributes:
        network: Its outputs for the classes present in training.
        present: Codes of these P classes, (P,).
        n_classes: K.
        recipe: The settings.
        history: One entry per epoch.
        n_train: Labelled training rows.
    """

    network: Network
    present: npt.NDArray[np.int64]
    n_classes: int
    recipe: Recipe
    history: tuple[Epoch, ...]
    n_train: int

    def with_last_layer(self, spread: Callable[[Layer], Layer]) -> Network:
        """Return the network with its last layer changed."""
        layers = (*self.network.layers[:-1], spread(self.network.layers[-1]))
        return replace(self.network, layers=layers)


class TrainedHead(Protocol):
    """What a head says of itself so that `fit_many` can fit it."""

    kind: ClassVar[str]
    losses: ClassVar[tuple[type, ...]]

    @staticmethod
    def outputs_for(n_classes: int) -> int:
        """Return the number of network outputs for so many classes."""
        ...

    @staticmethod
    def judged(outputs: Float64s, present: Ints, n_classes: int) -> tuple[Float64s, ...]:
        """Return logits (N, K), and gate logits (N,) if it has a gate, of network outputs."""
        ...

    @classmethod
    def assembled(cls, assembly: Assembly) -> Self:
        """Return the finished head."""
        ...


def spread_logits(outputs: Float64s, present: Ints, n_classes: int) -> Float64s:
    """Return centred logits of all K classes of the outputs of the present ones, (N, K)."""
    logits = np.full((len(outputs), n_classes), ABSENT_LOGIT)
    logits[:, present] = outputs - outputs.mean(axis=1, keepdims=True)
    return logits


def training_fields(recipe: Recipe, history: Sequence[Epoch], n_train: int) -> dict[str, Any]:
    """Return what a head's document says of its training."""
    return {
        **recipe.to_dict(),
        "history": [asdict(epoch) for epoch in history],
        "n_train": n_train,
    }


def read_trained(
    document: Mapping[str, Any], tensors: Tensors, kind: str, n_outputs: int
) -> tuple[Network, Recipe, tuple[Epoch, ...], int]:
    """Return network, recipe, history and number of training rows of a head that was written.

    Args:
        document: The JSON fields, of this or an older release.
        tensors: The arrays by name.
        kind: Of the head.
        n_outputs: Outputs of its network.

    Returns:
        The four.

    Raises:
        ArtifactError: If a tensor is missing or of the wrong shape.
        KeyError: If a field is missing.
    """
    training = document["training"]
    history = tuple(Epoch(**epoch) for epoch in training["history"])
    recipe, n_train = Recipe.from_dict(training), int(training["n_train"])
    hidden = [] if recipe.hidden is None else [recipe.hidden]
    network = Network.from_tensors(tensors, [document["n_features"], *hidden, n_outputs], kind)
    return network, recipe, history, n_train

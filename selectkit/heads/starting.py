"""Networks to go on training from: those of heads that are fitted already."""

from typing import Any

import numpy as np

from selectkit.arrays import Ints
from selectkit.errors import ConfigError
from selectkit.heads.linear import LinearHead
from selectkit.heads.network import Network
from selectkit.heads.rows import Float64s
from selectkit.heads.training.batches import Scaling


def starting_network(head: Any) -> Network:
    """Return the network of a head.

    Args:
        head: A linear or an mlp head.

    Returns:
        Its standardisation and layers; no hidden layer for a linear head.

    Raises:
        ConfigError: If the head is of another kind.
    """
    from selectkit.heads.mlp import MlpHead

    if isinstance(head, LinearHead):
        return Network(head.mean, head.scale, ((head.weights, head.bias),))
    if isinstance(head, MlpHead):
        return head.network
    raise ConfigError(f"fine-tuning starts from a linear or an mlp head, not from {head.kind}.")


def hidden_of(network: Network) -> int | None:
    """Return the number of hidden units, None without a hidden layer."""
    return None if len(network.layers) == 1 else len(network.layers[0][1])


def weights_under(network: Network, scaling: Scaling, present: Ints) -> list[Float64s]:
    """Return weights that give a network's outputs when rows are standardised in another way.

    Args:
        network: D features, outputs for all K classes.
        scaling: How the rows will be standardised.
        present: Codes of the P classes whose outputs are wanted.

    Returns:
        Per layer weights (in, out) and bias (out,); the last has P outputs.
    """
    (weights, bias), *rest = network.layers
    ratio = scaling.scale / network.scale
    shift = (scaling.mean - network.mean) / network.scale
    layers = [(weights * ratio[:, np.newaxis], bias + shift @ weights), *rest]
    weights, bias = layers[-1]
    layers[-1] = weights[:, present], bias[present]
    return [array for layer in layers for array in layer]

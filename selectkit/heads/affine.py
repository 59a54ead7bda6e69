"""The weights of heads that are linear in the features, for scores that look at them."""

from selectkit.heads.abstain import AbstainHead
from selectkit.heads.head import Head
from selectkit.heads.linear import LinearHead
from selectkit.heads.mlp import MlpHead
from selectkit.heads.ridge import RidgeHead
from selectkit.heads.rows import Float64s
from selectkit.heads.three import ThreeHead


def affine_of(head: Head, n_classes: int) -> tuple[Float64s, Float64s] | None:
    """Return weights and bias with logits = features weights + bias.

    Args:
        head: Any head.
        n_classes: K.

    Returns:
        Weights (D, K) and bias (K,) in units of the features as they are cached, or None when the
        head is not linear in them.
    """
    if isinstance(head, LinearHead | RidgeHead):
        mean, scale, weights, bias = head.mean, head.scale, head.weights, head.bias
    elif isinstance(head, MlpHead | ThreeHead | AbstainHead) and len(head.network.layers) == 1:
        mean, scale = head.network.mean, head.network.scale
        weights, bias = (part[..., :n_classes] for part in head.network.layers[0])
    else:
        return None
    weights = weights / scale[:, None]
    return weights, bias - mean @ weights

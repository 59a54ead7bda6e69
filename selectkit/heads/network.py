"""A trained network without torch: standardise, then one or two layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Self

import numpy as np

from selectkit.arrays import ArrayLike, Floats
from selectkit.artifact import Tensors
from selectkit.heads.artifacts import read_tensors
from selectkit.heads.rows import Float64s, by_blocks, feature_rows

Layer = tuple[Float64s, Float64s]
"""Weights (in, out) and bias (out,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Outputs gelu(z weights1 + bias1) weights2 + bias2, or z weights1 + bias1; z standardised x.

    Attributes:
        mean: Shape (D,), column means of the training rows.
        scale: Shape (D,), their standard deviations; 1 for a constant column.
        layers: One or two layers.
    """

    mean: Float64s
    scale: Float64s
    layers: tuple[Layer, ...]

    @property
    def n_outputs(self) -> int:
        """O."""
        return len(self.layers[-1][1])

    def outputs(self, features: ArrayLike) -> Float64s:
        """Return the outputs of rows; each row's answer is independent of the other rows.

        Args:
            features: Shape (N, D), finite, any real dtype.

        Returns:
            Shape (N, O), float64.

        Raises:
            DataError: If the shape is wrong or an entry is not finite.
        """
        x = feature_rows(features, "features", len(self.mean))

        def rows(block: Float64s) -> Float64s:
            z = (block - self.mean) / self.scale
            for weights, bias in self.layers[:-1]:
                z = gelu(z @ weights + bias)
            weights, bias = self.layers[-1]
            return np.asarray(z @ weights + bias)

        return by_blocks(x, rows, self.n_outputs)

    def to_tensors(self) -> dict[str, Float64s]:
        """Return the arrays by the names they have on disk."""
        tensors = {"mean": self.mean, "scale": self.scale}
        for i, (weights, bias) in enumerate(self.layers, start=1):
            tensors |= {f"weights{i}": weights, f"bias{i}": bias}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Tensors, sizes: Sequence[int], kind: str) -> Self:
        """Rebuild a network from what `to_tensors` returned.

        Args:
            tensors: Arrays by name.
            sizes: D, the hidden units if there are any, O.
            kind: Head kind for messages.

        Returns:
            The network.

        Raises:
            ArtifactError: If a tensor is missing, of the wrong shape or not finite.
        """
        shapes: dict[str, tuple[int, ...]] = {"mean": (sizes[0],), "scale": (sizes[0],)}
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            shapes |= {f"weights{i}": (fan_in, fan_out), f"bias{i}": (fan_out,)}
        arrays = read_tensors(tensors, shapes, kind)
        layers = tuple((arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(1, len(sizes)))
        return cls(arrays["mean"], arrays["scale"], layers)


def gelu(u: Floats) -> Float64s:
    """Exact GELU, u Phi(u) (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)."""
    from scipy.special import erf

    return np.asarray(0.5 * u * (1 + erf(u / sqrt(2))))

"""Heads: features in, logits out. Fitting an MLP needs torch; using any head needs numpy only."""

from selectkit.heads.head import Head, load
from selectkit.heads.linear import STRENGTHS, LinearHead
from selectkit.heads.mlp import MlpHead, negative_log_likelihood
from selectkit.heads.training import Epoch, Recipe

__all__ = [
    "STRENGTHS",
    "Epoch",
    "Head",
    "LinearHead",
    "MlpHead",
    "Recipe",
    "load",
    "negative_log_likelihood",
]

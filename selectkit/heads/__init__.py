"""Heads: features in, logits out. Training networks needs torch; using any head needs numpy."""

from selectkit.heads.abstain import AbstainHead
from selectkit.heads.affine import affine_of
from selectkit.heads.fitting import fit_many
from selectkit.heads.head import Head, load
from selectkit.heads.knn import KnnHead
from selectkit.heads.linear import STRENGTHS, LinearHead
from selectkit.heads.mlp import MlpHead
from selectkit.heads.prototype import PrototypeHead
from selectkit.heads.ridge import RidgeHead
from selectkit.heads.starting import hidden_of, starting_network
from selectkit.heads.three import ThreeHead
from selectkit.heads.trained import Criterion, negative_log_likelihood
from selectkit.heads.training import (
    WORKING_SET,
    ConformalRisk,
    ConformalSets,
    CrossEntropy,
    Epoch,
    FeatureRows,
    Focal,
    Gamblers,
    LazyRows,
    Loss,
    Recipe,
    RowReader,
    SelectiveNet,
    SelfAdaptive,
    Sharpness,
)

__all__ = [
    "STRENGTHS",
    "WORKING_SET",
    "AbstainHead",
    "ConformalRisk",
    "ConformalSets",
    "Criterion",
    "CrossEntropy",
    "Epoch",
    "FeatureRows",
    "Focal",
    "Gamblers",
    "Head",
    "KnnHead",
    "LazyRows",
    "LinearHead",
    "Loss",
    "MlpHead",
    "PrototypeHead",
    "Recipe",
    "RidgeHead",
    "RowReader",
    "SelectiveNet",
    "SelfAdaptive",
    "Sharpness",
    "ThreeHead",
    "affine_of",
    "fit_many",
    "hidden_of",
    "load",
    "negative_log_likelihood",
    "starting_network",
]

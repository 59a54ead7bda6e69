"""Confidence scores: one number per row, higher = accept first.

Plain scores are functions of logits and probabilities. Fitted ones are frozen objects made by
`fit` from rows of `train` and nothing else; `gate` is a trained gate, calibrated on `val_select`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from selectkit.artifact import Tensors
from selectkit.errors import ArtifactError
from selectkit.policies.scores.gate import Gate
from selectkit.policies.scores.mahalanobis import Mahalanobis
from selectkit.policies.scores.neighbours import Neighbours
from selectkit.policies.scores.plain import energy, margin, max_logit, msp, neg_entropy
from selectkit.policies.scores.react import React
from selectkit.policies.scores.score import FittedScore, Score, TrainRows
from selectkit.policies.scores.subspace import Residual, Vim

OwnScore: TypeAlias = Gate | Mahalanobis | Neighbours | Vim | React | Residual
"""A score with numbers of its own, which a policy needs beside its name."""

SCORES: Mapping[str, Score] = MappingProxyType({
    "msp": msp,
    "margin": margin,
    "neg_entropy": neg_entropy,
    "energy": energy,
    "max_logit": max_logit,
})
"""Every plain score by the name used in settings and artifacts."""

FITTED: Mapping[str, type[Mahalanobis | Neighbours | Vim | React | Residual]] = MappingProxyType({
    "mahalanobis": Mahalanobis,
    "knn": Neighbours,
    "vim": Vim,
    "react": React,
    "residual": Residual,
})
"""Every score that is fitted on train, by name."""

NAMES: tuple[str, ...] = (*SCORES, Gate.kind, *FITTED)
"""Every score by name."""


def load(document: Mapping[str, Any], tensors: Tensors) -> OwnScore:
    """Rebuild the fitted score that a document describes.

    Args:
        document: The JSON of a score, with `type`, `n_features`, `n_train` and `settings`.
        tensors: The arrays stored beside it.

    Returns:
        The score.

    Raises:
        ArtifactError: If the type is unknown, or a field or a tensor is missing or wrong.
    """
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in FITTED:
        raise ArtifactError(
            f"score type {kind!r} is unknown to this release; known: {', '.join(FITTED)}."
        )
    return FITTED[kind].from_artifact(document, tensors)


__all__ = [
    "FITTED",
    "NAMES",
    "SCORES",
    "FittedScore",
    "Gate",
    "Mahalanobis",
    "Neighbours",
    "OwnScore",
    "React",
    "Residual",
    "Score",
    "TrainRows",
    "Vim",
    "energy",
    "load",
    "margin",
    "max_logit",
    "msp",
    "neg_entropy",
]

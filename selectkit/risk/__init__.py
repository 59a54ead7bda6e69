"""Thresholds with a finite-sample guarantee, and the honest answer when there is none."""

from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.ltt import (
    CertifiedGrid,
    certify_pvalues,
    learn_then_test,
    loss_pvalues,
    pareto_order,
    union_pvalues,
)
from selectkit.risk.threshold import certify_threshold

__all__ = [
    "Certificate",
    "CertifiedGrid",
    "Infeasible",
    "certify_pvalues",
    "certify_threshold",
    "labels_needed",
    "learn_then_test",
    "loss_pvalues",
    "pareto_order",
    "union_pvalues",
]

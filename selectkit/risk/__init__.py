"""Thresholds with a finite-sample guarantee, and the honest answer when there is none."""

from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.crc import crc_lambda, crc_threshold
from selectkit.risk.drift import DriftSignal, DriftWatch
from selectkit.risk.drift_mmd import MmdReference
from selectkit.risk.drift_scores import KsReference, PsiReference
from selectkit.risk.groups import GroupCertificates, certify_by_group
from selectkit.risk.joint import joint_certificate
from selectkit.risk.ltt import (
    CertifiedGrid,
    certify_pvalues,
    learn_then_test,
    loss_pvalues,
    pareto_order,
    union_pvalues,
)
from selectkit.risk.monitor import RiskMonitor
from selectkit.risk.scrc import scrc_t
from selectkit.risk.scrc_exits import certify_singletons
from selectkit.risk.scrc_losses import Misses
from selectkit.risk.scrc_reference import scrc_i
from selectkit.risk.scrc_result import SelectiveSets
from selectkit.risk.scrc_split import scrc_split_pac
from selectkit.risk.sgr import sgr
from selectkit.risk.threshold import certify_threshold

__all__ = [
    "Certificate",
    "CertifiedGrid",
    "DriftSignal",
    "DriftWatch",
    "GroupCertificates",
    "Infeasible",
    "KsReference",
    "Misses",
    "MmdReference",
    "PsiReference",
    "RiskMonitor",
    "SelectiveSets",
    "certify_by_group",
    "certify_pvalues",
    "certify_singletons",
    "certify_threshold",
    "crc_lambda",
    "crc_threshold",
    "joint_certificate",
    "labels_needed",
    "learn_then_test",
    "loss_pvalues",
    "pareto_order",
    "scrc_i",
    "scrc_split_pac",
    "scrc_t",
    "sgr",
    "union_pvalues",
]

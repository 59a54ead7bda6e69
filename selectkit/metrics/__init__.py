"""Metrics of selective and probabilistic classification, with intervals."""

from selectkit.metrics.analytic import compare_delong, delong
from selectkit.metrics.balanced import augrc_balanced, aurc_balanced
from selectkit.metrics.bootstrap import Interval, Statistics, bootstrap_statistics
from selectkit.metrics.calibration import (
    ReliabilityBins,
    adaptive_ece,
    classwise_ece,
    confidence_ece,
    debiased_squared_ece,
    ece,
    mce,
    reliability_bins,
)
from selectkit.metrics.comparison import (
    PairedComparison,
    compare_many,
    compare_paired,
    compare_statistics,
    holm,
)
from selectkit.metrics.curves import (
    RiskCoverageCurve,
    augrc,
    aurc,
    auroc_failure,
    e_augrc,
    e_aurc,
    optimal_augrc,
    optimal_aurc,
    risk_coverage_curve,
)
from selectkit.metrics.labels import (
    accuracy,
    auroc,
    balanced_accuracy,
    fnr,
    fpr,
    mcc,
    miss_rate,
)
from selectkit.metrics.null_level import NullLevel, calibration_null, ece_null_level
from selectkit.metrics.points import (
    WorkingPoint,
    coverage_at_risk,
    risk_at_coverage,
    working_points,
)
from selectkit.metrics.probability import probability_statistics
from selectkit.metrics.rates import cost_losses, label_intervals
from selectkit.metrics.resample import bootstrap_weights
from selectkit.metrics.scoring import BrierParts, brier, brier_parts, nll, nll_of_logits
from selectkit.metrics.smooth import SmoothReliability, smooth_ece, smooth_reliability
from selectkit.metrics.statistics import (
    auroc_statistics,
    balanced_statistics,
    bootstrap,
    curve_statistics,
    label_statistics,
    selective_metrics,
)
from selectkit.metrics.tables import GroupRow, group_table

__all__ = [
    "BrierParts",
    "GroupRow",
    "Interval",
    "NullLevel",
    "PairedComparison",
    "ReliabilityBins",
    "RiskCoverageCurve",
    "SmoothReliability",
    "Statistics",
    "WorkingPoint",
    "accuracy",
    "adaptive_ece",
    "augrc",
    "augrc_balanced",
    "aurc",
    "aurc_balanced",
    "auroc",
    "auroc_failure",
    "auroc_statistics",
    "balanced_accuracy",
    "balanced_statistics",
    "bootstrap",
    "bootstrap_statistics",
    "bootstrap_weights",
    "brier",
    "brier_parts",
    "calibration_null",
    "classwise_ece",
    "compare_delong",
    "compare_many",
    "compare_paired",
    "compare_statistics",
    "confidence_ece",
    "cost_losses",
    "coverage_at_risk",
    "curve_statistics",
    "debiased_squared_ece",
    "delong",
    "e_augrc",
    "e_aurc",
    "ece",
    "ece_null_level",
    "fnr",
    "fpr",
    "group_table",
    "holm",
    "label_intervals",
    "label_statistics",
    "mcc",
    "mce",
    "miss_rate",
    "nll",
    "nll_of_logits",
    "optimal_augrc",
    "optimal_aurc",
    "probability_statistics",
    "reliability_bins",
    "risk_at_coverage",
    "risk_coverage_curve",
    "selective_metrics",
    "smooth_ece",
    "smooth_reliability",
    "working_points",
]

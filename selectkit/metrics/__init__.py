"""Metrics of selective and probabilistic classification, with bootstrap intervals."""

from selectkit.metrics.bootstrap import (
    Interval,
    Statistics,
    bootstrap_statistics,
    bootstrap_weights,
)
from selectkit.metrics.calibration import (
    ReliabilityBins,
    brier,
    classwise_ece,
    ece,
    mce,
    nll,
    reliability_bins,
)
from selectkit.metrics.curves import (
    RiskCoverageCurve,
    WorkingPoint,
    augrc,
    aurc,
    auroc_failure,
    coverage_at_risk,
    e_augrc,
    e_aurc,
    risk_at_coverage,
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
from selectkit.metrics.null_level import ece_null_level
from selectkit.metrics.smooth import smooth_ece
from selectkit.metrics.statistics import (
    PairedComparison,
    auroc_statistics,
    bootstrap,
    compare_paired,
    curve_statistics,
    label_statistics,
    probability_statistics,
)

__all__ = [
    "Interval",
    "PairedComparison",
    "ReliabilityBins",
    "RiskCoverageCurve",
    "Statistics",
    "WorkingPoint",
    "accuracy",
    "augrc",
    "aurc",
    "auroc",
    "auroc_failure",
    "auroc_statistics",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_statistics",
    "bootstrap_weights",
    "brier",
    "classwise_ece",
    "compare_paired",
    "coverage_at_risk",
    "curve_statistics",
    "e_augrc",
    "e_aurc",
    "ece",
    "ece_null_level",
    "fnr",
    "fpr",
    "label_statistics",
    "mcc",
    "mce",
    "miss_rate",
    "nll",
    "probability_statistics",
    "reliability_bins",
    "risk_at_coverage",
    "risk_coverage_curve",
    "smooth_ece",
]

"""Finite-sample bounds and p-values for the mean of bounded losses, for one look and for all."""

from selectkit.stats.bernstein import bernstein_lower, bernstein_upper
from selectkit.stats.binomial import (
    binomial_pvalue,
    clopper_pearson_lower,
    clopper_pearson_upper,
    dkw_lower,
)
from selectkit.stats.bounded import wsr_pvalue, wsr_pvalues, wsr_upper, wsr_uppers
from selectkit.stats.eprocess import EProcess
from selectkit.stats.hoeffding_bentkus import hoeffding_bentkus_pvalue, hoeffding_bentkus_upper
from selectkit.stats.multiplicity import bonferroni, fixed_sequence, multi_start, split
from selectkit.stats.sequences import (
    ConfidenceSequence,
    anytime_lower,
    anytime_upper,
    bernstein_sequence,
)

__all__ = [
    "ConfidenceSequence",
    "EProcess",
    "anytime_lower",
    "anytime_upper",
    "bernstein_lower",
    "bernstein_sequence",
    "bernstein_upper",
    "binomial_pvalue",
    "bonferroni",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "dkw_lower",
    "fixed_sequence",
    "hoeffding_bentkus_pvalue",
    "hoeffding_bentkus_upper",
    "multi_start",
    "split",
    "wsr_pvalue",
    "wsr_pvalues",
    "wsr_upper",
    "wsr_uppers",
]

"""Finite-sample bounds and p-values for the mean of bounded losses."""

from selectkit.stats.binomial import (
    binomial_pvalue,
    clopper_pearson_lower,
    clopper_pearson_upper,
    dkw_lower,
)
from selectkit.stats.bounded import (
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
    wsr_pvalue,
    wsr_pvalues,
    wsr_upper,
    wsr_uppers,
)

__all__ = [
    "binomial_pvalue",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "dkw_lower",
    "hoeffding_bentkus_pvalue",
    "hoeffding_bentkus_upper",
    "wsr_pvalue",
    "wsr_pvalues",
    "wsr_upper",
    "wsr_uppers",
]

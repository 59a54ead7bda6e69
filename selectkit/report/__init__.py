"""The HTML report of one run."""

from selectkit.report.model import (
    Curve,
    Estimate,
    PolicyRow,
    Promise,
    Reliability,
    RunReport,
    Thumbnail,
)
from selectkit.report.page import render

__all__ = [
    "Curve",
    "Estimate",
    "PolicyRow",
    "Promise",
    "Reliability",
    "RunReport",
    "Thumbnail",
    "render",
]

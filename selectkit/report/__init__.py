"""The HTML report of one run, and of several."""

from selectkit.report.model import (
    Curve,
    GroupRow,
    PolicyRow,
    Promise,
    Reliability,
    RunReport,
    Thumbnail,
)
from selectkit.report.page import render
from selectkit.report.parts import Estimate

__all__ = [
    "Curve",
    "Estimate",
    "GroupRow",
    "PolicyRow",
    "Promise",
    "Reliability",
    "RunReport",
    "Thumbnail",
    "render",
]

"""Thresholds with a finite-sample guarantee, and the honest answer when there is none."""

from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible
from selectkit.risk.threshold import certify_threshold

__all__ = ["Certificate", "Infeasible", "certify_threshold", "labels_needed"]

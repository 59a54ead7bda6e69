"""Selective classification from cached features: accept or defer, with evidence."""

__version__ = "0.1.0"

"""Unit tests, one folder per room."""

"""Comparisons with the published package: the same numbers (parity) and the time they take (bench)."""

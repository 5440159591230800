"""Parity: the same cases run in the published package and here, compared number by number."""

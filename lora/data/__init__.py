"""Structures, labels and their sanity, leakage, parity, statistics; no torch."""

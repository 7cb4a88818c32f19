"""Atomic and sealed files, locks, provenance."""

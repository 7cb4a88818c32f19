"""Exact, faster replacements of MACE's own modules."""

"""The config resolved once, typed: settings, points, packs, paths, limits, freshness."""

from lora.plan import layout  # it tells `lora.files.sealed` which receipt a file belongs to

__all__ = ["layout"]

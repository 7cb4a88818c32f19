"""The config resolved once, typed: settings, points, packs, paths, limits, freshness."""

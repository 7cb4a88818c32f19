"""The table of points, limits, the ranking: which model is shipped, and why."""

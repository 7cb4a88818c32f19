"""The loop, state, checkpoints, interruption, processes."""

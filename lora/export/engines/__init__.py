"""The simulation engines, a module each."""

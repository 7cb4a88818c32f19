"""The only room that knows MACE's insides."""

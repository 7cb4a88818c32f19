"""One file a step of the sweep: read inputs, call rooms below, write outputs and a receipt."""

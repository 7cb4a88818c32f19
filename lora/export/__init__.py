"""Files for simulation engines, the engines, verification, the card."""

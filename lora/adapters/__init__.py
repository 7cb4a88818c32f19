"""LoRA on MACE: where a weight is changed, how, packs, saved files, algebra."""

"""Called by the rule `shortlist` with what it names in `snakemake`."""

from lora.steps.shortlist import main

main(snakemake)  # noqa: F821  # snakemake puts it there

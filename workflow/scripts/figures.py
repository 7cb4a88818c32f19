"""Called by the rule `figures` with what it names in `snakemake`."""

from lora.report.figures import main

main(snakemake)  # noqa: F821  # snakemake puts it there

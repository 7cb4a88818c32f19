"""Called by the rule `committee` with what it names in `snakemake`."""

from lora.report.committee import main

main(snakemake)  # noqa: F821  # snakemake puts it there

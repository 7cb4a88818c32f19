"""Called by the rule `tables` with what it names in `snakemake`."""

from lora.report.tables import main

main(snakemake)  # noqa: F821  # snakemake puts it there

"""Called by the rule `report` with what it names in `snakemake`."""

from lora.report.summary import main

main(snakemake)  # noqa: F821  # snakemake puts it there

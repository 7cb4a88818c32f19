"""Called by the rule `data_size` with what it names in `snakemake`."""

from lora.report.data_size import main

main(snakemake)  # noqa: F821  # snakemake puts it there

"""Called by the rule `card` with what it names in `snakemake`."""

from lora.report.card_page import main

main(snakemake)  # noqa: F821  # snakemake puts it there

"""Called by the rule `rank_curve` with what it names in `snakemake`."""

from lora.report.rank_curve import main

main(snakemake)  # noqa: F821  # snakemake puts it there

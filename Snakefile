# From one labelled dataset and one MACE foundation model to the best LoRA-fine-tuned potential.
#
#     foundation, split -> audit -> e0s -> train (every point of the grid) -> merge -> evaluate,
#           check -> choose -> trust -> report, export, track
#
# Settings: config/config.yaml; their reference: config/README.md; the plan: lora/plan.

from snakemake.utils import min_version

min_version("9.20")

if not workflow.overwrite_configfiles:  # a --configfile replaces the quickstart's

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/merge.smk"
include: "rules/check.smk"
include: "rules/report.smk"
include: "rules/export.smk"


rule all:
    default_target: True
    input:
        SWEEP.targets(),
    localrule: True


onsuccess:
    if SWEEP.layout.report("summary.txt").is_file():  # not after a part of a sweep
        print(in_lines(SWEEP.layout.report("summary.txt").read_text()))

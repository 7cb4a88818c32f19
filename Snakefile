# From one labelled dataset and one MACE foundation model to the best LoRA-fine-tuned potential.
#
#     split -> e0s -> train (every point of the grid) -> merge -> evaluate, check
#           -> report -> export, track
#
# Settings: config/config.yaml; their reference: config/README.md; the grid: rules/common.smk.

from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/flags.smk"
include: "rules/common.smk"
include: "rules/plan.smk"
include: "rules/data.smk"
include: "rules/e0s.smk"
include: "rules/train.smk"
include: "rules/truncate.smk"
include: "rules/merge.smk"
include: "rules/evaluate.smk"
include: "rules/check.smk"
include: "rules/report.smk"
include: "rules/export.smk"
include: "rules/track.smk"


localrules:
    all,
    shortlist,
    report,
    figures,
    tables,
    committee,
    rank_curve,
    data_size,
    card,
    track,


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.figures.output,
        rules.tables.output,
        rules.data_size.output if len(config["grid"]["train_fraction"]) > 1 else [],
        rules.rank_curve.output if CUTS else [],
        rules.card.output if config["export"]["engines"] else [],
        rules.track.output,


onsuccess:
    if Path(rules.report.output.summary).is_file():  # not after a part of a sweep
        print(Path(rules.report.output.summary).read_text())

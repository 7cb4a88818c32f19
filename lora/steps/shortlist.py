"""The points that get the long checks: the best so far, and the foundation model beside them.

Called by the rule `shortlist` with what it names in `snakemake`.
"""

from lora.files.sealed import write_sealed
from lora.selection.table import make_table, receipts, records_of
from lora.selection.verdict import best_of_each, gather, judge, ranking


def main(snakemake: object) -> None:
    p = snakemake.params
    evaluated = receipts(snakemake.input.errors)
    records = records_of(snakemake.input.trainings, p.cuts)
    table = make_table([evaluated[point] for point in p.points], records)
    verdicts = judge(gather([receipts(snakemake.input.checks)], p.points), p.select["limits"])
    kept, refused = ranking(table, p.select["metric"], verdicts)
    first = [x for x in best_of_each(kept) if x != "foundation"] or best_of_each(refused)
    chosen = first[: p.winners] + (["foundation"] if "foundation" in p.points else [])
    models = {point: f"{p.results}/merge/{point}/{point}.model" for point in chosen}
    write_sealed(snakemake.output[0], {"models": models})

"""Write what won and by how much, every point and every check, as pages and as text."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lora.catalogue.columns import ENERGY, FORCE
from lora.data.e0s_words import from_earlier
from lora.files.sealed import read_json, write_text
from lora.plan.earlier import CARD, adapter_at
from lora.plan.packs import keeps_all
from lora.plan.sweep import Sweep
from lora.report.audit_page import warnings_of
from lora.report.checks_page import about_holes, write_checks
from lora.report.comparison import Errors
from lora.report.first_page import Story, first_page, to_do, to_mind
from lora.report.foundation_table import foundation_sentences
from lora.report.page import page, paragraph, rows_of
from lora.report.planes import other_kinds
from lora.report.race_page import sentences as about_race
from lora.report.rivals import forgetting, protocols_and_lora
from lora.report.trust_page import sentences as about_trust
from lora.report.words import Words
from lora.selection.choose import Choice, Verdicts, read_choice
from lora.selection.raced import read_races
from lora.selection.results import read_results
from lora.selection.table import BASELINES, columns_of

NOTE = (
    "RMSE of energy (meV/atom) | forces (meV/Å), a column for each set, sorted by the error on the "
    "validation set. A dash stands where a set has no such labels."
)


def write(sweep: Sweep) -> list[Path]:
    """Write choice.html (the first page of the report), sweep.html, checks.html and summary.txt.

    Args:
        sweep: The sweep, with the choice.

    Returns:
        The files.
    """
    layout, choice = sweep.layout, read_choice(sweep)
    results = read_results(sweep, "choose")
    errors = Errors.of_sweep(sweep, results, choice.metric)
    said, forgotten = Words.of(errors, choice), _forgetting(errors, choice)
    trust = about_trust(read_json(layout.receipt("trust")))
    holes = about_holes(results.checks.get(choice.point, {}))
    rest = _of_the_data(sweep, errors)
    sentences = said.in_order(forgotten) + trust + holes + rest
    note = paragraph(NOTE, note=True)
    groups = groups_table(errors, choice.reasons)
    chosen = errors.group_of[choice.point]
    tuned = _tuned(sweep, choice.point)
    story = Story(
        model=said.model,
        rivals=said.rivals,
        forgotten=forgotten,
        mind=[*said.diverged, *to_mind(errors, chosen, tuned), *trust, *holes],
        to_do=[*said.failed, *to_do(errors, chosen, said.improving)],
        rest=rest,
    )
    table = note + rows_of(groups, chosen=chosen)
    texts = {
        "choice.html": first_page(sweep, errors, choice, story, table),
        "sweep.html": page(
            "Every point",
            note,
            rows_of(points_table(errors.table, errors.origins), chosen=choice.point),
        ),
        "summary.txt": summary(groups, sentences, sweep, choice.point),
    }
    for name, text in texts.items():
        write_text(layout.report(name), text)
    checks = write_checks(results.checks, choice.verdicts, layout.report("checks.html"))
    return [*(layout.report(name) for name in texts), *checks]


def _of_the_data(sweep: Sweep, errors: Errors) -> list[str]:
    """Return what else there is to say: of the race, data, E0s, committee, foundation model."""
    layout, sentences = sweep.layout, []
    for race in read_races(sweep):
        sentences += about_race(race, errors)
    sentences += warnings_of(read_json(layout.receipt("audit")))
    e0s = read_json(layout.receipt("e0s"))
    sentences += e0s.get("sentences", [])  # none of older versions
    starts = filter(None, map(adapter_at, sweep.config.starts_from))
    moved = [from_earlier(e0s["E0s"], read_json(x / CARD)["E0s"]) for x in starts]
    sentences += [x for x in moved if x]
    sentences += [f"{line}." for line in read_json(layout.receipt("split"))["warnings"]]
    if "report/committee" in sweep.jobs:
        sentences += read_json(layout.report("committee.json"))["sentences"]
    return sentences + foundation_sentences(layout)


def _tuned(sweep: Sweep, point: str) -> list[str] | None:
    """Return the elements that a point was fine-tuned on; None where that is not known."""
    merged = sweep.layout.model(point).with_name("merge.json")
    return read_json(merged).get("fine_tuned_elements") if merged.is_file() else None


def _forgetting(errors: Errors, choice: Choice) -> list[str]:
    """Return what there is to say of forgetting: of the chosen group and the best baselines."""
    shown = [errors.group_of[x] for x in (choice.point, choice.lora) if x]
    others = other_kinds(errors, shown[-1]) if choice.lora else []
    shown += [group for kind in (*others, *BASELINES) for group in errors.of_kind(kind)[:1]]
    return forgetting(errors, choice, shown) + protocols_and_lora(errors, choice)


def groups_table(errors: Errors, reasons: Verdicts) -> pd.DataFrame:
    """Return a row a group, best first: RMSE of energy | forces on every set, with spreads.

    Args:
        errors: The errors of every group.
        reasons: {point: {check: verdict}}, what points were refused for; the last column names
            those checks.
    """
    columns = columns_of(errors.table, "groups")
    grouped = errors.table.groupby("group")
    first = grouped[[x.key for x in columns]].first()
    first = first.rename(columns={x.key: x.heading for x in columns})
    first["trainable"] = [f"{x:,}" for x in first["trainable"]]
    first["seeds"] = grouped["point"].nunique()
    out = _shown(first.loc[errors.groups])
    for s in errors.sets:
        out[s] = [
            f"{errors.text(x, s, ENERGY, 2)} | {errors.text(x, s, FORCE, 1)}" for x in errors.groups
        ]
    refused = {
        group: {
            name for x, found in reasons.items() if errors.group_of[x] == group for name in found
        }
        for group in errors.groups
    }
    if any(refused.values()):
        out["refused for"] = [", ".join(sorted(refused[x])) for x in out.index]
    return out.rename_axis(None)


def points_table(table: pd.DataFrame, origins: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a row a point: RMSE of energy | forces on every set, and what its training was.

    Args:
        table: The table of points.
        origins: {point: what it was cut from, in words}, of cuts.
    """
    both = [
        " | ".join("-" if pd.isna(x) else f"{x:.{n}f}" for x, n in ((e, 2), (f, 1)))
        if pd.notna(e) or pd.notna(f)
        else ""
        for e, f in zip(table[ENERGY], table[FORCE], strict=True)
    ]
    sets = list(dict.fromkeys(table["test_set"]))
    errors = table.assign(both=both).pivot(index="point", columns="test_set", values="both")[sets]
    columns = columns_of(table, "points")
    points = table.drop_duplicates("point").set_index("point")
    points = points[[x.key for x in columns]].rename(columns={x.key: x.heading for x in columns})
    out = points.join(errors).astype(object)
    if remarks := {**(origins or {}), **notes(table)}:
        out["note"] = pd.Series(remarks)
    return _shown(out.loc[list(dict.fromkeys(table["point"]))]).rename_axis(None)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is shown: short numbers, and nothing where there is none."""
    table = table.astype(object)
    table = table.where(table.notna(), "")
    return table.map(lambda x: f"{x:.10g}" if isinstance(x, float) else x)


def notes(table: pd.DataFrame) -> dict[str, str]:
    """Return how a training ended where that needs a reason, {point: that it failed, and why}."""
    points = table.drop_duplicates("point").set_index("point").dropna(subset="reason")
    return {str(x): f"{row['ended_by']}: {row['reason']}" for x, row in points.iterrows()}


def summary(groups: pd.DataFrame, sentences: list[str], sweep: Sweep, best: str) -> str:
    """Return what is printed at the end of a sweep."""
    layout = sweep.layout
    others = f"of each point: {layout.model('POINT')}"
    if not keeps_all(sweep.config, sweep.packs.values()):
        others = (
            "of others the adapters are kept (keep_models); a model comes back with "
            f"mace-lora merge {layout.plan} POINT"
        )
    exported = [f"export    {layout.export(best)}  (files for simulation engines, card.json)"]
    exported = exported if sweep.config.export.engines else []
    lines = [
        "",
        NOTE,
        groups.to_string(),
        "",
        *sentences,
        "",
        f"model     {layout.model(best)}  ({others})",
        *exported,
        f"table     {layout.table}",
        "report    snakemake --report report.html  (with the --configfile of the sweep)",
        f"compare   mace-lora ui {layout.results}",
        "          (or MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui -w 1 "
        f"--backend-store-uri 'sqlite:///{layout.database}')",
        "",
    ]
    return "\n".join(lines)

"""Draw the parity of the chosen model for the dashboard, and its worst structures in space."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import neighbor_list
from plotly.graph_objects import Figure, Scatter, Scatter3d
from plotly.subplots import make_subplots

from lora.catalogue.columns import VALID
from lora.data.origin import origin_of
from lora.data.structures import load_structures
from lora.plan.layout import Layout
from lora.report.dashboard_style import CHOSEN, COLOURS, Chooser, Panel, short, styled
from lora.report.first_figures import LABELS

WORST = 10  # frames of each set
ATOMS = 10_000  # of all structures together; the page has to stay small
SHOWN = 2000  # numbers of a parity plot: the largest errors, and some of the others
LARGEST = 500  # of these
BOND = 1.2  # sums of covalent radii, up to which a bond is drawn
ARROW = 1.0  # Å, the length of the largest error of a force
FRAME = ["test_set", "source_file", "frame", "structure"]


@dataclass(frozen=True)
class Frames:
    """The frames of the sets, and the errors of the chosen model on them.

    Attributes:
        table: A row a number: reference, predicted, quantity, and the row of its frame, `id`.
        frames: A row a frame: test_set, source_file, frame, structure, and its errors, energy
            (meV/atom), force (RMSE, meV/Å) and `error`, by which the worst are found.
        unit: The unit of `error`.
    """

    table: pd.DataFrame
    frames: pd.DataFrame
    unit: str

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Frames":
        """Sum up parity data by frame.

        Args:
            table: Reference and prediction of every number, as `lora.data.parity` makes it.
        """
        table = table.dropna(subset="reference").reset_index(drop=True)
        table["off"] = 1000 * (table["predicted"] - table["reference"])
        frames = table[FRAME].drop_duplicates(ignore_index=True)
        table["id"] = table[FRAME].merge(frames.reset_index(), on=FRAME, how="left")["index"]
        squares = (table["off"] ** 2).groupby([table["id"], table["quantity"]]).mean().unstack()
        rms = (squares**0.5).reindex(columns=["energy", "force"])
        frames = frames.join(rms)
        by = "force" if frames["force"].notna().any() else "energy"
        unit = {"force": "force RMSE, meV/Å", "energy": "energy error, meV/atom"}[by]
        return cls(table, frames.assign(error=frames[by]), unit)

    @property
    def worst(self) -> pd.DataFrame:
        """Return the frames with the largest errors, the largest first, set by set."""
        known = self.frames.dropna(subset="error").sort_values("error", ascending=False)
        parts = [part.head(WORST) for _, part in known.groupby("test_set", sort=False)]
        found = pd.concat(parts) if parts else known
        order = list(dict.fromkeys(self.frames["test_set"]))
        return found.sort_values("test_set", key=lambda x: x.map(order.index), kind="stable")

    def forces_off(self, frame: int) -> np.ndarray:
        """Return the errors of the forces of a frame, [n_atoms, 3] (eV/Å); empty without labels."""
        part = self.table[(self.table["id"] == frame) & (self.table["quantity"] == "force")]
        return part["off"].to_numpy().reshape(-1, 3) / 1000

    def name(self, frame: int) -> str:
        """Return a frame as a line of a list."""
        row = self.frames.loc[frame]
        return f"{Path(row['source_file']).name} frame {row['frame']} ({row['error']:.3g})"


def parity(frames: Frames, point: str) -> Panel:
    """Draw predicted against reference; a click on a point shows its frame.

    Args:
        frames: The frames and errors of the model.
        point: Its name.
    """
    kinds = [x for x in LABELS if (frames.table["quantity"] == x).any()]
    sets = list(dict.fromkeys(frames.frames["test_set"]))
    figure, said = make_subplots(1, max(1, len(kinds)), horizontal_spacing=0.1), []
    for column, kind in enumerate(kinds, start=1):
        whole = frames.table[frames.table["quantity"] == kind]
        part = _sample(whole)
        shift = whole["reference"].mean() if kind == "energy" else 0.0
        if len(part) < len(whole):
            said.append(f"{len(part):,} of {len(whole):,} numbers of {kind}")
        for i, name in enumerate(sets):
            rows = part[part["test_set"] == name]
            figure.add_trace(
                Scatter(
                    x=short(rows["reference"] - shift),
                    y=short(rows["predicted"] - shift),
                    customdata=rows["id"].to_list(),
                    text=[f"{x:.3g}" for x in rows["off"]],
                    mode="markers",
                    marker={"size": 5, "color": COLOURS[i % len(COLOURS)]},
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    meta="numbers",
                    hovertemplate=f"{name}: error %{{text}} m{LABELS[kind][1]}<extra></extra>",
                ),
                1,
                column,
            )
        ends = short([whole["reference"].min() - shift, whole["reference"].max() - shift])
        style = {"color": "#222", "width": 1}
        line = Scatter(x=ends, y=ends, mode="lines", line=style, showlegend=False, hoverinfo="skip")
        figure.add_trace(line, 1, column)
        ring = {"size": 11, "color": CHOSEN, "symbol": "circle-open", "line": {"width": 2}}
        figure.add_trace(
            Scatter(
                mode="markers",
                marker=ring,
                name="the frame below",
                showlegend=column == 1,
                hoverinfo="skip",
                meta="frame",
            ),
            1,
            column,
        )
        label, unit = LABELS[kind]
        figure.update_xaxes(title=f"reference {label} ({unit})", constrain="domain", col=column)
        same = {"scaleanchor": f"x{column}", "scaleratio": 1, "constrain": "domain"}
        figure.update_yaxes(same, title=f"predicted ({unit})", col=column)
    about = f"{point}. A click on a point shows its frame below."
    if said:
        about += f" Drawn are {', '.join(said)}: the largest errors, and a sample of the others."
    return Panel("parity", "Parity", about, styled(figure, 460))


def _sample(part: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that are drawn: the largest errors, and others at random."""
    if len(part) <= SHOWN:
        return part
    size = part["off"].abs().sort_values(ascending=False, kind="stable").index
    others = part.loc[size[LARGEST:]].sample(SHOWN - LARGEST, random_state=0)
    return part.loc[sorted([*size[:LARGEST], *others.index])]


def read_atoms(layout: Layout, wanted: pd.DataFrame) -> dict[int, Atoms]:
    """Return the structures of frames, {row: structure}; those whose origin is found.

    Args:
        layout: The paths of the sweep.
        wanted: The rows of frames.
    """
    rows: dict[tuple[str, int], list[int]] = {}
    for i, file, frame in wanted[["source_file", "frame"]].itertuples():
        rows.setdefault((str(file), int(frame)), []).append(i)
    found: dict[int, Atoms] = {}
    for which in ("valid", "test"):
        for atoms in load_structures(layout.split(which)):
            if origin := origin_of(atoms):
                found |= dict.fromkeys(rows.get((origin.file, origin.frame), []), atoms)
    return {i: found[i] for i in wanted.index if i in found}


def structures(frames: Frames, atoms_of: dict[int, Atoms]) -> tuple[Panel, dict[str, Any]]:
    """Draw the worst frames in space; return the panel, and what the page shows in it.

    Args:
        frames: The frames and errors of the model.
        atoms_of: {row of a frame: its structure}.
    """
    drawn: dict[str, dict[str, Any]] = {}
    budget = ATOMS
    for i in frames.worst.sort_values("error", ascending=False).index:
        if i in atoms_of and len(atoms_of[i]) <= budget:
            budget -= len(atoms_of[i])
            traces = _traces(atoms_of[i], frames.forces_off(i))
            drawn[str(i)] = {
                "traces": [x.to_plotly_json() for x in traces],
                "camera": _camera(atoms_of[i].positions),
            }
    options = [
        (frames.frames.loc[i, "test_set"], str(i), frames.name(i))
        for i in frames.worst.index
        if str(i) in drawn
    ]
    rows = frames.frames
    files = list(dict.fromkeys(rows["source_file"]))
    told = {
        "files": files,
        "frames": {
            str(i): [
                row["test_set"],
                files.index(row["source_file"]),
                row["frame"],
                *short([row["energy"], row["force"]], 4),
            ]
            for i, row in rows.loc[sorted(_seen(frames, drawn))].iterrows()
        },
        "structures": drawn,
    }
    hidden = {"visible": False}
    scene = {"aspectmode": "data", "xaxis": hidden, "yaxis": hidden, "zaxis": hidden}
    figure = styled(Figure(), 460, scene=scene, showlegend=False)
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0})
    tests = [value for name, value, _ in options if name != VALID]
    first = next(iter([*tests, *(value for _, value, _ in options)]), "")
    chooser = Chooser("frame", f"Frame ({frames.unit})", options, first)
    about = (
        f"The {WORST} worst frames of each set, by their {frames.unit.split(',')[0]}. Orange: the "
        f"error of the force on an atom; the longest is {ARROW:g} Å. Turn it with the mouse."
    )
    return Panel("structure", "The worst structures", about, figure, (chooser,)), told


def _seen(frames: Frames, drawn: Iterable[str]) -> set[int]:
    """Return the frames that the page tells of: those of numbers that are drawn, and the worst."""
    parts = (part for _, part in frames.table.groupby("quantity"))
    return {int(x) for part in parts for x in _sample(part)["id"]} | {int(x) for x in drawn}


def _traces(atoms: Atoms, off: np.ndarray) -> list[Scatter3d]:
    """Return a structure in space: atoms, bonds, its cell, and the errors of its forces."""
    numbers, at = atoms.numbers, atoms.positions
    sizes = np.linalg.norm(off, axis=1) if len(off) == len(atoms) else np.full(len(atoms), np.nan)
    names = [
        f"{symbol} {i}" + (f": force error {1000 * x:.3g} meV/Å" if np.isfinite(x) else "")
        for i, (symbol, x) in enumerate(zip(atoms.symbols, sizes, strict=True))
    ]
    colours = [f"rgb({','.join(str(round(220 * x)) for x in jmol_colors[z])})" for z in numbers]
    size = 40 * covalent_radii[numbers] * min(1.0, (30 / len(atoms)) ** (1 / 3))
    mark = {"size": short(size, 3), "color": colours, "opacity": 1.0}
    mark["line"] = {"color": "#555", "width": 1}
    x, y, z = (short(column, 4) for column in at.T)
    balls = Scatter3d(x=x, y=y, z=z, mode="markers", marker=mark, text=names, hoverinfo="text")
    alone, reach = Atoms(numbers, at), BOND * covalent_radii[numbers]
    i, j = neighbor_list("ij", alone, reach)  # type: ignore[no-untyped-call]
    bonds = [(at[a], at[b]) for a, b in zip(i, j, strict=True) if a < b]
    found = [balls, _lines(bonds, "#888", 6)]
    if atoms.pbc.any():
        found.append(_lines(_edges(atoms.cell.array), "#222", 2))
    if np.isfinite(sizes).all() and len(sizes) and sizes.max() > 0:
        scale = ARROW / sizes.max()
        arrows = [(start, start + scale * x) for start, x in zip(at, off, strict=True)]
        found.append(_lines(arrows, CHOSEN, 8))
    return found


def _camera(at: np.ndarray) -> dict[str, Any]:
    """Return a camera that looks at atoms, [n, 3] (Å), from where they are the broadest."""
    off = at - at.mean(axis=0)
    _, axes = np.linalg.eigh(off.T @ off)  # the narrowest first
    narrow, middle = axes[:, 0], axes[:, 1]
    eye, up = (dict(zip("xyz", short(x, 4), strict=True)) for x in (1.4 * narrow, middle))
    return {"eye": eye, "up": up, "projection": {"type": "orthographic"}}


def _lines(pieces: Iterable[tuple[np.ndarray, np.ndarray]], colour: str, width: int) -> Scatter3d:
    """Return pieces of lines as one trace."""
    ends = [[*short(a, 4), *short(b, 4)] for a, b in pieces]
    xyz = [[x for e in ends for x in (e[k], e[k + 3], None)] for k in range(3)]
    style = {"color": colour, "width": width}
    places = dict(zip("xyz", xyz, strict=True))
    return Scatter3d(**places, mode="lines", line=style, hoverinfo="skip")


def _edges(cell: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the twelve edges of a cell, [3, 3] (Å)."""
    corners = [np.array([i, j, k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    pairs = [(a, b) for a in corners for b in corners if (b - a).min() == 0 and (b - a).sum() == 1]
    return [(a @ cell, b @ cell) for a, b in pairs]

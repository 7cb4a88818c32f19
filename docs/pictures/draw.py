"""Draw the pictures of the documentation, into the folder of this file.

    python docs/pictures/draw.py              # the drawings
    make sweep
    python docs/pictures/draw.py results      # and the first page of the report, with Chromium

first_page.png; the one in the repository is of the 8 LoRA points alone, as `make bench` runs them
race.svg is drawn from benchmarks/curves, audit.svg from the quickstart's model and data; the other
drawings have no numbers
"""

import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from lora.catalogue.colours import COLOURS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY, _ = COLOURS
SIZE = (1180, 1500)
KEPT = (980, 1030)  # the verdict, and the figure of ranks and alphas


def first_page(results: Path) -> None:
    """Shoot the first page, and keep the part that README shows."""
    out = HERE / "first_page.png"
    page = (results / "report/choice.html").resolve().as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    command = ["chromium", *flags, size, f"--screenshot={out}", page]
    subprocess.run(command, check=True, capture_output=True)
    picture = Image.open(out).crop((0, 0, *KEPT))
    picture.quantize(64).save(out, optimize=True)  # small: it lies in the repository


def save(figure: Figure, name: str) -> None:
    """Write a drawing; letters are outlines, so that it looks the same everywhere."""
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None}, facecolor="white", dpi=72)
    plt.close(figure)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty sheet; its coordinates are tenths of an inch."""
    figure, ax = plt.subplots(figsize=(width / 10, height / 10), layout="none")
    figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return figure, ax


def box(ax: Axes, at: tuple[float, float], size: tuple[float, float], text: str, colour: str):
    """Draw a box with words in it."""
    style = "round,pad=0,rounding_size=0.8"
    ax.add_patch(FancyBboxPatch(at, *size, boxstyle=style, fc=f"{colour}33", ec=colour, lw=1.5))
    middle = (at[0] + size[0] / 2, at[1] + size[1] / 2)
    ax.text(*middle, text, ha="center", va="center", fontsize=9, linespacing=1.35)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = "black"):
    """Draw an arrow."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.2})


def dag() -> None:
    """The steps of a sweep, and what each leaves."""
    figure, ax = canvas(104, 33)
    wide, high = (12.5, 6.6)
    places = {
        "dft.xyz\nyour labels": (1, 22, GREY),
        "foundation\nmodel": (1, 5, GREY),
        "split\ntrain, valid, test": (17, 22, BLUE),
        "audit\nunits, signs": (17, 5, BLUE),
        "E0s": (32.5, 13.5, BLUE),
        "train\nLoRA: rank x alpha\nx seed, in packs": (47, 22, ORANGE),
        "train\nfull, freeze\nto compare with": (47, 5, ORANGE),
        "merge\na MACE model": (67, 13.5, BLUE),
        "evaluate\ntest sets": (82, 24.5, GREEN),
        "check\nforgetting, MD, ...": (82, 13.5, GREEN),
        "choose, report\nexport, MLflow": (82, 2.5, PINK),
    }
    middle = {}
    for text, (x, y, colour) in places.items():
        size = (wide + (3.5 if x > 75 or "x alpha" in text or "full" in text else 0), high)
        box(ax, (x, y), size, text, colour)
        middle[text.split("\n")[0] + ("2" if "full" in text else "")] = (x, y, size[0])
    for one, other in [
        ("dft.xyz", "split"),
        ("foundation", "audit"),
        ("split", "E0s"),
        ("audit", "E0s"),
        ("E0s", "train"),
        ("E0s", "train2"),
        ("train", "merge"),
        ("train2", "merge"),
        ("merge", "evaluate"),
        ("merge", "check"),
    ]:
        (x, y, w), (x2, y2, _) = middle[one], middle[other]
        arrow(ax, (x + w, y + high / 2), (x2, y2 + high / 2))
    x, y, w = middle["split"]
    arrow(ax, (x + w / 2, y), (x + w / 2, middle["audit"][1] + high))
    x, y, w = middle["check"]
    arrow(ax, (x + w / 2, y), (x + w / 2, middle["choose, report"][1] + high))
    ax.plot([x + w, 101.5, 101.5, x + w], [27.8, 27.8, 5.8, 5.8], color="black", lw=1.2)
    arrow(ax, (101.5, 5.8), (x + w, 5.8))
    save(figure, "dag")


def lora() -> None:
    """W + s A B of each irrep, and the merged weight."""
    figure, ax = canvas(80, 45)
    heads = {16: "W\nfrozen", 31.7: "A\ntrained", 47: "B\ntrained"}
    for x, text in (heads | {69.8: "W + s A B\nmerged: a plain layer"}).items():
        ax.text(x, 39.5, text, ha="center", fontsize=10)
    rows = [("0e, scalars", 7.5, 28.5), ("1o, vectors", 6.5, 18.5), ("2e", 5, 10)]
    for text, n, y in rows:
        ax.text(1, y + n / 2, text, va="center", fontsize=9)
        shapes = [(16, n, n, GREY), (31.7, 1.4, n, BLUE), (47, n, 1.4, ORANGE), (69.8, n, n, GREEN)]
        for x, w, h, colour in shapes:
            corner = (x - w / 2, y + (n - h) / 2)
            ax.add_patch(Rectangle(corner, w, h, fc=f"{colour}66", ec=colour, lw=1.5))
        for x, sign in [(25, "+  s"), (39, "·"), (58, "=")]:
            ax.text(x, y + n / 2, sign, ha="center", va="center", fontsize=13)
    ax.text(31.7, 9.4, "r copies of the irrep", ha="center", va="top", fontsize=8, color=BLUE)
    ax.text(47, 9.4, "starts at 0", ha="center", va="top", fontsize=8, color=ORANGE)
    said = (
        "Blocks of different irreps never mix, so that any A and B keep the symmetry.\n"
        "B = 0: before training, the model is the foundation model."
    )
    ax.text(40, 2.6, said, ha="center", va="center", fontsize=9)
    save(figure, "lora")


def kinds() -> None:
    """What DoRA and sparse changes do to the weight of one irrep."""
    figure, ax = canvas(80, 33)
    n = 8

    def square(x: float, y: float, colour: str, text: str) -> None:
        ax.add_patch(Rectangle((x, y), n, n, fc=f"{colour}66", ec=colour, lw=1.5))
        ax.text(x + n / 2, y + n + 1, text, ha="center", fontsize=9)

    def sign(x: float, y: float, text: str) -> None:
        ax.text(x, y + n / 2, text, ha="center", va="center", fontsize=13)

    top, low = 19.5, 3
    ax.text(1, top + n / 2, "DoRA", va="center", fontsize=10)
    lengths = np.array([0.9, 1.3, 0.7, 1.1, 1.0, 1.2, 0.8, 1.05])
    for i, length in enumerate(lengths):
        ax.add_patch(Rectangle((11 + i, top), 0.8, n * length / 1.4, fc=f"{ORANGE}66", ec=ORANGE))
        ax.add_patch(Rectangle((69 + i, top), 0.8, n * length / 1.4, fc=f"{GREEN}66", ec=GREEN))
        ax.add_patch(Rectangle((39 + i, top), 0.8, n / 1.4, fc=f"{BLUE}66", ec=BLUE))
    ax.text(15, top + n + 1, "length of each output\n(1 + m) |W|, trained", ha="center", fontsize=9)
    ax.text(
        43,
        top + n + 1,
        "direction of each output\nW + s A B over its length",
        ha="center",
        fontsize=9,
    )
    ax.text(73, top + n + 1, "merged:\na plain layer", ha="center", fontsize=9)
    sign(29, top, "times")
    sign(58, top, "=")

    ax.text(1, low + n / 2, "sparse", va="center", fontsize=10)
    square(11, low, GREY, "W, frozen")
    square(39, low, GREY, "r entries of each input")
    square(69, low, GREY, "merged")
    for row in range(n):
        for column in ((row + j) % n for j in range(2)):
            corner = (column, low + n - 1 - row)
            for x, colour in ((39, ORANGE), (69, GREEN)):
                at = (x + corner[0], corner[1])
                ax.add_patch(Rectangle(at, 1, 1, fc=f"{colour}AA", ec=colour))
    sign(29, low, "+  s")
    sign(58, low, "=")
    ax.text(40, 0.8, "rows are inputs and columns outputs of one irrep", ha="center", fontsize=8)
    save(figure, "kinds")


def pack() -> None:
    """K points in one forward pass over one frozen model."""
    figure, ax = canvas(86, 34)
    box(ax, (1, 12), (13, 10), "one batch of\nstructures,\nread once", GREY)
    colours = [BLUE, ORANGE, GREEN]
    names = ["r2_a8", "r4_a8", "r8_a32"]
    box(ax, (36.5, 2), (19, 29.5), "", GREY)
    ax.text(46, 29.5, "one frozen model", ha="center", va="center", fontsize=9)
    for i, (colour, name) in enumerate(zip(colours, names, strict=True)):
        y = 20.5 - 8.5 * i
        box(ax, (19, y), (12, 6), f"copy {i + 1}", colour)
        box(ax, (38, y), (16, 6), f"W + s A B\nof lora_{name}", colour)
        box(
            ax,
            (61, y),
            (24, 6),
            "own loss, optimiser, schedule,\nmoving average, early stop",
            colour,
        )
        arrow(ax, (14, 17), (19, y + 3), colour)
        arrow(ax, (31, y + 3), (38, y + 3), colour)
        arrow(ax, (54, y + 3), (61, y + 3), colour)
    ax.text(25, 29.5, "one disjoint graph", ha="center", va="center", fontsize=9)
    ax.text(73, 29.5, "K points, each as if alone", ha="center", va="center", fontsize=9)
    save(figure, "pack")


def race() -> None:
    """A race on the curves of a whole grid: who goes on at each rung."""
    from lora.plan.config_race import Rules
    from lora.selection.race import compare

    table = pd.read_csv(ROOT / "benchmarks/curves/malonaldehyde_rmd17.csv")
    grid: dict[str, dict[int, list[float]]] = {}
    for row in table.itertuples(index=False):
        grid.setdefault(row[0], {})[row[1]] = list(row[2:])
    rules, end = Rules(rungs=(0.2, 0.4), keep=0.5, finalists=2, margin=0), table.shape[1] - 3
    left, stop, rungs = list(grid), {}, rules.epochs(end)
    for i, epoch in enumerate(rungs):
        room = (rules.room(len(left), i), rules.margin, rules.most(len(left), i))
        kept = compare({x: {0: grid[x][1]} for x in left}, epoch, *room).kept
        stop |= dict.fromkeys(set(left) - set(kept), epoch)
        left = list(kept)
    figure, ax = plt.subplots(figsize=(8, 4.2))
    for name, curves in grid.items():
        colour = {rungs[0]: GREY, rungs[1]: ORANGE}.get(stop.get(name, end), BLUE)
        for curve in curves.values() if name in left else [curves[1]]:
            until = stop.get(name, end) + 1
            ax.plot(range(1, until), curve[1:until], color=colour, lw=1.3)
        if name in stop:
            ax.plot(until - 1, curve[until - 1], "x", color=colour, mew=2)
    for i, epoch in enumerate(rungs):
        ax.axvline(epoch, color="black", lw=0.8, ls=":")
        ax.text(epoch + 0.2, 205, f"rung {i + 1}", fontsize=10)
    counts = [list(stop.values()).count(x) for x in rungs]
    ax.plot([], [], color=GREY, label=f"{counts[0]} settings stopped at rung 1")
    ax.plot([], [], color=ORANGE, label=f"{counts[1]} stopped at rung 2")
    ax.plot([], [], color=BLUE, label=f"{len(left)} finalists, with all three seeds")
    ax.set(xlabel="epoch", ylabel="force RMSE, validation set (meV/Å)", yscale="log", xlim=(1, end))
    ax.set_yticks([60, 80, 100, 150, 200], ["60", "80", "100", "150", "200"])
    ax.minorticks_off()
    ax.legend()
    save(figure, "race")


def audit() -> None:
    """Forces of a file against the foundation model's predictions: right, another unit, a sign."""
    import torch

    from lora.catalogue.findings import KCAL_MOL
    from lora.data.structures import load_structures
    from lora.mace.foundation import load_foundation
    from lora.mace.graphs import graphs
    from lora.mace.predict import predict

    folder = ROOT / "workflow/resources/quickstart"
    frames = [x for x in load_structures(folder / "malonaldehyde_300K.xyz") if len(x) > 1][:40:4]
    model = load_foundation(folder / "base.model", dtype=torch.float64)
    x = predict(model, graphs(frames, model))["forces"].ravel()[::2]
    labels = np.concatenate([a.arrays["REF_forces"] for a in frames]).ravel()[::2]
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
    for ax, factor, title, colour in [
        (axes[0], 1.0, "eV/Å: goes on", GREEN),
        (axes[1], 1 / KCAL_MOL, "kcal/mol/Å: stops", RED),
        (axes[2], -1.0, "gradients: stops", RED),
    ]:
        y = labels * factor
        slope = np.sign(np.corrcoef(x, y)[0, 1]) * np.sqrt((y**2).mean() / (x**2).mean())
        ends = np.array([x.min(), x.max()])
        ax.plot(ends, slope * ends, color=colour, lw=1.5)
        ax.plot(x, y, ".", color=BLUE, markersize=4, alpha=0.6, rasterized=True)
        ax.set_title(f"{title}\nslope {slope:.2f}", fontsize=11)
        ax.set_xlabel("predicted (eV/Å)", fontsize=10)
    axes[0].set_ylabel("force label in the file", fontsize=10)
    save(figure, "audit")


if __name__ == "__main__":
    plt.rcParams["svg.fonttype"] = "path"
    for draw in (dag, lora, kinds, pack, race, audit):
        draw()
    if sys.argv[1:]:
        first_page(Path(sys.argv[1]))

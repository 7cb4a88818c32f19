"""Is it forgotten, or learnt?  Label the holdout at the level of the new data, too.

    python docs/study/transfer.py label     transfer.xyz: a frame of each small molecule, PBE0
    python docs/study/transfer.py table     errors of the points of results/ against both levels

`label` goes on where it was stopped; it needs the packages of
workflow/resources/quickstart/requirements.txt.  Units: eV, Å, eV/Å.
"""

import runpy
import sys
from pathlib import Path

import ase.io
import numpy as np

ROOT = Path(__file__).parents[2]
QUICKSTART, OUT = ROOT / "workflow/resources/quickstart", Path("transfer.xyz")
LARGEST = 11  # atoms; a gradient of PBE0 takes seconds below that
KNOWN = {"H", "C", "O"}  # the elements of the new data


def label() -> None:
    """Append the PBE0 labels of the first frame of each molecule."""
    dft = runpy.run_path(str(QUICKSTART / "make_target.py"))["dft"]
    frames = ase.io.read(QUICKSTART / "base_holdout.xyz", index=":")
    first = {atoms.info["config_type"].rsplit("_", 1)[0]: atoms for atoms in reversed(frames)}
    small = [x for name, x in sorted(first.items()) if len(x) <= LARGEST and name[:3] != "CH2_"]
    done = len(ase.io.read(OUT, index=":")) if OUT.exists() else 0
    for k, atoms in enumerate(small[done:], start=done + 1):
        atoms.arrays["xtb_forces"] = atoms.arrays.pop("REF_forces")
        try:
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = dft(atoms)
        except RuntimeError:  # kept without forces, so that it is not tried again
            atoms.arrays["REF_forces"] = np.full((len(atoms), 3), np.nan)
        ase.io.write(OUT, atoms, format="extxyz", append=True)
        print(f"{k} of {len(small)}: {atoms.info['config_type']}", flush=True)


def table(results: str = "results") -> None:
    """Print force RMSE (meV/Å) against GFN2-xTB and PBE0, of the foundation model and of points."""
    from lora import load_foundation
    from lora.mace.graphs import graphs
    from lora.mace.predict import predict

    frames = ase.io.read(OUT, index=":")
    frames = [x for x in frames if np.isfinite(x.arrays["REF_forces"]).all()]
    known = [set(x.symbols) <= KNOWN for x in frames]
    models = sorted(Path(results).glob("merge/*/*.model"))
    truths = {"GFN2-xTB": "xtb_forces", "PBE0": "REF_forces"}
    kinds = {"H C O": known, "with N": [not x for x in known]}
    apart = [x.arrays["xtb_forces"] - x.arrays["REF_forces"] for x in frames]
    cells = [_rms([d for d, ok in zip(apart, kind, strict=True) if ok]) for kind in kinds.values()]
    print(f"{len(frames)} molecules, {sum(known)} of H C O; the levels differ by", *cells)
    print("| |", " | ".join(f"{kind}, against {x}" for kind in kinds for x in truths), "|")
    for path in models:
        model = load_foundation(path)
        found = [predict(model, graphs([x], model))["forces"] for x in frames]
        cells = [
            _rms([f - x.arrays[t] for f, x, ok in zip(found, frames, kind, strict=True) if ok])
            for kind in kinds.values()
            for t in truths.values()
        ]
        print(f"| {path.stem} |", " | ".join(cells), "|")


def _rms(differences: list[np.ndarray]) -> str:
    """Return the root mean square of force components in meV/Å."""
    return f"{1e3 * np.sqrt(np.mean(np.concatenate(differences) ** 2)):.0f}"


if __name__ == "__main__":
    {"label": label, "table": table}[sys.argv[1]](*sys.argv[2:])

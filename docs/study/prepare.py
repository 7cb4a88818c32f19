"""Divide the quickstart's holdout by molecule: half to replay, half to measure forgetting on.

Writes study_data/replay.xyz and study_data/holdout.xyz.
"""

from pathlib import Path

import ase.io

ROOT = Path(__file__).parents[2]

frames = ase.io.read(ROOT / "workflow/resources/quickstart/base_holdout.xyz", index=":")
names = sorted({str(atoms.symbols) for atoms in frames})
out = Path("study_data")
out.mkdir(exist_ok=True)
for i, name in enumerate(("replay", "holdout")):
    chosen = [atoms for atoms in frames if names.index(str(atoms.symbols)) % 2 == i]
    for atoms in chosen:  # ASE reads labels into info and arrays and writes them as they are
        atoms.calc = None
    ase.io.write(out / f"{name}.xyz", chosen, format="extxyz")
    print(name, len(chosen), "structures of", len({str(a.symbols) for a in chosen}), "formulas")

"""Label frames at the quickstart's level, PBE0/def2-SVP: python docs/study/dft.py INPUT OUTPUT.

It needs the packages of workflow/resources/quickstart/requirements.txt.
"""

import runpy
import sys
from pathlib import Path

import ase.io

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    target = runpy.run_path(str(ROOT / "workflow/resources/quickstart/make_target.py"))
    frames = ase.io.read(sys.argv[1], index=":")
    for atoms in frames:
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = target["dft"](atoms)
    ase.io.write(sys.argv[2], frames, format="extxyz")

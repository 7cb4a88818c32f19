"""Make the larger base of the fair table: 128 channels, of molecules that the table does not have.

    pip install --target tblite_here "tblite[ase]"       # the code that labels
    export PYTHONPATH=$PWD/tblite_here
    python docs/fair_table/make_base.py sample           # MD of GFN2-xTB, as it is labelled
    python docs/fair_table/make_base.py train            # mace_run_train; writes larger.model

Data and training are those of the quickstart's base, whose script does both, but for the channels
and for the molecules of the table among the sampled ones, which are left out.  Run it again for a
training that was stopped: it begins anew.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parents[1] / "workflow/resources/quickstart/make_base.py"
WORK = HERE / "base"  # what is sampled, and the course of the training; not kept
CHANNELS, EPOCHS = 128, 34
SEEN = {"ethanol": "CH3CH2OH"}  # molecules of the table, and their names in ASE's g2 collection


def quickstart() -> ModuleType:
    """Return the script of the quickstart's base."""
    spec = importlib.util.spec_from_file_location("quickstart_base", QUICKSTART)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(script: ModuleType) -> list[str]:
    """Return the molecules that the base learns from."""
    return [x for x in script.molecules() if x not in SEEN.values()]


def main() -> None:
    """Sample or train."""
    script = quickstart()
    WORK.mkdir(exist_ok=True)
    if sys.argv[1] == "sample":
        script.sample(names(script), WORK)
    else:
        epochs = int(sys.argv[2]) if len(sys.argv) > 2 else EPOCHS
        script.train(epochs, CHANNELS, WORK, HERE / "larger.model")


if __name__ == "__main__":
    main()

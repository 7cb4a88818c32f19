"""The simulation engines: what file each opens, what it needs, and how a user loads the file."""

from dataclasses import dataclass

_CALCULATOR = """from mace.calculators import MACECalculator

atoms.calc = MACECalculator("{path}", default_dtype="{dtype}")"""


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: The name in the config.
        suffix: The end of the exported file's name, after the name of the point.
        modules: The Python modules that have to be installed to run the file.
        extra: The extra of this package that installs them; empty where none is needed.
        snippet: What a user writes to load the file; fields are path, dtype, precision, elements.
        description: One sentence for the reference.
        default: Whether the config exports to it by default.
        optional: Whether `mace-lora export` leaves it out unless it is named.
    """

    name: str
    suffix: str
    modules: tuple[str, ...]
    extra: str
    snippet: str
    description: str
    default: bool = True
    optional: bool = False


ROWS = (
    Engine(
        *("ase", ".model", (), "", _CALCULATOR),
        "ASE opens the .model file through MACE's own calculator.",
    ),
    Engine(
        *("torch-sim", ".model", ("torch_sim",), "engines"),
        """import torch
from torch_sim.models.mace import MaceModel

model = MaceModel(torch.load("{path}", weights_only=False), dtype=torch.{dtype})""",
        "torch-sim opens the .model file.",
    ),
    Engine(
        *("openmm", ".model", ("openmm", "openmmml"), "engines"),
        """from openmmml import MLPotential

potential = MLPotential("mace", modelPath="{path}")  # energies without the E0s
system = potential.createSystem(topology, precision="{precision}")""",
        "OpenMM opens the .model file through openmmml.",
    ),
    Engine(
        *("lammps", ".model-lammps.pt", ("lammps",), "engines"),
        """pair_style mace no_domain_decomposition
pair_coeff * * {path} {elements}  # those of your atom types, in their order""",
        "LAMMPS opens MACE's TorchScript file with `pair_style mace`.",
    ),
    Engine(
        *("lammps-mliap", ".model-mliap_lammps.pt", ("lammps", "cuequivariance_torch"), "engines"),
        """pair_style mliap unified {path} 0
pair_coeff * * {elements}  # those of your atom types, in their order""",
        "LAMMPS opens MACE's file for ML-IAP; writing it needs cuequivariance-torch.",
        default=False,
    ),
    Engine(
        *("cueq", "-cueq.model", ("cuequivariance_torch",), "cueq", _CALCULATOR),
        "cuEquivariance runs a converted copy of the model in MACE's calculator.",
        default=False,
        optional=True,
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)
DEFAULT = tuple(row.name for row in ROWS if row.default)

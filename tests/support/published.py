"""Replicas of published foundation models: the same blocks, few channels, random weights.

What older versions of MACE did not yet write into a file is taken out of the replicas of their age.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from lora.mace.door import Untyped, o3
from tests.support.models import BASE, Case, make_model

NONLINEAR = "RealAgnosticResidualNonLinearInteractionBlock"
EDGES = o3.Irreps("2x0e + 2x1o")
SHORT_RANGE = (("distance_transform", "Agnesi"), ("pair_repulsion", True))


def without_edges(model: Untyped) -> None:
    """Take out what mh-1 lacks, which MACE reads when it builds a model anew."""
    del model.edge_irreps, model.use_edge_irreps_first


def with_wrong_edges(model: Untyped) -> None:
    """Say of edges what is not so."""
    model.edge_irreps, model.use_edge_irreps_first = None, False


NEW = (
    *("heads", "apply_cutoff", "use_reduced_cg", "use_so3", "use_agnostic_product"),
    *("use_last_readout_only", "edge_irreps", "use_edge_irreps_first", "lammps_mliap"),
)
NEW_INSIDE = ("num_heads", "cueq_config", "oeq_config", "use_agnostic_product", "apply_cutoff")


def as_of_0_3_6(model: Untyped) -> None:
    """Take out all that MACE 0.3.6 and older did not write."""
    for name in NEW:
        delattr(model, name)
    blocks: list[Untyped] = [x for x in model.modules() if x is not model]
    for block in blocks:
        for name in NEW_INSIDE:
            block.__dict__.pop(name, None)
    for interaction in model.interactions:
        del interaction.edge_irreps
    energies = model.atomic_energies_fn
    energies.atomic_energies = energies.atomic_energies.reshape(-1)


@dataclass(frozen=True)
class Published:
    """A kind of published model.

    Attributes:
        name: Which it stands for.
        case: Its shape.
        head: The head to fine-tune, where it has several.
        aged: What is taken out of the file.
        rare: What is new in it stands in others, too: with full counts only.
    """

    name: str
    case: Case
    head: str | None = None
    aged: Callable[[Untyped], None] | None = None
    rare: bool = False

    def model(self) -> nn.Module:
        """Return the model, as this version of MACE makes it."""
        return make_model(self.case)

    def file(self) -> nn.Module:
        """Return what is in the file."""
        model = self.model()
        if self.aged:
            self.aged(model)
        return model


MP_0 = replace(BASE, name="mp_0", first="RealAgnosticInteractionBlock", correlation=3)
MP_0B2 = replace(
    BASE,
    name="mp_0b2",
    first="RealAgnosticDensityInteractionBlock",
    interaction="RealAgnosticDensityResidualInteractionBlock",
    more=SHORT_RANGE,
)
MH = replace(
    BASE,
    name="mh",
    first=NONLINEAR,
    interaction=NONLINEAR,
    agnostic=True,
    apply_cutoff=False,
    heads=("omat_pbe", "omol", "oc20"),
    more=(*SHORT_RANGE, ("edge_irreps", EDGES), ("use_edge_irreps_first", True)),
)
MH_BIAS = replace(MH, name="mh_bias", readout="NonLinearBiasReadoutBlock")
OMOL = replace(
    BASE,
    name="omol",
    first=NONLINEAR,
    interaction=NONLINEAR,
    layers=3,
    max_l=2,
    apply_cutoff=False,
    charged=True,
    more=(("edge_irreps", EDGES + o3.Irreps("2x2e")),),
)
EMBEDDED = replace(
    BASE,
    name="embedded",
    charged=True,
    more=(("use_embedding_readout", True),),
)
EMBEDDED_HEADS = replace(EMBEDDED, name="embedded_heads", heads=("pbe", "wb97m"))
HEADS = replace(BASE, name="heads", heads=("pbe", "r2scan"))

WORKING = (
    Published("mp-0", MP_0, rare=True),
    Published("mp-0, as MACE 0.3.6 wrote it", MP_0, aged=as_of_0_3_6),
    Published("off23, as MACE 0.3.6 wrote it", replace(MP_0, cls="MACE"), aged=as_of_0_3_6),
    Published("mp-0b2", MP_0B2, rare=True),
    Published("matpes, two heads", HEADS, head="r2scan"),
    Published("mh-1", MH, head="omol", rare=True),
    Published("mh-1, without edge_irreps", MH, head="oc20", aged=without_edges, rare=True),
    Published("mh-1 with biases", MH_BIAS, head="omol", aged=without_edges),
    Published("omol", OMOL),
    Published("with a readout of embeddings", EMBEDDED),
    Published("with embeddings and heads", EMBEDDED_HEADS, head="wb97m", rare=True),
)
# what is mended of a file, beside that of others above
MENDED = (
    *(kind for kind in WORKING if kind.aged),
    Published("mh-1, with wrong edge_irreps", MH, head="omol", aged=with_wrong_edges),
    Published("omol, without edge_irreps", OMOL, aged=without_edges),
)

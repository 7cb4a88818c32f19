"""The published foundation models: the names that MACE knows, their files, licences and papers.

Licences are those of the tables of github.com/ACEsuit/mace-foundations and of MACE's own code.
"""

from dataclasses import dataclass
from pathlib import PurePath

MACE_PAPER = "MACE: Batatia et al., NeurIPS 2022, arXiv 2206.07697"
ASL = "ASL (Academic Software License): no commercial use"
NOT_KNOWN = "not known"
_MP = "MACE-MP-0: arXiv 2401.00096"
_OMAT = f"OMat24: arXiv 2410.12771; {_MP}"
_MATPES = f"MatPES: arXiv 2503.04070; {_MP}"
_OFF = "MACE-OFF: arXiv 2312.15211"
_MH = "MACE-MH: arXiv 2510.25380"
_POLAR = "MACE-POLAR: arXiv 2602.19411"
_ANI = "MACE on ANI: doi 10.1063/5.0155322"
_MP_FILES = "https://github.com/ACEsuit/mace-mp/releases/download/"
_FILES = "https://github.com/ACEsuit/mace-foundations/releases/download/"
_OFF_FILES = "https://raw.githubusercontent.com/ACEsuit/mace-off/main/mace_off23/"
_MACE_FILES = "https://github.com/ACEsuit/mace/raw/main/mace/calculators/foundations_models/"


@dataclass(frozen=True)
class Foundation:
    """One foundation model.

    Attributes:
        name: The name that MACE's code knows.
        url: Where MACE fetches its file.
        licence: Its licence; None if it is not known here.
        paper: What to cite; None if it is not known here.
        aliases: Other names for it.
        cls: Its class in MACE.
    """

    name: str
    url: str
    licence: str | None = None
    paper: str | None = None
    aliases: tuple[str, ...] = ()
    cls: str = "ScaleShiftMACE"

    @property
    def file(self) -> str:
        """Return the name of the published file."""
        return PurePath(self.url).name


# the classes of models that can be fine-tuned
USABLE = ("MACE", "ScaleShiftMACE")
_NOT_A_MODEL = "which is no model; give the .model file that mace_run_train saves beside it"
_LAMMPS = "which was exported for LAMMPS; give the .model file that it was made from"
# what else files hold, and why that is of no use
WHY_NOT = {
    "AtomicDipolesMACE": "which predicts dipoles and no energies",
    "AtomicDielectricMACE": "which predicts dipoles and polarisabilities and no energies",
    "EnergyDipolesMACE": "whose readouts of energies and dipoles are not known here",
    "MACELES": "whose latent Ewald summation is not known to adapters and exports",
    "PolarMACE": "whose electrostatics are not known to adapters and exports",
    "TorchScript": "which cannot be trained; give the .model file that it was compiled from",
    "LAMMPS_MACE": _LAMMPS,
    "LAMMPS_MLIAP_MACE": _LAMMPS,
    "dict": _NOT_A_MODEL,
    "OrderedDict": _NOT_A_MODEL,
}


ROWS = (
    Foundation(
        *("small-omat-0", f"{_MP_FILES}mace_omat_0/mace-omat-0-small.model", ASL, _OMAT),
        aliases=("small_omat",),
    ),
    Foundation(
        *("medium-omat-0", f"{_MP_FILES}mace_omat_0/mace-omat-0-medium.model", ASL, _OMAT),
        aliases=("medium_omat",),
    ),
    Foundation(
        *("mace-matpes-pbe-0", f"{_FILES}mace_matpes_0/MACE-matpes-pbe-omat-ft.model"),
        *(ASL, _MATPES),
    ),
    Foundation(
        *("mace-matpes-r2scan-0", f"{_FILES}mace_matpes_0/MACE-matpes-r2scan-omat-ft.model"),
        *(ASL, _MATPES),
    ),
    Foundation(
        *("mace_omol", f"{_FILES}mace_omol_0/MACE-omol-0-extra-large-1024.model"),
        *(ASL, "OMol25: arXiv 2505.08762"),
        aliases=("extra_large",),
    ),
    Foundation("small_off", f"{_OFF_FILES}MACE-OFF23_small.model", ASL, _OFF),
    Foundation("medium_off", f"{_OFF_FILES}MACE-OFF23_medium.model", ASL, _OFF),
    Foundation("large_off", f"{_OFF_FILES}MACE-OFF23_large.model", ASL, _OFF),
    Foundation(
        *("medium-mpa-0", f"{_MP_FILES}mace_mpa_0/mace-mpa-0-medium.model", "MIT", _MP),
        aliases=("medium_mpa",),
    ),
    Foundation(
        *("small", f"{_MP_FILES}mace_mp_0/2023-12-10-mace-128-L0_energy_epoch-249.model"),
        *("MIT", _MP),
    ),
    Foundation(
        *("medium", f"{_MP_FILES}mace_mp_0/2023-12-03-mace-128-L1_epoch-199.model", "MIT", _MP)
    ),
    Foundation("large", f"{_MP_FILES}mace_mp_0/MACE_MPtrj_2022.9.model", "MIT", _MP),
    Foundation("small-0b", f"{_MP_FILES}mace_mp_0b/mace_agnesi_small.model", "MIT", _MP),
    Foundation("medium-0b", f"{_MP_FILES}mace_mp_0b/mace_agnesi_medium.model", "MIT", _MP),
    Foundation(
        *("small-0b2", f"{_MP_FILES}mace_mp_0b2/mace-small-density-agnesi-stress.model"),
        *("MIT", _MP),
    ),
    Foundation(
        *("medium-0b2", f"{_MP_FILES}mace_mp_0b2/mace-medium-density-agnesi-stress.model"),
        *("MIT", _MP),
    ),
    Foundation(
        *("large-0b2", f"{_MP_FILES}mace_mp_0b2/mace-large-density-agnesi-stress.model"),
        *("MIT", _MP),
    ),
    Foundation("medium-0b3", f"{_MP_FILES}mace_mp_0b3/mace-mp-0b3-medium.model", "MIT", _MP),
    Foundation("mh-0", f"{_FILES}mace_mh_1/mace-mh-0.model", ASL, _MH),
    Foundation("mh-1", f"{_FILES}mace_mh_1/mace-mh-1.model", ASL, _MH),
    Foundation(
        *("polar-1-s", f"{_FILES}mace_polar_1/MACE-POLAR-1-S.model", ASL, _POLAR),
        cls="PolarMACE",
    ),
    Foundation(
        *("polar-1-m", f"{_FILES}mace_polar_1/MACE-POLAR-1-M.model", ASL, _POLAR),
        cls="PolarMACE",
    ),
    Foundation(
        *("polar-1-l", f"{_FILES}mace_polar_1/MACE-POLAR-1-L.model", ASL, _POLAR),
        cls="PolarMACE",
    ),
    Foundation("mace_anicc", f"{_MACE_FILES}ani500k_large_CC.model", "MIT", _ANI),
)
# the base of the quickstart, which is told by its content
QUICKSTART_SHA256 = "950e3cee069a655704a2a9bfc52b1a88a6cea5da7857bf29cd2928c88a3fe045"
OURS = Foundation("quickstart", "workflow/resources/quickstart/base.model", "MIT, as this project")
BY_NAME = {name: row for row in ROWS for name in (row.name, *row.aliases)}
NAMES = tuple(BY_NAME)


def _plain(name: str) -> str:
    """Return a file name as MACE's cache has it: letters, digits and underscores only."""
    return "".join(c for c in name if c.isalnum() or c == "_")


_BY_FILE = {name: row for row in ROWS for name in (row.file, _plain(row.file))}


@dataclass(frozen=True)
class Terms:
    """On which terms a foundation model may be used.

    Attributes:
        published: The name of the published model that it is taken for; None if it is of no other.
        licence: Its licence, or that it is not known.
        licence_from: user or catalogue; None where it is not known.
        paper: What to cite; None if it is not known.
    """

    published: str | None
    licence: str
    licence_from: str | None
    paper: str | None


def known_foundation(base: str | None, sha256: str | None = None) -> Foundation | None:
    """Return the row of a model, by its name, its content or the name of its published file.

    Args:
        base: A name, or the path of a .model file; None is not known.
        sha256: The digest of the file, where it is known.
    """
    if not base:
        return None
    by_content = OURS if sha256 == QUICKSTART_SHA256 else None
    return BY_NAME.get(base) or by_content or _BY_FILE.get(PurePath(base).name)


def terms_of(base: str | None, given: str | None = None, sha256: str | None = None) -> Terms:
    """Return the terms of a foundation model; what is not known is called not known.

    Args:
        base: Its name, or its file; None is not known.
        given: The licence, where the user says it.
        sha256: The digest of the file, where it is known.
    """
    row = known_foundation(base, sha256)
    known = row.licence if row else None
    return Terms(
        published=row.name if row else None,
        licence=given or known or NOT_KNOWN,
        licence_from="user" if given else "catalogue" if known else None,
        paper=row.paper if row else None,
    )


def why_not(cls: str) -> str:
    """Return why a file with an object of some class cannot be fine-tuned; "" if that may be.

    Args:
        cls: The name of the class; TorchScript for a compiled program.
    """
    article = "an" if cls[0] in "AEIOU" else "a"
    return f"holds {article} {cls}, {WHY_NOT[cls]}" if cls in WHY_NOT else ""


def licence_sentence(licence: str) -> str:
    """Return what to mind of the licence of a base, "" for one that asks for nothing.

    Args:
        licence: The licence, or that it is not known.
    """
    if licence == NOT_KNOWN:
        return "the licence of the foundation model is not known; look it up before you publish"
    if "no commercial" in licence or "NC" in licence:
        return f"licence of the foundation model: {licence}; it holds for this model, too"
    return ""

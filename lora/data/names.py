"""What the name of a label in a file says: energy, forces, stress, virials, charge, spin."""

import re

# what a name says, in small letters; the first that fits counts
MEANT = {
    "total_charge": re.compile(r"(total_|net_)?charge$"),
    "total_spin": re.compile(r"(total_)?spin(_multiplicity)?$|multiplicity$"),
    "virials": re.compile(r"virial"),
    "stress": re.compile(r"stress"),
    "forces": re.compile(r"force|gradient|^f$"),
    "energy": re.compile(r"energy|e_?tot|toten|^e$"),
}
# names of parts, of differences, of values of atoms, and of what goes with a label
NOT_TOTAL = re.compile(
    "kin|per_atom|atomi|interaction|binding|formation|dispersion|correction|hull|zero|e0|fermi"
    "|gap|homo|lumo|energies|stresses|weight|error|sigma|std|var|mean|uncertainty|norm|cutoff"
)
SIZES = {"virials": (6, 9), "stress": (6, 9), "energy": (1,), "total_charge": (1,)}
SIZES |= {"total_spin": (1,), "forces": (3,)}  # of forces those of one atom


def meaning(name: str) -> str | None:
    """Return the quantity that a name says; None for other names.

    Args:
        name: A name in a file.
    """
    small = name.lower()
    if NOT_TOTAL.search(small):
        return None
    return next((quantity for quantity, words in MEANT.items() if words.search(small)), None)

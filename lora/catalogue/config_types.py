"""The config_type of free atoms, as MACE writes it and as others do."""

import re

ISOLATED = "IsolatedAtom"  # as in MACE
ALSO = re.compile("(isolated|free|single)atom")  # how else it begins, in small letters alone


def names_free_atom(config_type: object) -> bool:
    """Return True if a config_type says that a structure is a free atom.

    Args:
        config_type: The value: IsolatedAtom, isolated_atom, Isolated-Atom, free_atom_H, ...
    """
    letters = re.sub("[^a-z]", "", str(config_type).lower())
    return ALSO.match(letters) is not None

"""Structures made around others: every kind of the catalogue, and what each promises."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.geometry import find_mic

from lora.catalogue.made import NAMES, ROWS, Kind
from lora.catalogue.named import resolve
from lora.data.around import Around, fits
from lora.data.labels import CHARGE, ENERGY, SPIN
from lora.data.structures import elements_of

N = 12
CRYSTAL = bulk("NaCl", "rocksalt", a=5.64).repeat((2, 1, 1))
SOURCES = {
    "molecules": [molecule(x) for x in ("CH3CHO", "CH3OH", "H2O", "HCN")],
    "crystals": [CRYSTAL, CRYSTAL.copy()],
    "both": [molecule("CH3CHO"), CRYSTAL],
}
SOURCES["crystals"][1].rattle(0.05, seed=1)


def spring(atoms: Atoms) -> np.ndarray:
    """Forces (eV/Å) towards where nothing overlaps: a pull on each pair within 3 Å."""
    vectors = atoms.positions[None] - atoms.positions[:, None]
    if atoms.pbc.any():
        vectors = find_mic(vectors.reshape(-1, 3), atoms.cell)[0].reshape(vectors.shape)
    d = np.linalg.norm(vectors, axis=-1) + 1e-9
    pull = np.where((d > 0.1) & (d < 3.0), d - 1.5, 0.0)
    return ((pull / d)[..., None] * vectors).sum(axis=1)


def around(structures: list[Atoms], seed: int = 0, **changes: object) -> Around:
    given = {"count": N, "temperatures": (300.0, 600.0), "forces": spring} | changes
    of_one = given["forces"]
    given["forces"] = lambda many: [of_one(atoms) for atoms in many]
    return Around(structures, rng=np.random.default_rng(seed), **given)


def same(a: list[Atoms], b: list[Atoms]) -> bool:
    """Whether structures are equal, one by one."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(
        str(x.symbols) == str(y.symbols) and np.allclose(x.positions, y.positions) for x, y in pairs
    )


@pytest.mark.parametrize("which", SOURCES)
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_every_kind(row: Kind, which: str) -> None:
    """As many as asked for at most, of the same elements, without labels, the same by a seed."""
    sources = [atoms.copy() for atoms in SOURCES[which]]
    for atoms in sources:
        atoms.info = {ENERGY: -1.0}
    made = resolve(row.function)(around(sources))
    assert 0 < len(made) <= N
    assert set(elements_of(made)) <= set(elements_of(sources))
    assert all(not atoms.info and atoms.calc is None for atoms in made)
    known = {(str(x.symbols), x.positions.tobytes()) for x in sources}
    assert all((str(x.symbols), x.positions.tobytes()) not in known for x in made)
    assert sum(map(fits, made)) > len(made) / 4  # most are of use
    assert same(made, resolve(row.function)(around(sources)))
    assert not same(made, resolve(row.function)(around(sources, seed=1)))
    assert same(sources, SOURCES[which])  # as they were


def test_compositions_and_parts_are_new() -> None:
    """`mixed` and `changed` leave the compositions of their sources, the others do not."""
    own = {atoms.symbols.formula.format("hill") for atoms in SOURCES["molecules"]}
    for name in NAMES:
        made = resolve({x.name: x for x in ROWS}[name].function)(around(SOURCES["molecules"]))
        formulas = Counter(atoms.symbols.formula.format("hill") for atoms in made)
        assert (set(formulas) <= own) == (name in ("rattled", "strained")), name


def test_cells_are_strained_with_their_atoms() -> None:
    made = resolve("lora.data.around:strained")(around([CRYSTAL]))
    volumes = [atoms.cell.volume / CRYSTAL.cell.volume for atoms in made]
    assert min(volumes) < 0.95 and max(volumes) > 1.05
    for atoms in made:
        places = (x.get_scaled_positions(wrap=False) for x in (atoms, CRYSTAL))
        assert np.allclose(*places)
        assert not np.allclose(atoms.cell.cellpar()[3:], CRYSTAL.cell.cellpar()[3:])


def test_what_overlaps_does_not_fit() -> None:
    assert fits(molecule("N2")) and fits(molecule("C2H2")) and fits(CRYSTAL)
    near = molecule("CH3CHO")
    near.positions[1] = near.positions[0] + 0.5
    across = Atoms("H2", [[0, 0, 0], [0, 0, 4.8]], cell=[5, 5, 5], pbc=True)
    assert not fits(near) and not fits(across) and not fits(Atoms("H"))


def test_spins_fit_the_electrons() -> None:
    """A model that takes a multiplicity is not asked for one that the electrons cannot have."""
    sources = [molecule("CH3CHO"), molecule("H2O")]
    for atoms in sources:
        atoms.info = {CHARGE: 1, SPIN: 2}
    for name in ("mixed", "changed"):
        for atoms in resolve(f"lora.data.around:{name}")(around(sources)):
            assert (atoms.numbers.sum() - 1 + atoms.info[SPIN]) % 2 == 1


def test_a_run_ends_where_it_explodes() -> None:
    blown = resolve("lora.calculators.heated:heated")
    assert blown(around(SOURCES["molecules"], forces=lambda a: np.full((len(a), 3), 1e3))) == []
    assert blown(around(SOURCES["molecules"], forces=lambda a: np.full((len(a), 3), np.nan))) == []


def test_runs_ask_for_their_forces_together() -> None:
    from lora.calculators.heated import EVERY, FRAMES, heated

    asked: list[int] = []
    plain = around(SOURCES["molecules"])

    def counted(many: list[Atoms]) -> list[np.ndarray]:
        asked.append(len(many))
        return plain.forces(many)

    found = heated(replace(plain, forces=counted))
    runs = -(-N // FRAMES)
    assert asked[0] == runs > 1 and len(asked) <= FRAMES * EVERY + 1
    assert same(found, heated(around(SOURCES["molecules"]))) and len(found) == N


def test_hotter_runs_go_farther() -> None:
    """The temperatures count: the same runs at 10 K and at 2000 K."""
    from lora.calculators.heated import heated

    still = molecule("CH3CHO")
    moved = {}
    for kelvin in (10.0, 2000.0):
        free = around([still], temperatures=(kelvin,), forces=lambda a: np.zeros((len(a), 3)))
        frames = [x for x in heated(free) if (x.numbers.tolist() == still.numbers.tolist())]
        moved[kelvin] = np.mean([np.abs(x.positions - still.positions).mean() for x in frames])
    assert moved[2000.0] > 5 * moved[10.0] > 0

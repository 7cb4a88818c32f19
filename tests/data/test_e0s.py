"""E0s from counts and energies alone: the fit, its priors, and frames far off."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from ase.units import Hartree

from lora.catalogue.atoms import FREE_ATOMS
from lora.catalogue.elements import SYMBOLS
from lora.data.e0s import FIT, fit_e0s, fit_nearest, new_e0s
from lora.data.e0s_words import Errors, far_off, open_e0s, over_gate
from lora.data.free_atoms import free_energies
from lora.data.labels import weight_of
from lora.data.outliers import second_look
from lora.data.priors import (
    FOUNDATION,
    FREE,
    TABLE,
    Evidence,
    choose_priors,
    has_all_electrons,
)
from lora.data.structures import ENERGY
from lora.errors import UserError

MALONALDEHYDE = [[4, 3, 2]]  # H C O
OLD = {"H": -1.1, "C": -1.3, "N": -1.5, "O": -1.6, "I": -1.2, "Np": -2.0}
PBE0 = {"H": -13.6, "C": -1029.0, "N": -1484.0, "O": -2041.0}  # eV, all electrons
VALENCE = {"H": -13.4, "C": -147.0, "N": -265.0, "O": -431.0}  # eV, pseudopotentials


def evidence(
    symbols: str, counts: object, atoms: dict[str, float] = PBE0, noise: float = 0.0, **more: object
) -> Evidence:
    """Energies of atoms (eV) and interactions that the foundation model gets right but for noise.

    The noise (eV/atom) is made from a seed.
    """
    names, rows = symbols.split(), np.array(counts, dtype=float)
    rng = np.random.default_rng(len(rows))
    old, interaction = np.array([OLD[s] for s in names]), rng.normal(-4, 1, len(rows))
    n_atoms = rows.sum(axis=1)
    made = Evidence(
        symbols=names,
        bonded=rows.any(axis=0),
        old=old,
        counts=rows,
        energies=rows @ [atoms[s] for s in names] + n_atoms * interaction,
        predicted=rows @ old + n_atoms * (interaction + noise * rng.normal(size=len(rows))),
        weights=np.ones(len(rows)),
        free={},
        frames=[f"a.xyz frame {i}" for i in range(len(rows))],
        path="a.xyz",
    )
    return replace(made, **more)


def random_counts(n: int, n_elements: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, (n, n_elements)) + np.eye(n_elements)[0]


def test_fit_is_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    counts, energies = rng.integers(0, 5, (30, 3)).astype(float), rng.normal(size=30)
    for weights in (None, rng.uniform(0.1, 3, 30)):
        shifts, rank = fit_e0s(counts, energies, weights)
        assert rank == 3
        left = (counts @ shifts - energies) * (1 if weights is None else weights)
        assert np.abs(counts.T @ left).max() < 1e-10  # normal equations


# --- auto


@pytest.mark.parametrize("free", [{}, {"H": -13.0, "O": -2000.0}], ids=["no atoms", "free atoms"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_where_all_is_determined_auto_is_estimated(free: dict, noise: float) -> None:
    found = evidence("H C N O", random_counts(40, 4), noise=noise, free=free)
    auto, estimated = (new_e0s(x, found) for x in ("auto", "estimated"))
    assert auto.rank == 4 and auto.sources == [FIT] * 4 and auto.prior is None
    assert np.abs(auto.values - estimated.values).max() <= 1e-12 * 2041
    if not noise:
        assert np.allclose(auto.values, [PBE0[s] for s in "HCNO"], rtol=0, atol=1e-8)
    assert open_e0s("auto", auto, found) == ""


@pytest.mark.parametrize(
    "free", [{}, {"H": -13.5}, {"H": -13.5, "C": -1028.0, "O": -2040.0}], ids=str
)
def test_what_is_open_is_nearest_to_the_prior(free: dict) -> None:
    """The energies are those of the best fit; any other best fit is farther from the prior."""
    found = evidence("H C O", MALONALDEHYDE * 30, noise=0.02, free=free)
    chosen = fit_nearest(found)
    estimated = new_e0s("estimated", found)
    assert chosen.rank == 1
    assert np.allclose(found.counts @ chosen.values, found.counts @ estimated.values, atol=1e-8)
    prior = chosen.prior

    def distance(values: np.ndarray) -> float:
        return float(np.linalg.norm((values - prior.energies) / prior.scales))

    assert distance(chosen.values) < distance(estimated.values)
    rng = np.random.default_rng(1)
    for _ in range(20):
        move = rng.normal(size=3)
        move -= found.counts[0] * (found.counts[0] @ move) / (found.counts[0] @ found.counts[0])
        assert distance(chosen.values + 1e-3 * move) > distance(chosen.values)


def test_a_prior_that_explains_all_is_kept() -> None:
    known = {s: PBE0[s] for s in "HCO"}
    found = evidence("H C O", MALONALDEHYDE * 5, free=known)
    assert np.allclose(fit_nearest(found).values, [*known.values()], rtol=0, atol=1e-9)


@pytest.mark.parametrize("counts", [MALONALDEHYDE, [[42, 20, 0]], [[6, 6, 0], [6, 6, 1]]], ids=str)
@pytest.mark.parametrize("free", [{}, {s: PBE0[s] + 0.3 for s in "HCO"}], ids=["none", "free"])
def test_hydrogen_is_near_its_free_atom(counts: list, free: dict) -> None:
    """Whatever one formula leaves open, and whatever a foundation model gets wrong in binding."""
    found = evidence("H C O", counts * 20, noise=0.02, free=free)
    bound = replace(found, energies=found.energies - 1.5 * found.n_atoms)
    values = dict(zip("HCO", fit_nearest(bound).values, strict=True))
    assert abs(values["H"] + 13.6) < 3
    assert abs(values["C"] - PBE0["C"]) < 15


def test_known_atoms_stay_and_others_give_way() -> None:
    found = evidence("H C O", MALONALDEHYDE * 5, free={"H": -13.6, "O": -2041.0})
    chosen = fit_nearest(found)
    assert chosen.sources == [FREE, TABLE, FREE]
    assert np.allclose(chosen.values, [-13.6, -1029.0, -2041.0], rtol=0, atol=0.3)
    sentence = open_e0s("auto", chosen, found)
    assert "determine 1 of 3 E0s" in sentence
    assert "free atoms (H O) and tabulated all-electron atoms (C)" in sentence
    assert sentence.endswith("or free atoms of C (in the data or e0s.isolated_file).")


def test_an_element_can_be_determined_alone() -> None:
    """H and C always come as CH4, O alone, too: its E0 is fitted."""
    found = evidence("H C O", [[4, 1, 0], [4, 1, 1], [0, 0, 2]])
    chosen = fit_nearest(found)
    assert chosen.rank == 2 and chosen.sources == [TABLE, TABLE, FIT]
    assert chosen.values[2] == pytest.approx(PBE0["O"], abs=1e-8)


def test_compositions_that_noise_cannot_tell_apart_count_as_one() -> None:
    """Alkanes of 100 and of 101 carbon atoms: the fit of both E0s would magnify noise by 80."""
    counts = [[202, 100], [204, 101]] * 10
    noisy = evidence("H C", counts, noise=0.02)
    assert fit_e0s(noisy.counts, noisy.errors)[1] == 2
    chosen = fit_nearest(noisy)
    assert chosen.rank == 1 and abs(chosen.values[0] + 13.6) < 3
    assert abs(new_e0s("estimated", noisy).values[0] + 13.6) > 10


NO_CODE = {s: 30 * energy for s, energy in PBE0.items()}


@pytest.mark.parametrize("atoms", [PBE0, VALENCE, OLD, NO_CODE], ids=str)
def test_what_counts_as_open_leaves_no_error(atoms: dict) -> None:
    """Not even where priors are far off, as the foundation model's are for other electrons."""
    for dn in (1, 2, 5, 20):
        noisy = evidence("H C", [[202, 100], [202 + 2 * dn, 100 + dn]] * 10, atoms, noise=0.02)
        least = errors_of(noisy, "estimated").rmse
        assert errors_of(noisy).rmse < 1.5 * least, dn


def test_a_free_atom_alone_is_no_open_e0() -> None:
    """N is in no molecule: its free atom is its E0, and nothing is open."""
    counts = np.c_[random_counts(20, 2), np.zeros(20)]
    found = evidence("H C N", counts, free={"N": -1484.0})
    chosen = fit_nearest(found)
    assert chosen.rank == 2 and chosen.sources == [FIT, FIT, FREE]
    assert chosen.values[2] == -1484.0
    assert open_e0s("auto", chosen, found) == ""


def test_without_energies_the_priors_are_left() -> None:
    found = evidence("H C", [[4, 1]], free={"H": -13.6})
    empty = {k: getattr(found, k)[:0] for k in ("counts", "energies", "predicted", "weights")}
    chosen = fit_nearest(replace(found, **empty))
    assert chosen.rank == 0 and chosen.values.tolist() == [-13.6, OLD["C"]]
    assert "determine 0 of 2 E0s" in open_e0s("auto", chosen, found)


def test_the_order_of_structures_does_not_matter() -> None:
    for counts in (MALONALDEHYDE * 12, random_counts(12, 3).tolist()):
        found = evidence("H C O", counts, noise=0.05)
        order = np.random.default_rng(3).permutation(12)
        rows = ("counts", "energies", "predicted", "weights")
        other = replace(found, **{k: getattr(found, k)[order] for k in rows})
        assert np.allclose(fit_nearest(found).values, fit_nearest(other).values, atol=1e-8)


def test_weights_count_and_their_scale_does_not() -> None:
    counts = MALONALDEHYDE * 6 + [[2, 0, 1]] * 6
    found = evidence("H C O", counts, noise=0.1)
    weights = np.array([1.0, 2.0, 3.0] * 4)
    one = fit_nearest(replace(found, weights=weights))
    assert one.rank == 2
    assert np.abs(one.values - fit_nearest(found).values).max() > 1e-3
    same = fit_nearest(replace(found, weights=1e-6 * weights))
    assert np.allclose(same.values, one.values, rtol=0, atol=1e-6)
    twice = np.r_[np.arange(12), np.arange(1, 12, 3), np.tile(np.arange(2, 12, 3), 2)]
    rows = {k: getattr(found, k)[twice] for k in ("counts", "energies", "predicted")}
    again = fit_nearest(replace(found, **rows, weights=np.ones(len(twice))))
    assert np.allclose(again.values, one.values, rtol=0, atol=1e-6)  # weight 3: three times there


# --- priors


def test_the_table_of_atoms() -> None:
    """Known values; every value is where the theory of large atoms has it."""
    assert list(FREE_ATOMS) == list(SYMBOLS[:92])
    assert FREE_ATOMS["H"] == -0.478671 and FREE_ATOMS["Fe"] == -1261.223291
    energies = np.array([*FREE_ATOMS.values()])
    assert (np.diff(energies) < 0).all()
    z = np.arange(1, 93)
    # Scott's expansion for large Z (Hartree): Thomas-Fermi, Scott, and the exchange of LDA
    scott = -0.768745 * z ** (7 / 3) + z**2 / 2 - 0.2699 * z ** (5 / 3)
    assert np.abs(energies / scott - 1)[9:].max() < 0.005
    assert np.abs(np.diff(energies / scott))[9:].max() < 0.002  # a slip would stand out


@pytest.mark.parametrize(
    ("atoms", "all_electrons"), [(PBE0, True), (VALENCE, False), (OLD, False)], ids=str
)
def test_what_has_all_electrons(atoms: dict, all_electrons: bool) -> None:
    found = evidence("H C O", MALONALDEHYDE * 9 + [[4, 1, 0]], atoms, noise=0.5)
    assert has_all_electrons(found) == all_electrons
    wrong = found.energies.copy()
    wrong[:3] = 0.0  # a third of wrong energies does not decide
    assert has_all_electrons(replace(found, energies=wrong)) == all_electrons


def test_cores_that_are_left_out_of_one_element_leave_the_others_near() -> None:
    """Iodine has a pseudopotential, so nothing is tabulated; heavy elements give way first."""
    atoms = PBE0 | {"I": -8100.0}
    found = evidence("H C I", [[5, 6, 1]] * 5, atoms)
    chosen = fit_nearest(found)
    assert chosen.sources == [FOUNDATION] * 3
    assert abs(chosen.values[0] + 13.6) < 10 and -9e3 < chosen.values[2] / 1.3 < -5e3


def test_an_element_beyond_the_table_has_the_foundation_models() -> None:
    atoms = PBE0 | {"Np": -7.7e5}
    found = evidence("H O Np", [[2, 1, 0]] * 5 + [[0, 2, 1]] * 3, atoms)
    assert choose_priors(found).sources == [TABLE, TABLE, FOUNDATION]


def test_with_equal_atoms_the_foundation_model_stays() -> None:
    found = evidence("H C O", MALONALDEHYDE * 5, OLD)
    chosen = fit_nearest(found)
    assert chosen.sources == [FOUNDATION] * 3
    assert np.allclose(chosen.values, found.old, rtol=0, atol=1e-10)


def free(symbol: str, energy: float | None, **info: object) -> Atoms:
    return Atoms(symbol, info=({} if energy is None else {ENERGY: energy}) | info)


def test_free_energies() -> None:
    same = [free("H", -13.6), free("H", -13.6 + 1e-6), free("O", -2041.0), free("C", None)]
    assert free_energies(same, "a.xyz") == {"H": -13.6, "O": -2041.0}
    ignored = free("H", -1.0, config_energy_weight=0.0)
    assert free_energies([*same, ignored], "a.xyz")["H"] == -13.6
    ions = [free("Na", -4400.0, total_charge=1), free("Na", -4405.0, total_charge=0)]
    spins = [free("O", -2041.0, total_spin=3), free("O", -2039.0, total_spin=1)]
    assert free_energies([*ions, *spins], "a.xyz") == {"Na": -4405.0, "O": -2041.0}
    with pytest.raises(UserError, match="free atom O has"):
        free_energies([*spins, free("O", -2040.0, total_spin=3)], "a.xyz")
    with pytest.raises(UserError, match=r"a\.xyz frame 1: .*H has -12\.3.* -13\.6.* frame 0"):
        free_energies([free("H", -13.6), free("H", -12.3)], "a.xyz")
    with pytest.raises(UserError, match=r"a\.xyz frame 0: has 3 atoms, not a free atom"):
        free_energies([Atoms("H2O", info={ENERGY: -76.0})], "a.xyz")


def test_weights_of_structures() -> None:
    assert weight_of(free("H", None), "energy") == 0
    assert weight_of(free("H", -13.6), "energy") == 1
    assert weight_of(free("H", -1.0, config_weight=2, config_energy_weight=0.5), "energy") == 1
    assert weight_of(free("H", -1.0, config_weight=2, config_energy_weight=0.0), "energy") == 0


# --- frames far off


def off(found: Evidence, frames: dict[int, float]) -> Evidence:
    """The same with single energies moved (eV)."""
    energies = found.energies.copy()
    energies[list(frames)] += list(frames.values())
    return replace(found, energies=energies)


def errors_of(found: Evidence, method: object = "auto", limit: float = 500.0) -> Errors:
    left = found.energies - found.predicted
    left = left - found.counts @ (new_e0s(method, found).values - found.old)
    look = second_look(found, 0.2 * limit)
    return Errors(1e3 * left / found.n_atoms, found.weights, look, found.frames)


@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("counts", [MALONALDEHYDE, [[4, 3, 2], [4, 1, 0], [2, 0, 1]]], ids=str)
def test_single_frames_far_off_are_named(n: int, counts: list) -> None:
    right = evidence("H C O", (counts * n)[:n], noise=0.02)
    assert far_off(errors_of(right)) == "" and over_gate("auto", errors_of(right), 500) == ""
    wrong = errors_of(off(right, {5: 50.0, 7: -20.0}))
    assert np.flatnonzero(wrong.look.far).tolist() == [5, 7]
    if counts == MALONALDEHYDE:
        assert wrong.look.moved == pytest.approx(1e3 * (50 - 20) / 9 / n, rel=0.1)
    near = {i for i in range(n) if i not in (5, 7)}
    assert all(abs(wrong.look.errors[i]) < 150 for i in near)
    sentence = far_off(wrong)
    assert f"2 of {n} training energies are far off" in sentence
    assert "a.xyz frame 5 (+" in sentence and "a.xyz frame 7 (-" in sentence
    assert "frame 8" not in sentence and "config_energy_weight=0" in sentence
    if wrong.rmse > 500:
        gate = over_gate("auto", wrong, 500)
        assert "because of single frames and not of the E0s" in gate
        assert "frame 5 (+" in gate and "wrong E0s" not in gate


def test_kinds_that_the_base_does_not_describe_do_not_stop() -> None:
    right = evidence("H C O", random_counts(30, 3).tolist(), noise=0.02)
    strange = range(0, 30, 6)
    wrong = errors_of(off(right, dict.fromkeys(strange, 90.0)))
    assert "because of single frames" in over_gate("auto", wrong, 500)
    kinds = ["clusters" if i in strange else "crystals" for i in range(30)]
    wrong = replace(wrong, kinds=kinds)
    assert over_gate("auto", wrong, 500) == ""
    moved = replace(wrong, values=wrong.values + 9e4)  # by E0s that are not fitted
    assert "over the gate" in over_gate("foundation", moved, 500)
    said = far_off(wrong)
    assert "5 of 30 training energies" in said and "(clusters: 5 of 5)" in said
    assert "a.xyz frame" in said and "Training has to learn them" in said
    for odd in ({3: 90.0}, dict.fromkeys(range(1, 30, 6), 90.0)):  # single ones, another kind
        more = errors_of(off(right, dict.fromkeys(strange, 90.0) | odd))
        more = replace(more, kinds=["crystals"] * 30 if len(odd) > 1 else kinds)
        assert "because of single frames" in over_gate("auto", more, 500)
    few = replace(wrong, kinds=["clusters" if i % 2 == 0 else "crystals" for i in range(30)])
    assert "because of single frames" in over_gate("auto", few, 500)


def test_the_gate_says_whose_fault_it_is() -> None:
    right = evidence("H C O", random_counts(30, 3).tolist(), noise=0.02)
    given = {"H": -13.6, "C": -1029.0, "O": -2030.0}
    wrong = over_gate("explicit", errors_of(right, given), 500)
    assert "those of e0s.method explicit are wrong for these energies" in wrong
    assert "single frames" not in wrong and "set e0s.method: auto" in wrong
    noisy = evidence("H C O", random_counts(30, 3).tolist(), noise=3.0)
    nothing = over_gate("auto", errors_of(noisy), 500)
    assert "no E0s bring that below" in nothing and "single frames" not in nothing
    for message in (wrong, nothing):
        assert "over the gate of 500" in message and "raise e0s.max_error" in message
        assert message.count("a.xyz frame") == 3


def test_exact_energies_have_no_frames_far_off() -> None:
    found = evidence("H C O", random_counts(30, 3).tolist())
    assert not second_look(found, 1e-3).far.any()


def test_hydrogen_of_old_e0s_is_far_away() -> None:
    """What `estimated` does to one formula, and why it is not the default."""
    found = evidence("H C O", MALONALDEHYDE * 30)
    chosen = new_e0s("estimated", found)
    assert chosen.values[0] < -900
    assert "set e0s.method: auto" in open_e0s("estimated", chosen, found)
    assert atomic_numbers["H"] == 1 and Hartree * FREE_ATOMS["H"] == pytest.approx(
        -13.0253, abs=1e-3
    )

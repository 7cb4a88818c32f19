"""MACE's calculator with bounds of its force errors, and the guard of an MD."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from lora.calculators.bounds import Bounds
from lora.calculators.watched import Guard, Watched
from lora.data.calibration import Calibration, Trial
from lora.data.conformal import Bound
from lora.data.rigidity import Rigidity
from lora.errors import UserError
from lora.files.sealed import write_sealed
from lora.mace.door import upstream
from lora.mace.foundation import fingerprint
from lora.mace.graphs import graphs
from lora.mace.last_layer import features
from tests.support.models import make_model
from tests.support.trainings import teacher_data


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its calibration, as an export has them."""
    folder, model = tmp_path_factory.mktemp("export"), make_model()
    paths = folder / "p.model", folder / "p.trust.json"
    torch.save(model, paths[0])
    rigidity = Rigidity.of(features(model, graphs(teacher_data(20, seed=0), model)))
    trial = Trial(Bound(0.9, 2.0, 3.0, 20), {})
    Calibration("p", fingerprint(model), trial, rigidity).write(paths[1])
    write_sealed(folder / "card.json", {}, paths)
    return paths


def acetaldehyde(export: tuple[Path, Path], size: float = 0.1) -> Atoms:
    (atoms,) = teacher_data(1, seed=1)
    atoms.positions += np.random.default_rng(0).normal(scale=size, size=atoms.positions.shape)
    atoms.calc = Watched(*export)
    return atoms


def test_results_are_mace_s_own_and_bounds_of_each_atom(export: tuple[Path, Path]) -> None:
    atoms, model, made = acetaldehyde(export), make_model(), Calibration.read(export[1])
    own = upstream("mace.calculators").MACECalculator(str(export[0]), default_dtype="float64")
    for _ in range(2):
        own.calculate(atoms)
        assert np.abs(atoms.get_forces() - own.results["forces"]).max() < 1e-12
        assert atoms.get_potential_energy() == pytest.approx(own.results["energy"], abs=1e-12)
        (read,) = features(model, graphs([atoms], model))
        scores = made.rigidity.scores(read)
        assert atoms.calc.results["forces_bound"] == pytest.approx(2 * scores, rel=1e-6)
        assert atoms.calc.results["largest_force_bound"] == pytest.approx(3 * scores.max())
        atoms.positions *= 1.03


def test_what_training_never_saw_has_larger_bounds(export: tuple[Path, Path]) -> None:
    usual, torn = acetaldehyde(export, 0.0), acetaldehyde(export, 0.5)
    for atoms in (usual, torn):
        atoms.get_forces()
    bounds = [x.calc.results["forces_bound"] for x in (usual, torn)]
    assert np.median(bounds[1]) > 2 * np.median(bounds[0])


def test_in_float32_bounds_are_the_same(export: tuple[Path, Path]) -> None:
    atoms = acetaldehyde(export)
    atoms.get_forces()
    expected = atoms.calc.results["forces_bound"]
    atoms.calc = Watched(*export, default_dtype="float32")
    atoms.get_forces()
    assert atoms.calc.results["forces_bound"] == pytest.approx(expected, rel=0.01)


def test_files_that_do_not_belong_together_are_refused(
    export: tuple[Path, Path], tmp_path: Path
) -> None:
    model = make_model()
    with torch.no_grad():
        next(model.readouts.parameters()).add_(0.1)
    torch.save(model, tmp_path / "other.model")
    with pytest.raises(UserError, match="was calibrated for the model with fingerprint"):
        Watched(tmp_path / "other.model", export[1])
    with pytest.raises(UserError, match=r"none\.model: no such file"):
        Watched(tmp_path / "none.model", export[1])
    for path in (*export, export[0].with_name("card.json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "p.trust.json").read_text()
    (tmp_path / "p.trust.json").write_text(text.replace("0.9", "0.8"))
    with pytest.raises(UserError, match="does not match the checksum in card.json"):
        Watched(tmp_path / "p.model", tmp_path / "p.trust.json")
    (tmp_path / "p.model").write_bytes(b"another")
    with pytest.raises(UserError, match="does not match the checksum in card.json"):
        Watched(tmp_path / "p.model", export[1])


def middle(export: tuple[Path, Path], steps: int) -> float:
    """The limit that a run passes about half way."""
    atoms, seen = acetaldehyde(export), []
    run = VelocityVerlet(atoms, units.fs)
    run.attach(lambda: seen.append(atoms.calc.results["largest_force_bound"]))
    run.run(steps)
    assert len(seen) == steps + 1
    return float(np.median(seen))


def test_a_guard_ends_a_run_at_the_first_frame_beyond_the_limit(
    export: tuple[Path, Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    limit, atoms = middle(export, 30), acetaldehyde(export)
    atoms.info["config_weight"] = 2.0
    run = VelocityVerlet(atoms, units.fs)
    guard, seen = Guard(run, limit, tmp_path / "beyond.xyz"), []
    run.attach(lambda: seen.append(atoms.calc.results["largest_force_bound"]))
    run.run(30)
    assert guard.frames == 1 and guard.first == run.nsteps == len(seen) - 1 < 30
    assert max(seen[:-1], default=0.0) <= limit < seen[-1]
    assert f"step {guard.first}: a force may be off by" in caplog.text
    frame = ase.io.read(tmp_path / "beyond.xyz")
    assert frame.positions == pytest.approx(atoms.positions, abs=1e-7)
    assert frame.info["step"] == guard.first and frame.calc is None
    assert "forces" not in frame.arrays
    own = {"REF_energy", "REF_forces", "config_weight"}
    assert own & {*atoms.info, *atoms.arrays} and not own & {*frame.info, *frame.arrays}
    assert frame.get_velocities() == pytest.approx(atoms.get_velocities(), abs=1e-6)
    assert frame.arrays["forces_bound"] == pytest.approx(
        atoms.calc.results["forces_bound"], abs=1e-7
    )


def test_a_guard_that_only_writes_lets_the_run_go_on(
    export: tuple[Path, Path], tmp_path: Path
) -> None:
    limit, atoms = middle(export, 20), acetaldehyde(export)
    run, path = VelocityVerlet(atoms, units.fs), tmp_path / "beyond.xyz"
    guard = Guard(run, limit, path, stop=False)
    run.run(20)
    assert run.nsteps == 20 and 1 < guard.frames < 21
    assert len(ase.io.read(path, ":")) == guard.frames
    other = Langevin(acetaldehyde(export), units.fs, temperature_K=300, friction=0.01)
    quiet = Guard(other, 1e6)
    other.run(3)
    assert other.nsteps == 3 and quiet.frames == 0 and quiet.first is None


def test_a_guard_refuses_what_it_cannot_watch(export: tuple[Path, Path]) -> None:
    plain = molecule("H2O")
    plain.calc = upstream("mace.calculators").MACECalculator(str(export[0]))
    with pytest.raises(UserError, match="no Watched calculator"):
        Guard(VelocityVerlet(plain, units.fs), 1.0)
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="one above 0"):
            Guard(VelocityVerlet(acetaldehyde(export), units.fs), limit)


def test_torch_sim_has_the_same_bounds_of_many_systems(export: tuple[Path, Path]) -> None:
    sim = pytest.importorskip("torch_sim")
    from torch_sim.models.mace import MaceModel

    systems = teacher_data(3, seed=4)
    model = MaceModel(
        torch.load(export[0], weights_only=False),
        device=torch.device("cpu"),
        dtype=torch.float64,
        compute_stress=False,
    )
    bounds = Bounds(model.model, export[1])
    model(sim.initialize_state(systems, torch.device("cpu"), torch.float64))
    found = bounds.components().split([len(atoms) for atoms in systems])
    for atoms, own in zip(systems, found, strict=True):
        atoms.calc = Watched(*export)
        atoms.get_forces()
        assert own.numpy() == pytest.approx(atoms.calc.results["forces_bound"], rel=1e-6)

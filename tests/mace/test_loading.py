"""Models from files and by name: fetched, read, refused, mended, one head chosen."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lora import load_foundation
from lora.catalogue.foundations import BY_NAME, ROWS, USABLE
from lora.errors import UserError
from lora.mace.door import Untyped, default_dtype, o3, upstream
from lora.mace.elements import get_e0s
from lora.mace.graphs import batches, graphs
from lora.mace.loading import _warn_once, fetch, read_model
from lora.mace.predict import predict
from lora.plan.peek import class_in
from tests.support.models import difference, make_model, outputs
from tests.support.published import HEADS, MENDED, Published, without_edges

ZOO = "mace.calculators.foundations_models"


def test_the_risk_of_pickles_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(make_model(), tmp_path / "base.model")
    _warn_once.cache_clear()
    for _ in range(3):
        load_foundation(tmp_path / "base.model")
    assert caplog.text.count("can run code when loaded") == 1


# --- heads


def test_several_heads_need_a_choice(tmp_path: Path) -> None:
    model: Untyped = make_model(HEADS)
    torch.save(model, tmp_path / "two.model")
    with pytest.raises(UserError, match=r"foundation\.head: .*two\.model.*choose one of: pbe, r2"):
        load_foundation(tmp_path / "two.model")
    with pytest.raises(UserError, match="nohead is not in"):
        load_foundation(tmp_path / "two.model", head="nohead")
    chosen: Untyped = load_foundation(tmp_path / "two.model", head="r2scan")
    assert list(chosen.heads) == ["r2scan"]
    assert list(get_e0s(chosen).values()) == model.atomic_energies_fn.atomic_energies[1].tolist()
    water = molecule("H2O")
    expected = [energy_of(model, water, head) for head in (0, 1)]
    assert predict(chosen, graphs([water], chosen))["energy"][0] == pytest.approx(
        expected[1], abs=1e-12
    )
    assert abs(expected[0] - expected[1]) > 1e-3


def energy_of(model: Untyped, atoms: Atoms, head: int) -> float:
    graph = graphs([atoms], model)[0]
    graph.head = torch.tensor(head)
    return float(model(next(batches([graph], 1)).to_dict())["energy"].detach())


def test_a_head_that_mace_cannot_take_out_is_refused(tmp_path: Path) -> None:
    """MACE's function knows ScaleShiftMACE only."""
    torch.save(make_model(replace(HEADS, cls="MACE")), tmp_path / "mace.model")
    with pytest.raises(UserError, match=r"MACE cannot take the head pbe out of .*, a MACE"):
        load_foundation(tmp_path / "mace.model", "pbe")


# --- what is mended


@pytest.mark.parametrize("kind", MENDED, ids=lambda kind: kind.name)
def test_older_files_are_mended(kind: Published, tmp_path: Path) -> None:
    torch.save(kind.file(), tmp_path / "old.model")
    mended, said = read_model(tmp_path / "old.model")
    fresh, nothing = read_model(save(kind.model(), tmp_path / "new.model"))
    assert said and not nothing
    for name in ("heads", "edge_irreps", "use_edge_irreps_first"):
        assert str(getattr(mended, name)) == str(getattr(fresh, name)), name
    assert difference(outputs(mended), outputs(fresh)) == 0


def test_mending_is_needed(tmp_path: Path) -> None:
    """Upstream itself builds another model of a file that lacks the irreps of edges."""
    kind = next(kind for kind in MENDED if kind.aged is without_edges)
    remove = upstream("mace.tools.scripts_utils").remove_pt_head
    with default_dtype(torch.float64), pytest.raises(RuntimeError, match="size mismatch"):
        remove(kind.file(), kind.head)


def save(model: object, path: Path) -> Path:
    torch.save(model, path)
    return path


# --- what is refused


def dipoles(cls: str) -> torch.nn.Module:
    """A model of dipoles, as MACE's own tests make them."""
    modules = upstream("mace.modules")
    residual = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    energies: dict[str, Any] = {"atomic_energies": np.array([-1.0, -2.0])}
    if cls != "EnergyDipolesMACE":
        energies = {"atomic_energies": None}
    return getattr(modules, cls)(
        **energies,
        r_max=4.0,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=residual,
        interaction_cls_first=residual,
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("4x0e + 4x1o"),
        MLP_irreps=o3.Irreps("4x0e + 4x1o"),
        avg_num_neighbors=6.0,
        atomic_numbers=[1, 8],
        correlation=2,
        gate=torch.nn.functional.silu,
    )


def compiled(_: str) -> torch.nn.Module:
    return torch.jit.script(torch.nn.Linear(2, 2))


REFUSED = {
    "AtomicDipolesMACE": (dipoles, "predicts dipoles and no energies"),
    "EnergyDipolesMACE": (dipoles, "readouts of energies and dipoles are not known here"),
    "TorchScript": (compiled, "cannot be trained; give the .model file that it was compiled from"),
    "dict": (lambda _: {"model": {}, "optimizer": {}}, "is no model; give the .model file that"),
    "OrderedDict": (lambda _: make_model().state_dict(), "is no model; give the .model file that"),
    "Linear": (lambda _: torch.nn.Linear(2, 2), "holds a Linear, not a MACE model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_of_no_use(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path, made = tmp_path / "x.model", make(name)
    if isinstance(made, torch.jit.ScriptModule):
        made.save(str(path))
    else:
        torch.save(made, path)
    with pytest.raises(UserError, match=message) as error:
        load_foundation(path)
    assert len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)
    assert class_in(path) == name  # told without torch, in the dry run


def test_a_file_that_is_no_model_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot be read as a model"):
        load_foundation(tmp_path / "x.model")
    assert class_in(tmp_path / "x.model") is None


def test_latent_ewald_summation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its package and without it, which nobody here has: a stand-in takes its place."""

    class Les(torch.nn.Module):
        def __init__(self, les_arguments: dict[str, Any]) -> None:
            super().__init__()

    Les.__module__, Les.__qualname__ = "les", "Les"
    package = ModuleType("les")
    package.Les = Les  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "les", package)
    models: Untyped = upstream("mace.modules.models")
    monkeypatch.setattr(
        models, "MACELES", upstream("mace.modules.extensions").MACELES, raising=False
    )
    model: Untyped = make_model()
    model.les, model.__class__ = Les({}), upstream("mace.modules.extensions").MACELES
    path = save(model, tmp_path / "les.model")
    with pytest.raises(UserError, match="holds a MACELES, whose latent Ewald summation is not"):
        load_foundation(path)
    assert class_in(path) == "MACELES"
    monkeypatch.delitem(sys.modules, "les")
    with pytest.raises(UserError, match=r"made with the package les \(github.*which is not inst"):
        load_foundation(path)


def test_an_input_that_data_cannot_give_is_refused(tmp_path: Path) -> None:
    model: Untyped = make_model()
    model.embedding_specs = {"elec_temp": {"type": "continuous"}}
    with pytest.raises(UserError, match="takes elec_temp as an input"):
        load_foundation(save(model, tmp_path / "x.model"))


def test_weights_of_another_precision(tmp_path: Path) -> None:
    model: Untyped = make_model()
    model.readouts.float()
    mixed, said = read_model(save(model, tmp_path / "mixed.model"))
    assert said == ["weights in float32 and float64: all are in float64"]
    assert difference(outputs(mixed), outputs(make_model())) < 1e-5
    with pytest.raises(UserError, match=r"has weights in float16; save it in float32 or"):
        load_foundation(save(model.half(), tmp_path / "half.model"))


# --- names


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"medium_omat.*medium_off"):
        load_foundation("mediun_omat")


def test_every_name_of_mace_is_known_with_its_address() -> None:
    zoo = upstream(ZOO)
    addresses = {**zoo.mace_mp_urls, **zoo.polar_model_urls}
    addresses |= {f"{size}_off": url for size, url in zoo.mace_off_urls.items()}
    code = Path(str(zoo.__file__)).read_text()
    for row in ROWS:
        if row.name in addresses:
            assert addresses.pop(row.name) == row.url
        else:  # addresses within functions
            assert row.name in ("mace_omol", "mace_anicc") and f'"{row.url}"' in code
    assert not addresses
    assert BY_NAME["extra_large"].name == "mace_omol"
    for row in ROWS:
        assert row.cls in USABLE or row.cls == "PolarMACE"


def test_a_published_model_is_fetched_by_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The download itself needs a network; that we ask for the right file does not."""
    zoo, asked = upstream(ZOO), []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = save(make_model(), tmp_path / "fetched.model")
    monkeypatch.setattr(
        zoo, "download_mace_mp_checkpoint", lambda url: asked.append(url) or str(base)
    )
    for name in ("medium_omat", "small", "medium_off", "mace_omol"):
        load_foundation(name)
    assert [url.rpartition("/")[2] for url in asked] == [
        "mace-omat-0-medium.model",
        "2023-12-10-mace-128-L0_energy_epoch-249.model",
        "MACE-OFF23_medium.model",
        "MACE-omol-0-extra-large-1024.model",
    ]


def test_maces_own_cache_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mace").mkdir()
    for name in ("MACE-OFF23_small.model", "MACEmatpespbeomatftmodel"):
        (tmp_path / "mace" / name).write_text("there")
    assert fetch("small_off").name == "MACE-OFF23_small.model"
    assert fetch("mace-matpes-pbe-0").name == "MACEmatpespbeomatftmodel"


def test_without_a_network_the_address_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def down(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", down)
    with pytest.raises(UserError, match=r"could not be fetched .*download https://.*small\.model"):
        fetch("small-0b")


def test_a_name_that_cannot_be_tuned_is_refused_before_it_is_fetched() -> None:
    with pytest.raises(UserError, match=r"polar-1-m holds a PolarMACE, whose electrostatics"):
        fetch("polar-1-m")

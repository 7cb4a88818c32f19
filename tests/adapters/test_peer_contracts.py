"""What Hugging Face's PEFT promises of an adapter, on MACE, for every kind and every start.

The list is that of PEFT's own tests (tests/testing_common.py, test_custom_models.py), without what
has no meaning here: text generation, prompts, embeddings that are resized, biases that train,
gradient checkpointing (MACE has none) and half precision (MACE has none).  Elsewhere are: several
adapters at once (packs and committees, test_change.py), weighted sums (test_algebra.py), modules
that train as a whole (test_unload.py), hot swap (test_swap.py) and merging (test_safe_merge.py).

Adapters are on all hosts that the base has; test_change.py has each host alone.
"""

import copy
import io
import logging
import subprocess
import sys
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lora import inject_lora, load_adapter, merge_lora_weights, save_adapter, unload_lora
from lora.adapters.algebra import disabled, scale_adapters, truncate_lora
from lora.adapters.inject import lora_layers
from lora.adapters.kinds import KINDS
from lora.adapters.saved import read_card
from lora.catalogue.methods import ALONG_GRADIENT, BY_NAME, STARTS
from lora.errors import UserError
from tests.adapters import test_upstreams_lora
from tests.support.adapted import (
    FEW,
    PRODUCTS,
    base,
    gap,
    injected,
    of_base,
    same,
    state,
    train_step,
)
from tests.support.models import difference, make_model, outputs, perturb

SINGLE = 2e-4  # of energies (eV), forces (eV/Å) and stresses (eV/Å^3) in float32
each_kind = pytest.mark.parametrize("kind", KINDS)

# --- what is trained


@each_kind
def test_only_adapters_are_trained(kind: str) -> None:
    """The base does not move, every parameter of an adapter does; nor do train() and eval()."""
    model = injected(kind)
    own = {f"{name}.{key}" for name, layer in lora_layers(model) for key in layer.axes}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == own
    evaluated = outputs(model, FEW)
    model.train()
    assert difference(outputs(model, FEW), evaluated) == 0
    before = state(model)
    train_step(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0]) == (name not in own), name
    assert same(unload_lora(model), base())


@each_kind
def test_names_of_the_state(kind: str) -> None:
    """Those of the base, of an adapted layer under `base`, and those of the kind; strictly read."""
    model, again = injected(kind), injected(kind, seed=2)
    layers = dict(lora_layers(model))
    expected = {f"{name}.{key}" for name, layer in layers.items() for key in layer.axes}
    for name in base().state_dict():
        owner = next((x for x in layers if name.startswith(f"{x}.")), None)
        expected.add(f"{owner}.base{name.removeprefix(owner)}" if owner else name)
    found = set(model.state_dict())
    frozen = {f"{name}.{key}" for name, x in layers.items() for key, _ in x.named_buffers()}
    assert expected <= found <= expected | frozen
    assert gap(again, model) > 1e-3
    again.load_state_dict(model.state_dict())
    assert same(again, model) and gap(again, model) == 0


@each_kind
def test_disabled_is_the_base(kind: str) -> None:
    """In nested contexts and after an error, to the last digit; and nothing is lost inside."""
    model, off = injected(kind), of_base()
    on, before = outputs(model, FEW), state(model)

    class MineError(Exception):
        pass

    with pytest.raises(MineError), disabled(model):
        with disabled(model):
            assert difference(outputs(model, FEW), off) == 0
        assert difference(outputs(model, FEW), off) == 0
        raise MineError
    assert difference(outputs(model, FEW), on) == 0 and same(before, model)


@each_kind
def test_what_is_refused_while_disabled(kind: str, tmp_path: Path) -> None:
    """Else whole modules are saved with the base's weights, and the base is left with theirs."""
    model = make_model()
    inject_lora(model, rank=2, kind=kind, modules_to_save=["readouts"])
    perturb(model)
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            parameter.mul_(2.0)
    before = state(model)
    acts = {
        "save or merge": [lambda: save_adapter(model, tmp_path / "a")],
        "unload": [lambda: unload_lora(model)],
        "scale": [lambda: scale_adapters(model, 0.5)],
        "cut": [lambda: truncate_lora(model, rank=1)],
    }
    acts["save or merge"] += [lambda: merge_lora_weights(model)]
    acts["save or merge"] += [lambda: merge_lora_weights(model, inplace=False)]
    for word, calls in acts.items():
        for act in calls:
            with disabled(model), pytest.raises(ValueError, match=f"disabled: {word} outside of"):
                act()
            assert same(before, model)
    assert not (tmp_path / "a").exists()
    assert same(unload_lora(model), base())


# --- copies, dtypes and files


@each_kind
def test_copies_are_independent(kind: str) -> None:
    """Trained, merged or unloaded, a copy leaves the original what it was; and it is no alias."""
    model = injected(kind)
    before, adapted = state(model), outputs(model, FEW)
    for act in (train_step, merge_lora_weights, unload_lora):
        other = copy.deepcopy(model)
        assert same(before, other)
        addresses = {p.data_ptr() for p in model.parameters() if p.numel()}
        assert not addresses & {p.data_ptr() for p in other.parameters() if p.numel()}
        act(other)
        assert not same(before, other) and same(before, model)
        assert difference(outputs(model, FEW), adapted) == 0
    assert merge_lora_weights(model, inplace=False) is not model and same(before, model)


@each_kind
def test_pickled(kind: str, tmp_path: Path) -> None:
    """With its adapters it can be pickled: they can be saved, merged and unloaded afterwards."""
    model, file = injected(kind), io.BytesIO()
    torch.save(model, file)

    def read() -> nn.Module:
        file.seek(0)
        return torch.load(file, weights_only=False)

    assert same(read(), model) and gap(read(), model) == 0
    save_adapter(read(), tmp_path)
    loaded = make_model()
    load_adapter(loaded, tmp_path)
    assert same(loaded, model)
    assert gap(merge_lora_weights(read()), model) < 1e-9
    assert same(unload_lora(read()), base())


@each_kind
def test_dtype_is_changed_under_adapters(kind: str) -> None:
    """Adapters go to float32 and back with their base, and off it in either."""
    model = injected(kind)
    single = copy.deepcopy(model).to(torch.float32)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert 0 < gap(single, model) < SINGLE
    assert gap(merge_lora_weights(single, inplace=False), model) < SINGLE
    double = copy.deepcopy(single).to(torch.float64)
    assert gap(double, single) < SINGLE and gap(double, model) < SINGLE
    with disabled(single):
        assert gap(single, make_model().float()) == 0
    assert same(unload_lora(single), make_model().float())
    train_step(double)
    assert gap(double, model) > 1e-6


@each_kind
@pytest.mark.parametrize("dtypes", product(*[(torch.float32, torch.float64)] * 2), ids=str)
def test_saved_in_one_dtype_and_loaded_in_another(
    kind: str,
    dtypes: tuple[torch.dtype, torch.dtype],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = injected(kind).to(dtypes[0])
    save_adapter(model, tmp_path)
    assert f"torch.{read_card(tmp_path)['dtype']}" == str(dtypes[0])
    loaded = make_model().to(dtypes[1])
    load_adapter(loaded, tmp_path)
    said = [x.getMessage() for x in caplog.records if x.levelno == logging.WARNING]
    assert any("trained in" in x for x in said) == (dtypes[0] != dtypes[1])
    assert {p.dtype for p in loaded.parameters()} == {dtypes[1]}
    if dtypes[0] == dtypes[1]:
        assert same(loaded, model) and gap(loaded, model) == 0
    else:
        assert 0 < gap(loaded, model) < SINGLE
    assert same(unload_lora(loaded), make_model().to(dtypes[1]))


READER = """
import sys
import numpy as np, torch
from pathlib import Path
from lora import load_adapter
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from ase.io import read
home = Path(sys.argv[1])
for folder in sorted(home.glob("adapter_*")):
    model = torch.load(home / "base.model", weights_only=False)
    load_adapter(model, folder)
    found = predict(model, graphs(read(home / "few.traj", ":"), model), stress=True)
    np.savez(folder / "found.npz", **found)
    torch.save(model.state_dict(), folder / "state.pt")
"""


def test_round_trip_in_another_process(tmp_path: Path) -> None:
    """Of every kind: the state, to the last bit, and what is predicted."""
    from ase.io import write

    models = {kind: injected(kind) for kind in KINDS}
    torch.save(base(), tmp_path / "base.model")
    write(tmp_path / "few.traj", FEW)
    for kind, model in models.items():
        save_adapter(model, tmp_path / f"adapter_{kind}")
    command = [sys.executable, "-c", READER, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    for kind, model in models.items():
        folder = tmp_path / f"adapter_{kind}"
        found, expected = torch.load(folder / "state.pt"), model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert difference(dict(np.load(folder / "found.npz")), outputs(model, FEW)) < 1e-12


@each_kind
def test_one_base_has_many_adapters_one_after_another(kind: str, tmp_path: Path) -> None:
    for seed, name in enumerate("ab", start=1):
        save_adapter(injected(kind, seed, rank=seed + 1, alpha=float(seed)), tmp_path / name)
    model, first = make_model(), {}
    for name in "aba":
        load_adapter(model, tmp_path / name)
        found = state(model), outputs(model, FEW)
        again = first.setdefault(name, found)
        assert same(found[0], again[0]) and difference(found[1], again[1]) == 0
        with pytest.raises(ValueError, match="merge or unload them first"):
            load_adapter(model, tmp_path / name)
        with pytest.raises(ValueError, match="merge or unload them first"):
            inject_lora(model, kind=kind)
        assert same(found[0], model)
        assert same(unload_lora(model), base())
    assert difference(first["a"][1], first["b"][1]) > 1e-3


@pytest.mark.parametrize(("kind", "start"), list(product(KINDS, STARTS)), ids=str)
def test_every_start(kind: str, start: str, tmp_path: Path) -> None:
    """It begins as the base, comes off as the base, and its adapter needs nothing but the base.

    A start that needs more than a model (data, say), or that a kind does not have, says so.
    """
    model = make_model()
    how = {"rank": 2, "alpha": 2.0, "kind": kind, "start": start, "targets": PRODUCTS}
    try:
        inject_lora(model, **how)
    except (TypeError, ValueError, UserError) as refused:
        assert start in str(refused) and "\n" not in str(refused)
        assert start in ALONG_GRADIENT or not BY_NAME[kind].has_start(start)
        assert same(model, base())
        return
    scale = max(np.abs(x).max() for x in of_base().values())
    assert gap(model, base()) <= 1e-12 * scale
    perturb(model)
    save_adapter(model, tmp_path)
    loaded = make_model()
    load_adapter(loaded, tmp_path)
    assert gap(loaded, model) < 1e-11 * scale and gap(loaded, base()) > 1e-3
    assert gap(merge_lora_weights(loaded), model) < 1e-9
    assert same(unload_lora(model), base())


# --- MACE's own tests


def test_upstreams_tests_are_as_they_were_published() -> None:
    """But for the imports: `test_upstreams_lora.py` beside the file in the wheel of MACE."""
    (theirs,) = (
        x for x in metadata.files("mace-torch") or [] if x.as_posix() == "tests/test_lora.py"
    )
    published, kept = theirs.read_text(), Path(test_upstreams_lora.__file__).read_text()
    first = "def _random_config()"
    _, published = published.split(first, 1)
    _, kept = kept.split(first, 1)
    named = "LoRADenseLinear, LoRAFCLayer, LoRAO3Linear\n"
    assert kept == published.replace(
        f"from mace.modules.lora import {named}", f"from lora import {named}"
    )
    assert kept.count("def test_") == 7

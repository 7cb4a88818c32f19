"""Trainings that go on from an earlier adapter: the start is that model, whatever the rank."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lora import load_adapter
from lora.data.structures import FORCES, load_structures
from lora.errors import UserError
from lora.files.sealed import read_json, write_sealed
from lora.mace.foundation import load_foundation
from lora.mace.graphs import graphs
from lora.mace.predict import predict
from lora.plan.commands import Base
from lora.plan.settings import TrainSettings
from lora.plan.targets import Targets
from lora.steps.train import train_pack
from lora.steps.truncate import truncate
from tests.support.models import make_model
from tests.support.trainings import lines_of, same

FIRST = TrainSettings(
    rank=3,
    alpha=8.0,
    lr=0.02,
    batch_size=3,
    max_num_epochs=3,
    targets=Targets(skip_tp=True, symmetric_contraction=True),
)


@pytest.fixture(scope="module")
def earlier(inputs: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained adapters of each kind."""
    out = tmp_path_factory.mktemp("earlier")
    own = {"lora": {}, "dora": {"method": "dora"}, "sparse": {"method": "sparse"}}
    own |= {"pissa": {"start": "pissa", "lr": 0.004}}
    own |= {"dora_pissa": {"method": "dora", "start": "pissa", "lr": 0.004}}
    for name, more in own.items():
        train_pack({out / name: replace(FIRST, **more)}, **inputs, work=out / f"{name}_work")
    return {name: out / name / "adapter" for name in own}


def go_on(inputs: dict, out: Path, source: Path, **own: object) -> Path:
    """Train from an adapter."""
    settings = replace(FIRST, start="adapter", start_from=str(source), **own)
    train_pack({out / "on": settings}, **inputs, work=out / "work")
    return out / "on"


def error_of(inputs: dict, adapter: Path) -> float:
    """The force error (meV/Å) of a saved adapter on the validation set."""
    valid = load_structures(inputs["files"].valid)
    model = load_foundation(inputs["base"].model, None, torch.float64)
    load_adapter(model, adapter)
    forces = predict(model, graphs(valid, model))["forces"]
    wanted = np.concatenate([x.arrays[FORCES] for x in valid])
    return 1e3 * float(np.sqrt(np.mean((np.asarray(forces) - wanted) ** 2)))


SAME = [("lora", {}), ("dora", {"method": "dora"}), ("sparse", {"method": "sparse"})]
SAME += [("lora", {"alpha": 2.0}), ("lora", {"scaling": "rank_stable"}), ("lora", {"rank": 5})]
SAME += [("pissa", {"rank": 6})]


@pytest.mark.parametrize(("kind", "own"), SAME, ids=str)
def test_it_begins_where_the_other_ended(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path, kind: str, own: dict
) -> None:
    folder = go_on(inputs, tmp_path, earlier[kind], **own)
    lines = lines_of(folder)
    wanted = error_of(inputs, earlier[kind])
    assert lines[0]["valid_rmse_f_mev_per_a"] == pytest.approx(wanted, rel=1e-9)
    base = lines_of(earlier[kind].parent)[0]["valid_rmse_f_mev_per_a"]
    assert wanted < 0.99 * base and lines[-1]["valid_loss"] != lines[0]["valid_loss"]


def test_other_e0s_are_said_with_what_keeps_the_old(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They shift every energy by a constant that the adapter was not trained with."""
    found = read_json(inputs["files"].e0s)
    old = found["E0s"]
    worst = max(old)
    go_on(inputs, tmp_path / "same", earlier["lora"])
    assert "E0s" not in caplog.text
    write_sealed(tmp_path / "e0s.json", found | {"E0s": old | {worst: old[worst] + 0.25}}, [])
    moved = inputs | {"files": replace(inputs["files"], e0s=tmp_path / "e0s.json")}
    go_on(moved, tmp_path / "moved", earlier["lora"])
    assert f"E0s are up to 250 meV ({worst}) from those of the adapter" in caplog.text
    assert "e0s.method: adapter keeps them." in caplog.text


def test_a_lower_rank_keeps_the_largest_singular_values(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truncate(inputs["base"], earlier["lora"], tmp_path / "cut", rank=1)
    folder = go_on(inputs, tmp_path, earlier["lora"], rank=1)
    wanted = error_of(inputs, tmp_path / "cut/adapter")
    assert lines_of(folder)[0]["valid_rmse_f_mev_per_a"] == pytest.approx(wanted, rel=1e-9)
    assert wanted != pytest.approx(error_of(inputs, earlier["lora"]), rel=1e-3)
    assert "layers keep the largest singular values" in caplog.text


def test_columns_of_a_higher_rank_can_be_trained(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    folder = go_on(inputs, tmp_path, earlier["lora"], rank=5)
    tensors = load_file(folder / "adapter/adapter.safetensors")
    name = next(x for x in tensors if x.endswith("readouts.0.linear.lora_A"))
    assert tensors[name].numel() % 5 == 0
    rows = [x.view(5, -1) for n, x in tensors.items() if n.endswith("readouts.0.linear.lora_B")]
    assert all(bool((row.abs() > 0).all()) for row in rows)


def test_the_content_of_the_adapter_counts_and_not_its_place(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    one = go_on(inputs, tmp_path / "a", earlier["lora"])
    shutil.copytree(earlier["lora"], tmp_path / "moved")
    other = go_on(inputs, tmp_path / "b", tmp_path / "moved")
    assert same(one, other)
    keys = [read_json(x / "train.json")["key"] for x in (one, other)]
    assert keys[0] == keys[1]
    again = go_on(inputs, tmp_path / "c", one / "adapter")
    assert read_json(again / "train.json")["key"] != keys[0]


@pytest.mark.parametrize(
    ("kind", "own", "words"),
    [
        ("lora", {"method": "dora"}, "is a lora adapter, and this point trains dora"),
        ("lora", {"targets": Targets()}, r"adapts .*(skip_tp|contraction).* this point does not"),
        ("lora", {"targets": Targets(irreps=("0e",))}, "as this point does not; give targets"),
        ("dora", {"method": "dora", "rank": 2}, "has rank 3, and this point 2; dora adapters go"),
        ("sparse", {"method": "sparse", "alpha": 1.0}, "has alpha 8.0, and this point 1.0"),
        ("dora_pissa", {"method": "dora"}, r"columns .* go on from it as foundation\.model"),
    ],
)
def test_another_adapter_is_refused_in_a_line(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path, kind: str, own: dict, words: str
) -> None:
    with pytest.raises(UserError, match=rf"^start_from: .*{words}") as error:
        go_on(inputs, tmp_path, earlier[kind], **own)
    assert "\n" not in str(error.value)


def test_another_base_and_no_adapter_are_refused(
    inputs: dict, earlier: dict[str, Path], tmp_path: Path
) -> None:
    other = make_model()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    torch.save(other, tmp_path / "other.model")
    with pytest.raises(UserError, match="this adapter belongs to the base"):
        go_on(inputs | {"base": Base(tmp_path / "other.model")}, tmp_path, earlier["lora"])
    with pytest.raises(UserError, match="start_from: .*nowhere is not the folder of an adapter"):
        go_on(inputs, tmp_path, tmp_path / "nowhere")

"""Commands of mace_run_train as configs: every option arrives, or is said with what to do."""

import re
from pathlib import Path

import pytest
import yaml

from lora.catalogue.mace_options import ROWS, MaceOption
from lora.errors import UserError
from lora.mace.door import upstream
from lora.plan.config import Config
from lora.plan.mace_command import read_command
from lora.plan.translation import translation

BARE = "mace_run_train --name=a --foundation_model=b.model --train_file=c.xyz"
VALUES = {"int": "7", "float": "0.5", "bool": "True", "flag": "", "text": "some", "texts": "x y"}
OWN = {
    "config": "",
    "device": "cuda",
    "default_dtype": "float32",
    "E0s": "average",
    "loss": "huber",
    "config_type_weights": "'{\"hot\":2}'",
    "scheduler": "ExponentialLR",
    "optimizer": "adamw",
    "freeze": "6",
}


def written(command: str) -> tuple[dict, str]:
    draft = translation(command, {})
    values = yaml.safe_load(draft.text())
    assert values == draft.values()  # the comments are comments
    Config.model_validate(values)
    return values, draft.text()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_option_arrives_or_is_said(row: MaceOption) -> None:
    if row.name == "config":
        return  # see below
    value = OWN.get(row.name, VALUES[row.kind])
    values, text = written(f"{BARE} --{row.name} {value}")
    silent, _ = written(BARE)
    said = " ".join(text.replace("# ", " ").split())
    if not row.key and row.name != "lora":
        assert re.search(rf"--{row.name}(=\S+)?: {re.escape(row.note)}", said)
        assert values == silent
    elif row.name in ("multiheads_finetuning", "pseudolabel_replay"):
        assert f"--{row.name}=True: mace_run_train replays nothing" in said
    else:
        assert values != silent


def test_a_whole_command() -> None:
    values, text = written(
        BARE.replace("b.model", "small")
        + " --multiheads_finetuning=False --lora=True --lora_rank=8 --lora_alpha=32 --seed=5 "
        "--E0s='{1: -13.6, 8: -2041.5}' --energy_key=dft_energy --valid_file=v.xyz "
        "--test_file=t.xyz --lr=0.005 --ema --ema_decay=0.995 --clip_grad=None --amsgrad "
        "--batch_size=4 --max_num_epochs=30 --scheduler_patience=5 --weight_decay=1e-8 "
        "--stage_two --start_stage_two=20 --device=cuda --loss=ef \\\n --work_dir=runs"
    )
    assert values == {
        "results": "runs/a",
        "foundation": {"model": "small"},
        "data": {"file": "c.xyz", "energy_key": "dft_energy"},
        "split": {"method": "given", "valid_file": "v.xyz", "test_file": "t.xyz"},
        "e0s": {"method": {"H": -13.6, "O": -2041.5}},
        "grid": {"rank": [8], "alpha": [32], "seed": [5]},
        "train": {
            "loss": "weighted",
            "energy_weight": 1,
            "forces_weight": 1,
            "weight_decay": 1e-8,
            "amsgrad": True,
            "ema": True,
            "batch_size": 4,
            "max_num_epochs": 30,
            "scheduler_patience": 5,
            "device": "cuda",
            "drop_last": True,
        },
        "methods": {"lora": {"lr": 0.005, "ema_decay": 0.995, "clip_grad": 0}},
    }
    assert "# --swa: There is no stage two." in text and "--start_swa=20" in text


def test_the_parser_of_mace_reads_the_same(tmp_path: Path) -> None:
    """Flags, equals signs, abbreviations and YAML are read as upstream reads them."""
    command = (
        "--name=a --lora True --ema --clip_grad 5 --start_stage_two 3 --num_samples 9 --plot=no"
    )
    parser = upstream("mace.tools").build_default_arg_parser()
    theirs = vars(parser.parse_args(command.split()))
    given = read_command(command)
    assert {x: theirs[x] for x in given} == given
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nlora: true\nema: true\nswa: false\nclip_grad: 5\nE0s: average\n")
    theirs = vars(parser.parse_args(["--config", str(path)]))
    given = read_command(str(path))
    assert {x: theirs[x] for x in given} == given and "swa" not in given
    assert read_command(f"--config={path} --name=b") == given | {"name": "b"}


@pytest.mark.parametrize(
    ("command", "baselines", "replay", "lr"),
    [
        ("--pt_train_file=p.xyz", ["foundation", "full", "full_replay"], None, 0.0001),
        ("--pt_train_file=p.xyz --lora=True --lr=0.1", None, [True], 0.0001),
        ("--pt_train_file=p.xyz --lora=True --lr=0.1 --force_mh_ft_lr=True", None, [True], 0.1),
        ("--pt_train_file=p.xyz --multiheads_finetuning=no", ["foundation", "full"], None, None),
    ],
)
def test_replay(command: str, baselines: list, replay: list, lr: float) -> None:
    values, text = written(f"{BARE} {command}")
    assert values.get("baselines") == baselines and values["grid"].get("replay") == replay
    assert [x.get("lr") for x in values.get("methods", {"": {}}).values()] == [lr]
    assert ("--lr=0.1: mace_run_train sets lr 0.0001" in text) == (
        lr == 0.0001 and "--lr" in command
    )


def test_replay_of_what_mace_downloads_is_said() -> None:
    values, text = written(BARE.replace("b.model", "small"))
    assert "replay" not in values and "The command replays: mp is a name of data" in text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            f"{BARE} --max_num_epoch 3 --bach_size=4",
            "--bach_size is no option of mace_run_train; did you mean batch_size?",
        ),
        (f"{BARE} --batch_size=many", "--batch_size: 'many' is not a number"),
        (f"{BARE} --batch_size=1.5", "--batch_size: '1.5' is not a whole number"),
        (f"{BARE} --lora=perhaps", "--lora: 'perhaps' is not True or False"),
        (f"{BARE} --ema=True", "--ema: takes no value; write --ema alone"),
        (f"{BARE} --lr", "--lr: its value is missing"),
        (
            f"{BARE} loose",
            "--from: 'loose' is no option of mace_run_train; quote values with spaces",
        ),
        ("mace_run_train --name='a", "--from: no closing quotation; quote values as in a shell"),
        ("mace_run_train --train_file=c.xyz", "--foundation_model is missing"),
        ("mace_run_train --foundation_model=small", "--train_file is missing"),
    ],
)
def test_mistakes_are_a_line(command: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        translation(command, {})
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_mistake_in_yaml_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nbatch_siz: 3\n")
    with pytest.raises(UserError, match=r"a\.yaml line 2: batch_siz is no option.*batch_size\?"):
        read_command(str(path))

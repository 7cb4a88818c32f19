"""`mace-lora init`: what it writes passes unedited, and it overwrites nothing unasked."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from lora.cli.main import main
from lora.data.structures import write_structures
from lora.plan.checking import load_config
from lora.plan.labels import check_data_keys
from tests.support.frames import crystals, free_atoms, labelled, molecules
from tests.support.sweep import dry_run

FILES = {
    "molecules": lambda: labelled(molecules(12)),
    "trajectory": lambda: labelled(molecules(400, walk=0.3)),
    "crystals": lambda: labelled(crystals(12), REF_stress=np.zeros(6)),
    "free_atoms": lambda: free_atoms("HCO", config_type="IsolatedAtom") + labelled(molecules(12)),
    "other_names": lambda: labelled(molecules(12), "dft_energy", "dft_forces", free_energy=1.0),
    "ase_names": lambda: labelled(crystals(12), "energy", "forces", stress=np.zeros(6)),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is called; as in a clone there is a Snakefile."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    return tmp_path


def checked(path: str) -> dict:
    """A config that is read as strictly as possible."""
    loaded = load_config(Path(path), folder=Path.cwd())
    assert loaded.warnings == [] and check_data_keys(loaded.config) == []
    values: dict = yaml.safe_load(Path(path).read_text())
    return values


@pytest.mark.parametrize("name", FILES)
def test_a_good_file_gives_a_config_that_passes(
    name: str, home: Path, capsys: pytest.CaptureFixture
) -> None:
    ase.io.write(home / "dft.xyz", FILES[name](), format="extxyz")
    assert main(["init", "dft.xyz", "--foundation", "small"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "my.yaml: written; next: snakemake --dry-run --configfile my.yaml"
    assert len(out) == (2 if name == "other_names" else 1)  # free_energy is another energy
    values = checked("my.yaml")
    assert values["foundation"] == {"model": "small"} and values["results"] == "results_dft"
    assert ("loss" in values["train"]) == (name in ("crystals", "ase_names"))


def test_it_runs_dry_unedited(home: Path) -> None:
    write_structures(home / "dft.xyz", labelled(crystals(12), REF_stress=np.zeros(6)))
    assert main(["init", "dft.xyz", "--foundation", "small"]) == 0
    values = yaml.safe_load((home / "my.yaml").read_text())
    values["data"]["file"] = str(home / "dft.xyz")  # the dry run starts elsewhere
    done = dry_run(values, home)
    assert done.returncode == 0 and "plan: 36 of 36 points to train" in done.stderr, done.stderr


def test_nothing_is_overwritten_unasked(home: Path, capsys: pytest.CaptureFixture) -> None:
    write_structures(home / "dft.xyz", labelled(molecules(12)))
    (home / "my.yaml").write_text("mine")
    command = ["init", "dft.xyz", "--foundation", "small"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "mace-lora init: my.yaml: exists; name another file by --out, or add --force"
    assert (home / "my.yaml").read_text() == "mine"
    assert main([*command, "--out", "other.yaml"]) == 0 and checked("other.yaml")
    assert main([*command, "--force"]) == 0 and checked("my.yaml")


def test_a_foundation_model_that_is_not_known_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    write_structures(home / "dft.xyz", labelled(molecules(12)))
    assert main(["init", "dft.xyz", "--foundation", "smal"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("config: foundation.model: 'smal' is neither") and "mean small?" in line
    assert not (home / "my.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dft.xyz"], "mace-lora init: name a file of structures and --foundation, or give --from"),
        (["none.xyz", "--foundation", "small"], "mace-lora init: none.xyz: no such file"),
        (
            ["--from", "mace_run_train --epochs 3"],
            "mace-lora init: --epochs is no option of mace_r",
        ),
        (["--from", "none.yaml"], "none.yaml: cannot be opened"),
    ],
)
def test_mistakes_are_a_line(
    arguments: list[str], message: str, home: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["init", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert not (home / "my.yaml").exists()


def test_a_command_of_mace_run_train(home: Path, capsys: pytest.CaptureFixture) -> None:
    write_structures(home / "dft.xyz", labelled(molecules(12)))
    command = "mace_run_train --name=a --foundation_model=small --train_file=dft.xyz --lora=True"
    command += " --multiheads_finetuning=False --energy_weight=10 --E0s=average"
    assert main(["init", "--from", command]) == 0
    values = checked("my.yaml")
    assert values["train"] == {"energy_weight": 10, "drop_last": True} and values["grid"][
        "rank"
    ] == [4]
    assert main(["init", "none.xyz", "--from", command, "--force"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"config: data.file: 'none.xyz' is not a file; paths start at {home}",
        "my.yaml: written; mend these lines, then: mace-lora config my.yaml",
    ]

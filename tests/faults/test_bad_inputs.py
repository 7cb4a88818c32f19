"""Bad inputs: for each one line that says what, where (file, frame, key), and what to do.

Those of the config are in tests/plan/test_config.py.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lora import inject_lora, load_foundation, save_adapter
from lora.cli.main import main
from lora.data.structures import load_structures, write_structures
from tests.support import counts
from tests.support.models import BASE, make_model
from tests.support.trainings import teacher_data

PROPERTIES = "Properties=species:S:1:pos:R:3:REF_forces:R:3"
ATOMS = "O 0 0 0 0.1 0 0\nH 0 0 0.96 0 0.1 0\nH 0.93 0 -0.24 0 0 0.1\n"
GOOD = f'3\n{PROPERTIES} REF_energy=-14.0 pbc="F F F"\n{ATOMS}'


def frame(comment: str = f'{PROPERTIES} REF_energy=-14.0 pbc="F F F"', atoms: str = ATOMS) -> str:
    return f"{len(atoms.splitlines())}\n{comment}\n{atoms}"


def with_(more: str) -> str:
    return frame(f'{PROPERTIES} REF_energy=-14.0 pbc="F F F" {more}')


# name: (content of a file after a good frame, what `mace-lora split` says of frame 1)
FRAMES: dict[str, tuple[str, str]] = {
    "forces_in_the_comment": (
        frame(
            'Properties=species:S:1:pos:R:3 REF_energy=-1 REF_forces="1 2 3 4 5 6"',
            "O 0 0 0\nH 0 0 1\n",
        ),
        r"frame 1: REF_forces has shape \(2, 3\)|frame 1: REF_forces has shape",
    ),
    "forces_of_two_columns": (
        frame(
            "Properties=species:S:1:pos:R:3:REF_forces:R:2 REF_energy=-1",
            "O 0 0 0 1 2\nH 0 0 1 1 2\n",
        ),
        r"frame 1: REF_forces has shape \(2, 2\), not \(2, 3\)",
    ),
    "energy_of_three_numbers": (
        frame(f'{PROPERTIES} REF_energy="1 2 3"'),
        "frame 1: REF_energy holds 3 numbers, not one",
    ),
    "energy_is_text": (
        frame(f"{PROPERTIES} REF_energy=unknown"),
        "frame 1: REF_energy is 'unknown', not a number",
    ),
    "energy_is_true": (
        frame(f"{PROPERTIES} REF_energy=T"),
        "frame 1: REF_energy is True, not a number",
    ),
    "energy_nan": (
        frame(f"{PROPERTIES} REF_energy=nan"),
        "frame 1: REF_energy holds a number that is not finite",
    ),
    "energy_inf": (
        frame(f"{PROPERTIES} REF_energy=inf"),
        "frame 1: REF_energy holds a number that is not finite",
    ),
    "forces_nan": (
        frame(atoms="O 0 0 0 nan 0 0\nH 0 0 1 0 0 0\n"),
        "frame 1: REF_forces holds a number that is not finite",
    ),
    "position_nan": (
        frame(atoms="O 0 0 nan 0 0 0\nH 0 0 1 0 0 0\n"),
        "frame 1: positions holds a number that is not finite",
    ),
    "forces_not_ev": (
        frame(atoms="O 0 0 0 9e4 0 0\nH 0 0 1 -9e4 0 0\n"),
        r"frame 1: REF_forces reaches 90000 eV/Å; .*eV/Å",
    ),
    "energy_not_ev": (
        frame(f"{PROPERTIES} REF_energy=-3e9"),
        "frame 1: REF_energy is 1e\\+09 eV an atom in size; .*eV",
    ),
    "positions_not_angstrom": (
        frame(atoms="O 0 0 0 0 0 0\nH 0 0 0.096 0 0 0\n"),
        "frame 1: atoms 0 and 1 are 0.096 Å apart; .*Å",
    ),
    "two_atoms_in_one_place": (
        frame(atoms="O 0 0 0 0 0 0\nH 0 0 0 0 0 0\n"),
        "frame 1: atoms 0 and 1 are 0 Å apart",
    ),
    "stress_of_five": (
        with_('REF_stress="1 2 3 4 5"'),
        r"REF_stress holds 5 numbers; give 6 \(Voigt\)",
    ),
    "stress_of_twelve": (
        with_('REF_stress="1 2 3 4 5 6 7 8 9 10 11 12"'),
        "REF_stress holds 12 numbers",
    ),
    "stress_nan": (with_('REF_stress="1 2 3 4 5 nan"'), "REF_stress holds a number that is not"),
    "stress_is_text": (with_("REF_stress=none"), "REF_stress is 'none', not a number"),
    "no_cell": (
        frame(f'{PROPERTIES} REF_energy=-14.0 pbc="T T T"'),
        "frame 1: is periodic but its cell has no vectors",
    ),
    "flat_cell": (
        frame(f'{PROPERTIES} REF_energy=-14.0 pbc="T T T" Lattice="1 0 0 2 0 0 0 0 1"'),
        "frame 1: is periodic but its cell has no vectors",
    ),
    "cell_nan": (
        frame(f'{PROPERTIES} REF_energy=-14.0 pbc="T T T" Lattice="9 0 0 0 9 0 0 0 nan"'),
        "frame 1: cell holds a number that is not finite",
    ),
    "no_atoms": (f"0\n{PROPERTIES} REF_energy=0\n", "holds no atoms; remove it|cannot be read"),
    "unknown_element": (frame(atoms="Qq 0 0 0 0 0 0\nH 0 0 1 0 0 0\n"), "cannot be read|Qq"),
    "ghost_element": (
        frame(atoms="X 0 0 0 0 0 0\nH 0 0 1 0 0 0\n"),
        "frame 1: holds the unknown element X",
    ),
    "cut_short": (
        "3\n" + "\n".join(GOOD.splitlines()[1:-1]) + "\n",
        "cannot be read as extended xyz",
    ),
    "too_many_lines": (GOOD + "H 0 0 9 0 0 0\n", "cannot be read as extended xyz"),
    "count_is_text": ("three\n" + GOOD[2:], "cannot be read as extended xyz"),
    "a_column_missing": (
        frame(atoms="O 0 0 0 0 0\nH 0 0 1 0 0\n"),
        "cannot be read as extended xyz",
    ),
    "a_letter_in_a_number": (
        frame(atoms="O 0 0 o 0 0 0\nH 0 0 1 0 0 0\n"),
        "cannot be read as extended xyz",
    ),
}


def said(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """What a step that refuses its input says: one line, and exit 2."""
    capsys.readouterr()
    assert main([str(x) for x in argv]) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("mace-lora ")]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import re

    content, message = FRAMES[name]
    path = tmp_path / "dft.xyz"
    path.write_text(GOOD + content)
    line = said(capsys, "split", path, "--out", tmp_path / "out")
    assert line.startswith(f"mace-lora split: {path}") and re.search(message, line), line
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good data, models and an adapter, and bad ones beside them."""
    home = tmp_path_factory.mktemp("files")
    torch.save(make_model(), home / "base.model")
    torch.save(make_model(replace(BASE, name="o", seed=5)), home / "other.model")
    torch.save(make_model(replace(BASE, name="h", heads=("pbe", "pbe0"))), home / "heads.model")
    torch.save(make_model().state_dict(), home / "state.model")
    torch.save(torch.nn.Linear(2, 2), home / "linear.model")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(home / "compiled.model"))
    content = (home / "base.model").read_bytes()
    (home / "cut.model").write_bytes(content[: len(content) // 2])
    (home / "text.model").write_text("a model\n")
    (home / "empty.model").write_bytes(b"")
    write_structures(home / "data.xyz", teacher_data(6, seed=0))
    write_structures(home / "one.xyz", teacher_data(1, seed=0))
    (home / "silicon.xyz").write_text(GOOD.replace("O 0", "Si 0") * 4)
    (home / "test_only.xyz").write_text(GOOD)
    assert main(["split", str(home / "data.xyz"), "--out", str(home / "data")]) == 0
    argv = ["e0s", str(home / "data/train.xyz"), "--foundation", str(home / "base.model")]
    assert main([*argv, "--out", str(home / "e0s.json")]) == 0
    for name, change in {
        "damaged_e0s.json": lambda x: x | {"E0s": {"H": 1.0}},
        "newer_e0s.json": lambda x: x | {"seal": {"format": 99}},
    }.items():
        (home / name).write_text(json.dumps(change(json.loads((home / "e0s.json").read_text()))))
    (home / "cut_e0s.json").write_text((home / "e0s.json").read_text()[:50])
    model = load_foundation(home / "base.model")
    inject_lora(model, rank=2)
    save_adapter(model, home / "adapter")
    return home


BASE_ = ["--foundation", "base.model"]
SPLIT = ["split", "data.xyz", "--out", "o"]
E0S = ["e0s", "data/train.xyz", "--out", "o/e0s.json"]
TRAIN = ["train", "data/train.xyz", "data/valid.xyz", *BASE_, "--out", "o"]
WITH_E0S = [*TRAIN, "--e0s_file", "e0s.json"]
MERGE = ["merge", *BASE_, "--check_file", "data/valid.xyz"]
ADAPTER = ["--adapter", "adapter", "--out", "o/m.model"]

# name: (command, what it says)
COMMANDS: dict[str, tuple[list[str], str]] = {
    "no_data": (["split", "no.xyz", "--out", "o"], "no.xyz: no such file"),
    "data_is_a_folder": (["split", "adapter", "--out", "o"], "adapter: no such file"),
    "data_is_a_model": (["split", "base.model", "--out", "o"], "base.model: cannot be read as"),
    "empty_data": (["split", "empty.model", "--out", "o"], "empty.model: is empty"),
    "one_structure": (["split", "one.xyz", "--out", "o"], "one.xyz: 1 structures .* set empty"),
    "split_method": ([*SPLIT, "--method", "kfold"], "split.method: 'kfold' is not one of"),
    "split_fraction": ([*SPLIT, "--test_fraction", "1.5"], "split.test_fraction: 1.5"),
    "split_fractions": ([*SPLIT, "--test_fraction", "0.6", "--valid_fraction", "0.6"], "split"),
    "no_group_key": ([*SPLIT, "--method", "group"], "split.group_key: the method `group` needs"),
    "absent_group_key": (
        [*SPLIT, "--method", "group", "--group_key", "traj"],
        "data.xyz frame 0: has no traj; every structure needs",
    ),
    "nothing_given": ([*SPLIT, "--method", "given"], "split.valid_file: the method `given` needs"),
    "no_test_set": ([*SPLIT, "--test_set", "hot", "no.xyz"], "no.xyz: no such file"),
    "no_model": ([*E0S, "--foundation", "no.model"], "no.model is neither a file nor a name"),
    "model_is_text": (
        [*E0S, "--foundation", "text.model"],
        "text.model: cannot be read as a model",
    ),
    "model_is_empty": ([*E0S, "--foundation", "empty.model"], "empty.model: cannot be read as a"),
    "model_is_cut": ([*E0S, "--foundation", "cut.model"], "cut.model: cannot be read as a model"),
    "model_is_data": ([*E0S, "--foundation", "data.xyz"], "data.xyz: cannot be read as a model"),
    "state_dict": (
        [*E0S, "--foundation", "state.model"],
        "state.model: holds an OrderedDict, which is no model; give the .model",
    ),
    "compiled": (
        ["foundation", "compiled.model"],
        "compiled.model: holds a TorchScript, which cannot be trained; give the .model",
    ),
    "no_mace": ([*E0S, "--foundation", "linear.model"], "holds a Linear, not a MACE model"),
    "several_heads": (
        [*E0S, "--foundation", "heads.model"],
        "several heads, choose one of: pbe, pbe0",
    ),
    "no_such_head": ([*E0S, *BASE_, "--head", "dft"], "foundation.head: dft is not in base.model"),
    "unknown_element": (
        ["e0s", "silicon.xyz", *BASE_, "--out", "o/e.json"],
        "silicon.xyz frame 0: .*does not know Si; it knows H C N O",
    ),
    "e0s_method": ([*E0S, *BASE_, "--method", "guess"], "e0s: 'guess' is not one of"),
    "e0s_no_atoms": ([*E0S, *BASE_, "--method", "isolated"], "IsolatedAtom"),
    "e0s_values": (
        [*E0S, *BASE_, "--method", '{"H": -1.0}'],
        "e0s: the explicit values; missing: C, O",
    ),
    "e0s_no_json": ([*E0S, *BASE_, "--method", "{H: 1}"], "e0s: .*is not JSON"),
    "e0s_gate": ([*E0S, *BASE_, "--max_error", "1e-9"], "meV/atom.* over"),
    "no_e0s": ([*TRAIN, "--e0s_file", "no.json"], "no.json: no such file"),
    "e0s_damaged": (
        [*TRAIN, "--e0s_file", "damaged_e0s.json"],
        r"damaged_e0s.json does not match its own checksum .*Delete",
    ),
    "e0s_newer": (
        [*TRAIN, "--e0s_file", "newer_e0s.json"],
        "has format 99, and this version reads",
    ),
    "e0s_cut": ([*TRAIN, "--e0s_file", "cut_e0s.json"], "cut_e0s.json is not JSON"),
    "rank_0": ([*WITH_E0S, "--rank", "0"], "rank: 0 must be at least 1"),
    "alpha_negative": ([*WITH_E0S, "--alpha", "-1"], "alpha: -1.0 must be above 0"),
    "lr_0": ([*WITH_E0S, "--lr", "0"], "lr: 0.0 must be above 0"),
    "lr_nan": ([*WITH_E0S, "--lr", "nan"], "lr: nan must be above 0"),
    "ema": ([*WITH_E0S, "--ema_decay", "2"], "ema_decay: 2.0 must be above 0 and below 1"),
    "share": ([*WITH_E0S, "--train_fraction", "0"], "train_fraction: 0.0 must be above 0"),
    "freeze": ([*WITH_E0S, "--method", "freeze", "--freeze_level", "2"], "level: 2 is not one of"),
    "weights": ([*WITH_E0S, "--energy_weight", "0", "--forces_weight", "0"], "both are 0, nothing"),
    "targets_json": ([*WITH_E0S, "--targets", "all"], "targets: all is not JSON"),
    "targets_key": ([*WITH_E0S, "--targets", '{"layers": []}'], "targets.*layers"),
    "targets_none": ([*WITH_E0S, "--targets", '{"include": ["x.*"]}'], "'x.*' matches no layer"),
    "points_json": ([*WITH_E0S, "--points", "a,b"], "points: a,b is not JSON"),
    "points_key": (
        [*WITH_E0S, "--points", '{"a": {"ranks": 1}}'],
        "points: ranks is not a setting",
    ),
    "no_stress": ([*WITH_E0S, "--loss", "stress"], "train.xyz: the loss stress needs stress"),
    "no_replay": ([*WITH_E0S, "--replay"], "replay: true needs structures"),
    "no_gpu": ([*WITH_E0S, "--device", "cuda:7"], "device: cuda:7"),
    "other_base": (
        ["merge", "--foundation", "other.model", "--check_file", "data/valid.xyz", *ADAPTER],
        "adapter: this adapter belongs to the base .*; load it onto the",
    ),
    "no_adapter": (
        [*MERGE, "--adapter", "none", "--out", "o/m.model"],
        "none/adapter.json: no such",
    ),
    "merge_counts": (
        [*MERGE, "--adapter", "adapter", "--out", "a", "b"],
        "1 adapters, but 2 files",
    ),
    "merge_nothing": ([*MERGE, "--out", "o/m.model"], "give an adapter, or .* an e0s file"),
    "truncate_0": (
        ["truncate", *BASE_, "--adapter", "adapter", "--rank", "0", "--out", "o"],
        "rank",
    ),
    "truncate_none": (["truncate", *BASE_, "--adapter", "adapter", "--out", "o"], "rank.*energy"),
    "evaluate_counts": (
        ["evaluate", "base.model", "--valid_file", "data/valid.xyz", "--test_file", "data/test.xyz"]
        + ["--out", "a.json", "b.json"],
        "1 models, but 2 files to write",
    ),
    "evaluate_test": (
        ["evaluate", "base.model", "--valid_file", "data/valid.xyz"]
        + ["--test_file", "test_only.xyz", "--out", "a.json"],
        'test_only.xyz frame 0 lacks the "test_set" field',
    ),
    "check_name": (
        ["check", "base.model", "--names", "hole", "--valid_file", "data/valid.xyz"]
        + ["--e0s_file", "e0s.json", "--out", "a.json"],
        "checks: hole is not known; use",
    ),
    "check_setting": (
        ["check", "base.model", "--names", "nve", "--settings", '{"nve": {"stepz": 1}}']
        + ["--valid_file", "data/valid.xyz", "--e0s_file", "e0s.json", "--out", "a.json"],
        "checks.settings.nve: .*stepz",
    ),
    "replay_labels": (
        ["replay", "test_only.xyz", *BASE_, "--labels", "dft", "--out", "o/r.xyz"],
        "replay.labels: .*dft",
    ),
    "engine": (["export", "base.model", "--engines", "gromacs"], "gromacs is not an engine; use"),
    "no_results": (["status", "none"], "none"),
    "no_store": (["ui", "none"], "none"),
    "not_tracked": (["track", "none"], "none"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(
    name: str, files: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.chdir(files)
    command, message = COMMANDS[name]
    line = said(capsys, *command)
    assert re.search(message, line), line


def test_there_are_many() -> None:
    from tests.plan.test_config import BAD

    assert len(FRAMES) + len(COMMANDS) + len(BAD) >= 100


# --- what looks odd and is good


def windows(path: Path) -> None:
    path.write_bytes((GOOD * 6).replace("\n", "\r\n").encode())


def zipped(path: Path) -> None:
    path.write_bytes(gzip.compress((GOOD * 6).encode()))


def no_last_newline(path: Path) -> None:
    path.write_text((GOOD * 6).rstrip("\n"))


def large(path: Path) -> None:
    lines = [f"H {3 * (i % 100)} {3 * (i // 100)} 0 0 0 0" for i in range(counts.of(2_500, 10_000))]
    path.write_text(frame(atoms="\n".join(lines) + "\n") * 3)


def odd_words(path: Path) -> None:
    path.write_text(with_("name=\"$(touch pwned) 'x' ; rm -rf /\" étoile=☆") * 6)


@pytest.mark.parametrize("write", [windows, zipped, no_last_newline, large, odd_words])
def test_odd_files_are_read(
    write: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("odd.xyz.gz" if write is zipped else "odd.xyz")
    write(path)
    argv = ["split", str(path), "--out", "out", "--valid_fraction", "0.4", "--test_fraction", "0"]
    assert main(argv) == 0, capsys.readouterr().err
    assert len(load_structures(tmp_path / "out/train.xyz")) >= 2
    assert not (tmp_path / "pwned").exists()

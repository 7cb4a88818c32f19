"""Bad configs: one line with key, mistake and remedy for each, all of them at once."""

import copy
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora.catalogue.foundations import BY_NAME, Terms, known_foundation, terms_of
from lora.errors import UserError, UserErrors
from lora.plan.checking import load_config, resolve, validate
from lora.plan.config import Config
from lora.plan.labels import check_data_keys
from lora.plan.messages import every_key
from lora.plan.settings import OPTIONS, Targets, TrainSettings
from lora.plan.upgrade import upgrade

ROOT = Path(__file__).parents[2]
QUICKSTART = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
DATA = "workflow/resources/quickstart/malonaldehyde_300K.xyz"


def over(raw: dict, overlay: dict) -> dict:
    """Return a config with the keys of another over it, as Snakemake merges them."""
    out = copy.deepcopy(raw)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = over(out[key], value) if both else value
    return out


def lines_of(overlay: dict) -> list[str]:
    """Return what is wrong with the quickstart's config with some keys over it."""
    with pytest.raises(UserErrors) as caught:
        validate(over(QUICKSTART, overlay), folder=ROOT)
    return caught.value.lines


BAD: dict[str, tuple[dict, str]] = {
    "unknown_key": ({"ranks": [4]}, r"ranks: is not a key of the config"),
    "key_of_a_section": ({"rank": [4]}, r"rank: is not a key .*; did you mean grid\.rank\?"),
    "unknown_key_inside": (
        {"train": {"batch_sise": 5}},
        r"train\.batch_sise: is not a key of train; did you mean batch_size\?",
    ),
    "key_not_text": ({"grid": {4: 5}}, r"grid\.4: the key is not text; put it in quotes"),
    "rank_0": ({"grid": {"rank": [4, 0]}}, r"grid\.rank\.1: 0 must be at least 1"),
    "rank_text": ({"grid": {"rank": ["4"]}}, r"grid\.rank\.0: '4' is text, .*; write 4"),
    "rank_float": ({"grid": {"rank": [4.0]}}, r"grid\.rank\.0: 4\.0 is not a whole.*; write 4"),
    "rank_scalar": ({"grid": {"rank": 4}}, r"grid\.rank: 4 is not a list; write rank: \[4\]"),
    "rank_true": ({"grid": {"rank": [True]}}, r"grid\.rank\.0: true is not a whole number"),
    "rank_empty": ({"grid": {"rank": []}}, r"grid\.rank: \[\] is empty; give at least one"),
    "twice": ({"grid": {"rank": [4, 4]}}, r"grid\.rank: 4 stands in it twice; remove one"),
    "twice_8": ({"grid": {"alpha": [8, 8.0]}}, r"grid\.alpha: 8 stands in it twice"),
    "alpha": ({"grid": {"alpha": [-1]}}, r"grid\.alpha\.0: -1 must be above 0"),
    "alpha_nan": ({"grid": {"alpha": [float("nan")]}}, r"grid\.alpha\.0: nan"),
    "seed_large": ({"grid": {"seed": [2**32]}}, r"grid\.seed\.0: 4294967296 must be at most"),
    "seed_huge": ({"grid": {"seed": [1e30]}}, r"grid\.seed\.0: 1e\+30 is too large"),
    "replay_scalar": ({"grid": {"replay": True}}, r"grid\.replay: true is not a list; write rep"),
    "lr_text": ({"train": {"lr": "1e-3"}}, r"train\.lr: '1e-3' is text.*; write 1\.0e-3 or 0\.001"),
    "loss": ({"train": {"loss": "hubber"}}, r"train\.loss: 'hubber' is not.*; did you mean huber"),
    "dtype": ({"train": {"default_dtype": "half"}}, r"train\.default_dtype: 'half' is not one of"),
    "device": ({"train": {"device": "gpu"}}, r"train\.device: 'gpu' is not a device; use cpu"),
    "level": ({"methods": {"freeze": {"freeze_level": 2}}}, r"freeze\.freeze_level: 2 is not one"),
    "irreps": ({"train": {"targets": {"irreps": ["1"]}}}, r"targets\.irreps\.0: '1' is not an ir"),
    "weights": (
        {"train": {"energy_weight": 0, "forces_weight": 0}},
        r"train: energy_weight and forces_weight: both are 0, nothing|"
        r"methods\.full: energy_weight and forces_weight: both are 0",
    ),
    "method": ({"split": {"method": "kfold"}}, r"split\.method: 'kfold' is not one of random, gro"),
    "fraction": ({"split": {"test_fraction": 1.5}}, r"split\.test_fraction: 1\.5 must be below 1"),
    "fractions": (
        {"split": {"valid_fraction": 0.6, "test_fraction": 0.5}},
        r"split\.valid_fraction: .* is 1\.1, which leaves nothing to train on",
    ),
    "given": ({"split": {"method": "given"}}, r"split\.valid_file: is missing; the method given"),
    "group": ({"split": {"method": "group"}}, r"split\.group_key: is missing; the method group"),
    "not_given": ({"split": {"valid_file": DATA}}, r"split\.valid_file: is not used by the method"),
    "no_file": ({"data": {"file": "no.xyz"}}, r"data\.file: 'no\.xyz' is not a file; paths start"),
    "no_test_file": (
        {"data": {"test_sets": [{"name": "hot", "file": "no.xyz"}]}},
        r"data\.test_sets\.0\.file: 'no\.xyz' is not a file",
    ),
    "names_twice": (
        {"data": {"test_sets": [{"name": "a", "file": DATA}, {"name": "a", "file": "Makefile"}]}},
        r"data\.test_sets\.1\.name: 'a' is the name of two test sets",
    ),
    "test_set_name": (
        {"data": {"test_sets": [{"name": "test", "file": DATA}]}},
        r"data\.test_sets\.0\.name: 'test' is no name of a test set",
    ),
    "name_true": (
        {"data": {"test_sets": [{"name": "T", "file": DATA}]}},
        r"data\.test_sets\.0\.name: 'T' is no name of a test set",
    ),
    "name_number": (
        {"data": {"test_sets": [{"name": "1e3", "file": DATA}]}},
        r"data\.test_sets\.0\.name: '1e3' is no name of a test set",
    ),
    "ratio_without_b": (
        {"grid": {"adapter": ["sparse"]}, "train": {"lr_ratio_b": 4}},
        r"train\.lr_ratio_b: is not used by .*sparse, but by lora and dora alone; leave it out",
    ),
    "level_of_lora": (
        {"methods": {"lora": {"freeze_level": 6}}},
        r"methods\.lora\.freeze_level: is not used by lora, but by freeze alone; leave it out",
    ),
    "targets_of_full": (
        {"methods": {"full": {"targets": {"skip_tp": True}}}},
        r"methods\.full\.targets: is not used by full, but by lora, dora and sparse alone",
    ),
    "keep_nothing": (
        {"grid": {"keep": [True]}, "keep": {"weight": 0}},
        r"keep\.weight: is 0 like keep\.penalty, .* as those without; raise one",
    ),
    "no_holdout": ({"checks": {"holdout_file": "no.xyz"}}, r"checks\.holdout_file: 'no\.xyz' is"),
    "licence of the quickstart": (
        {"data": {"file": "Makefile", "test_sets": []}, "checks": {"holdout_file": None}},
        r"export\.data_licence: is that of the quickstart's data, and data\.file is not",
    ),
    "polar": (
        {"foundation": {"model": "polar-1-m"}},
        r"foundation\.model: 'polar-1-m' holds a PolarMACE, whose electrostatics are not known",
    ),
    "leftovers": (
        {"data": {"file": "Makefile", "test_sets": []}, "export": {"data_licence": None}},
        r"checks\.holdout_file: .* belongs to the quickstart, and data\.file does not",
    ),
    "foundation": (
        {"foundation": {"model": "medium_omatt"}},
        r"foundation\.model: .* nor a name that MACE knows; did you mean medium_omat\?",
    ),
    "foundation_file": ({"foundation": {"model": "a/b.model"}}, r"model: 'a/b\.model' is not a fi"),
    "brace": ({"data": {"file": "a{b}.xyz"}}, r"data\.file: 'a\{b\}\.xyz' holds '\{'"),
    "newline": ({"data": {"file": "a\nb.xyz"}}, r"data\.file: 'a\\nb\.xyz' holds a line end"),
    "minus": ({"results": "-x"}, r"results: '-x' begins with -, like an option; begin it with \./"),
    "nul": ({"results": "a\0b"}, r"results: .* holds a NUL character"),
    "tilde": ({"results": "~/x"}, r"results: '~/x' begins with ~, .*; write the path out"),
    "results_file": ({"results": "Makefile"}, r"results: Makefile is a file; name a folder"),
    "results_below": ({"results": "Makefile/x"}, r"results: .*Makefile is a file; name a folder"),
    "e0s": (
        {"e0s": {"method": "guess"}},
        r"e0s\.method: 'guess' is not one of auto, estim",
    ),
    "e0s_symbol": ({"e0s": {"method": {"h": -1.0}}}, r"e0s\.method\.h: .*; did you mean H\?"),
    "e0s_value": ({"e0s": {"method": {"H": "a"}}}, r"e0s\.method\.H: 'a' is not a number"),
    "e0s_no": ({"e0s": {"method": {False: 1.0}}}, r"e0s\.method\.false: .*YAML reads no, on"),
    "isolated_file": (
        {"e0s": {"isolated_file": "no.xyz"}},
        r"e0s\.isolated_file: 'no\.xyz' is not a",
    ),
    "isolated_file_unused": (
        {"e0s": {"isolated_file": DATA, "method": "foundation"}},
        r"e0s\.isolated_file: is not used by the method foundation; set e0s\.method: auto or isol",
    ),
    "max_error": ({"e0s": {"max_error": float("nan")}}, r"e0s\.max_error: nan"),
    "pack": ({"pack": {"size": "aut"}}, r"pack\.size: 'aut' is not one of .*; did you mean auto"),
    "pack_0": ({"pack": {"size": 0}}, r"pack\.size: 0 must be at least 1"),
    "baseline": ({"baselines": ["ful"]}, r"baselines\.0: 'ful' is not one.*; did you mean full\?"),
    "methods": ({"methods": {"lorra": {}}}, r"methods\.lorra: is not a method; did you mean lora"),
    "no_check": ({"checks": {"quick": ["hole"]}}, r"checks\.quick\.0: 'hole' .*; did you mean ho"),
    "two_tiers": ({"checks": {"quick": ["nve"]}}, r"checks\.standard\.0: nve stands in checks\.q"),
    "no_settings": (
        {"checks": {"settings": {"forgetting": {"a": 1}}}},
        r"checks\.settings\.forgetting\.a: the check forgetting takes no settings",
    ),
    "setting": (
        {"checks": {"settings": {"nve": {"stepz": 1}}}},
        r"checks\.settings\.nve\.stepz: is not a setting of the check nve; did you mean steps\?",
    ),
    "setting_type": ({"checks": {"settings": {"nve": {"steps": "a"}}}}, r"nve\.steps: 'a' is not"),
    "limit": ({"select": {"limits": {"forgeting": 1}}}, r"limits\.forgeting: is not a check; did"),
    "limit_inf": ({"select": {"limits": {"nve": float("inf")}}}, r"limits\.nve: inf is not a fi"),
    "replay": ({"grid": {"replay": [True]}}, r"replay\.file: is missing, and grid\.replay asks"),
    "replays": ({"baselines": ["full_replay"]}, r"replay\.file: is missing, and baselines asks"),
    "secret": ({"tracking": {"uri": "http://me:pw@host"}}, r"tracking\.uri: holds a user or a pa"),
    "secret_list": ({"tracking": {"uri": ["http://me:pw@host"]}}, r"tracking\.uri: the value is n"),
    "secret_place": ({"tracking": "http://me:pw@host"}, r"tracking: 'http://\*\*\*@host' is not a"),
    "live": ({"tracking": {"live": True}}, r"tracking\.live: needs a server"),
    "model": ({"tracking": {"model": "a/b"}}, r"tracking\.model: 'a/b' is no name of a model"),
    "engine": ({"export": {"engines": ["lamps"]}}, r"export\.engines\.0: .*; did you mean lammps"),
    "dtype_out": ({"export": {"dtype": "half"}}, r"export\.dtype: 'half' is not one of float32"),
    "section_null": ({"split": None}, r"split: is empty; write its keys below it, or leave it out"),
    "section_text": (
        {"split": "blocked"},
        r"split: 'blocked' is not a mapping; .*\{method: \.\.\.",
    ),
    "upgrade": ({"on_upgrade": "yes"}, r"on_upgrade: 'yes' is not one of ask, retrain or keep"),
    "bool": ({"rank_curve": 1}, r"rank_curve: 1 is not true or false"),
    "text": ({"foundation": {"head": 3}}, r'foundation\.head: 3 is not text; .*: "3"'),
    "long": ({"train": {"loss": "x" * 500}}, r"train\.loss: 'x{56}\.\.\. is not one of"),
}


@pytest.mark.parametrize(("overlay", "message"), BAD.values(), ids=BAD)
def test_bad_config(overlay: dict, message: str) -> None:
    lines = lines_of(overlay)
    assert len(lines) == 1, lines
    assert re.match(f"config: .*({message})", lines[0]), lines[0]
    assert "me:pw" not in lines[0] and "\n" not in lines[0]


def test_all_errors_at_once_in_the_order_of_the_file() -> None:
    overlay = {"on_upgrade": "no", "grid": {"rank": [0], "seed": [-1]}, "results": "Makefile"}
    lines = lines_of(overlay | {"data": {"file": "no.xyz"}, "zzz": 1})
    keys = [line.split(": ")[1] for line in lines]
    wanted = ["results", "data.file", "grid.rank.0", "grid.seed.0", "on_upgrade", "zzz"]
    assert keys == wanted


def test_missing_sections_and_no_mapping() -> None:
    with pytest.raises(UserErrors, match="foundation: is missing.*\n.*data: is missing"):
        validate({}, folder=ROOT)
    with pytest.raises(UserErrors, match=r"config: top level: \[\] is not a mapping"):
        validate([], folder=ROOT)  # type: ignore[arg-type]


ODD: list[Any] = [
    *(None, True, -1, 10**5000, float("nan"), "", "a\0", "\ud800", "http://me:pw@host", b"x"),
    *([[]], [{}], {}, {1: 2}, {None: 1}, {"[key]": 1}, {"<text>": 1}, {"a" * 500: 1}, {1, 2}),
    *("x" * 5000, "a/" * 5000, object()),
]


def test_odd_values_never_end_in_a_traceback() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for key in every_key():
        if key[:2] == ("data", "test_sets") or (key[0] == "methods" and len(key) > 2):
            continue  # items of a list; the keys of train again
        for value in [*ODD, endless]:
            raw: Any = copy.deepcopy(QUICKSTART)
            section = raw
            for part in key[:-1]:
                section = section.setdefault(part, {})
            section[key[-1]] = value
            try:
                resolve(raw, folder=ROOT)
            except UserErrors as error:
                for line in error.lines:
                    assert line.startswith("config: ") and "\n" not in line
                    assert "me:pw" not in line and len(line) < 700, line
    for value in ODD:
        with pytest.raises(UserErrors):
            resolve(value, folder=ROOT)


def test_quickstart_is_good_and_comes_back() -> None:
    config, warnings = resolve(QUICKSTART, folder=ROOT)
    assert warnings == []
    sealed = json.loads(json.dumps(config.to_dict()))
    assert Config.model_validate(sealed) == config
    assert Config.model_validate(sealed).to_dict() == sealed
    assert config.settings_of("full")["lr"] == 0.003 and "ema" not in config.settings_of("full")
    assert check_data_keys(config, folder=ROOT) == []


def test_least_config_has_the_documented_defaults() -> None:
    raw = {"foundation": {"model": "small"}, "data": {"file": DATA}}
    config = validate(raw, folder=ROOT)
    assert config.train_settings("lora") == TrainSettings().resolved()
    assert config.grid.alpha == (1,) and isinstance(config.grid.alpha[0], int)
    assert config.baselines == ("foundation", "full", "freeze")
    replayed = config.train_settings("full_replay", method="full", replay=True)
    assert (replayed.lr, config.train_settings("full", method="full").lr) == (1e-4, 1e-3)


def test_equal_numbers_are_equal() -> None:
    one, two = ({"grid": {"alpha": [x]}, "train": {"lr": x}} for x in (8, 8.0))
    configs = [validate(over(QUICKSTART, x), folder=ROOT) for x in (one, two)]
    assert configs[0] == configs[1]
    assert str(configs[1].grid.alpha[0]) == "8"
    settings = TrainSettings(alpha=8).resolved()
    assert json.dumps(settings.to_dict()) == json.dumps(
        TrainSettings(alpha=8.0).resolved().to_dict()
    )


OLD: dict[str, tuple[dict, dict, str]] = {
    "protocol": (
        {"grid": {"protocol": ["naive", "replay"]}},
        {"grid": {"replay": [False, True]}},
        "config: grid.protocol is now grid.replay",
    ),
    "baselines": (
        {"baselines": ["naive", "replay"]},
        {"baselines": ["full", "full_replay"]},
        "config: baselines: naive is now full",
    ),
    "methods": (
        {"methods": {"naive": {"lr": 1}, "replay": {}}},
        {"methods": {"full": {"lr": 1}, "full_replay": {}}},
        "config: methods.naive is now methods.full",
    ),
    "freeze": (
        {"train": {"freeze": 5}, "methods": {"freeze": {"freeze": 6}}},
        {"train": {"freeze_level": 5}, "methods": {"freeze": {"freeze_level": 6}}},
        "config: train.freeze is now train.freeze_level",
    ),
    "licence": (
        {"foundation": {"model": "small"}, "export": {"base_licence": "CC0", "steps": 100}},
        {"foundation": {"model": "small", "licence": "CC0"}, "export": {"steps": 100}},
        "config: export.base_licence is now foundation.licence",
    ),
}


@pytest.mark.parametrize(("raw", "wanted", "warning"), OLD.values(), ids=OLD)
def test_old_names_work_with_a_warning(raw: dict, wanted: dict, warning: str) -> None:
    before = copy.deepcopy(raw)
    found, warnings = upgrade(raw)
    assert (found, raw) == (wanted, before)
    assert any(line.startswith(warning) for line in warnings)
    assert all("the old name works until 0.3" in line for line in warnings)
    assert upgrade(found) == (found, [])


@pytest.mark.parametrize(
    "raw",
    [
        {"grid": {"protocol": ["naive"], "replay": [False]}},
        {"baselines": ["naive", "full"]},
        {"methods": {"naive": {}, "full": {}}},
        {"train": {"freeze": 5, "freeze_level": 5}},
        {"foundation": {"licence": "MIT"}, "export": {"base_licence": "MIT"}},
    ],
)
def test_old_and_new_together_are_an_error(raw: dict) -> None:
    with pytest.raises(UserErrors, match="is the old name of .*, and both are given; remove"):
        upgrade(raw)


def test_lines_of_the_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("foundation: {model: small}\ngrid:\n  rank: [4, 0]\n  protocol: [x]\n")
    with pytest.raises(UserErrors) as caught:
        load_config(path, folder=ROOT)
    where = [re.sub(r".*\(.*my\.yaml(.*)\)$", r"\1", line) for line in caught.value.lines]
    assert where == [", line 3", ", line 4", ""], caught.value.lines
    assert caught.value.lines[2].startswith("config: data: is missing")


FRAME = """1
Properties=species:S:1:pos:R:3 config_type=IsolatedAtom REF_energy=-1
H 0 0 0
2
Properties=species:S:1:pos:R:3:REF_force:R:3 note="energy_x = 1" REF_enrgy=-1 traj=a
H 0 0 0 0 0 0
H 0 0 1 0 0 0
"""


def labels_said(folder: Path, content: str, **raw: Any) -> list[str]:
    """What the config says of names in dft.xyz."""
    (folder / "dft.xyz").write_text(content)
    data = {"file": "dft.xyz"} | raw.pop("data", {})
    config = validate({"foundation": {"model": "small"}, "data": data} | raw, folder=folder)
    return check_data_keys(config, folder=folder)


def test_names_of_labels(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"train": {"loss": "stress"}}
    raw |= {"split": {"method": "group", "group_key": "trajs"}}
    lines = labels_said(tmp_path, FRAME, **raw)
    assert [line.split(": ")[1] for line in lines] == [
        *("data.energy_key", "data.forces_key", "data.stress_key", "split.group_key")
    ]
    assert lines[0] == (
        "config: data.energy_key: dft.xyz: no frame has REF_energy; it has REF_enrgy, note and "
        "traj; did you mean REF_enrgy?; the loss stress needs it; without it, set "
        "train.energy_weight: 0"
    )
    assert "no frame has REF_forces; it has REF_force; did you mean REF_force?" in lines[1]
    (tmp_path / "dft.db").write_text("not xyz")
    assert labels_said(tmp_path, FRAME, data={"file": "dft.db"}) == []


LATER = """2
Properties=species:S:1:pos:R:3 REF_energy=-1
H 0 0 0
H 0 0 1

2
Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_virials="1 2 3 4 5 6" charge=1
H 0 0 0 0 0 0
H 0 0 1 0 0 0
"""


def test_a_label_of_some_frames_is_enough(tmp_path: Path) -> None:
    assert labels_said(tmp_path, LATER) == []
    for loss in ("stress", "virials", "huber"):
        assert labels_said(tmp_path, LATER, train={"loss": loss}) == []
    (line,) = labels_said(tmp_path, LATER, data={"total_charge_key": "chrage"})
    assert line.startswith("config: data.total_charge_key: ") and line.endswith("mean charge?")
    assert labels_said(tmp_path, LATER, data={"total_charge_key": "charge"}) == []
    without = LATER.replace("REF_virials", "virial")
    assert labels_said(tmp_path, without, train={"loss": "universal"}) == []
    (line,) = labels_said(tmp_path, without, train={"loss": "virials"})
    assert "data.virials_key" in line and "train.virials_weight: 0" in line
    assert labels_said(tmp_path, without, train={"loss": "virials", "virials_weight": 0}) == []


def test_energies_alone(tmp_path: Path) -> None:
    alone = LATER.split("\n\n")[0] + "\n"
    (line,) = labels_said(tmp_path, alone)
    assert "data.forces_key" in line and "set train.forces_weight: 0" in line
    (line,) = labels_said(tmp_path, alone, train={"forces_weight": 0})
    assert "select.metric rmse_f_mev_per_a needs it; choose by another error" in line
    energies = {"train": {"forces_weight": 0}, "select": {"metric": "mae_e_mev_per_atom"}}
    assert labels_said(tmp_path, alone, **energies) == []
    (tmp_path / "test.xyz").write_text(alone)
    sets = {"test_sets": [{"name": "hot", "file": "test.xyz"}]}
    assert labels_said(tmp_path, LATER, data=sets) == []


def test_one_name_for_two_labels(tmp_path: Path) -> None:
    (tmp_path / "dft.xyz").write_text(LATER)
    raw = {"foundation": {"model": "small"}}
    raw |= {"data": {"file": "dft.xyz", "virials_key": "REF_stress"}}
    with pytest.raises(
        UserErrors, match="data.virials_key: 'REF_stress' is the name of data.stress"
    ):
        validate(raw, folder=tmp_path)


def test_a_validation_set_needs_what_points_are_chosen_by(tmp_path: Path) -> None:
    (tmp_path / "valid.xyz").write_text(LATER.split("\n\n")[0] + "\n")
    given = {"split": {"method": "given", "valid_file": "valid.xyz"}}
    (line,) = labels_said(tmp_path, LATER, **given)
    assert "valid.xyz: no frame has REF_forces" in line and "select.metric" in line
    assert labels_said(tmp_path, LATER, **given, select={"metric": "rmse_e_mev_per_atom"}) == []


def test_a_file_that_is_cut_is_said_with_its_line(tmp_path: Path) -> None:
    (line,) = labels_said(tmp_path, FRAME[:-20])
    assert line.startswith(f"config: data.file: {tmp_path}/dft.xyz line 4: cannot be read"), line
    lines = labels_said(tmp_path, "1\nTotEnergy=-1\nH 0 0 0 0 0 0\n")
    assert all("Properties is missing, which names the columns" in line for line in lines)


def test_settings_of_a_training() -> None:
    settings = TrainSettings(targets=Targets(include=("readouts.*",)), replay=True)
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert set(OPTIONS) == {f.name for f in fields(TrainSettings)}
    assert all(option.help.endswith((".", "below.")) for option in OPTIONS.values())
    for bad, message in {
        "rank": "rank: 0 must be at least 1",
        "lr": "lr: 0 must be above 0",
        "freeze_level": "freeze_level: 0 is not one of 1, 5, 6",
        "train_fraction": "train_fraction: 0 must be above 0",
        "device": "device: 0 is not a device",
        "replay": "replay: 0 is not true or false",
    }.items():
        with pytest.raises(UserError, match=message):
            TrainSettings.from_dict({bad: 0}).resolved()
    with pytest.raises(UserError, match="ranks is not a setting; did you mean rank"):
        TrainSettings.from_dict({"ranks": 1})


def test_foundation_models() -> None:
    assert BY_NAME["medium_omat"].name == "medium-omat-0"
    for base, licence in {
        "MACE-OFF23_medium.model": "ASL",
        "dir/mace-omat-0-small.model": "ASL",
        "2023-12-03-mace-128-L1_epoch-199.model": "MIT",
        "medium-0b3": "MIT",
    }.items():
        assert terms_of(base).licence.startswith(licence), base
        assert terms_of(base).licence_from == "catalogue"
    for base in ("medium.model", "base.model", "my_offset_omat.model", None):
        assert known_foundation(base) is None
        assert (terms_of(base).licence, terms_of(base).licence_from) == ("not known", None)
        assert terms_of(base, "CC0") == Terms(None, "CC0", "user", None)
    assert terms_of("small", "mine").licence == "mine"


def test_the_quickstarts_base_is_told_by_its_content() -> None:
    file = ROOT / "workflow/resources/quickstart/base.model"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert terms_of("copy.model", sha256=sha256).licence == "MIT, as this project"
    assert terms_of(str(file)).licence == "not known"  # its name alone says nothing


def test_import_is_quick() -> None:
    code = (
        "import sys, lora.plan.checking, lora.plan.labels, lora.plan.reference\n"
        "slow = {'torch', 'numpy', 'pandas', 'ase', 'scipy', 'mlflow', 'snakemake', 'mace'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_grid_of_more_points_than_a_sweep_can_plan() -> None:
    (line,) = lines_of({"grid": {"rank": [*range(1, 102)], "alpha": [*range(1, 101)]}})
    assert re.match(r"config: grid: makes 101\d\d points .* a sweep has at most 10000", line)


def test_of_very_many_mistakes_some_are_named() -> None:
    lines = lines_of({f"k{i}": 1 for i in range(3000)})
    assert len(lines) == 51
    assert lines[-1] == "config: there are 2950 more mistakes; correct these first"


def test_digits_of_other_scripts_are_no_numbers() -> None:
    (line,) = lines_of({"train": {"patience": "１２"}})
    assert "patience: '１２' is not a whole number" in line

"""Sealed files: a damaged one is named, with what to delete so that it is made again."""

from pathlib import Path

import pytest

import lora.plan.layout  # noqa: F401  (it knows the receipts)
from lora.errors import UserError
from lora.files.sealed import Receipt, check_file, read_json, read_seal, write_sealed, write_text


def spoil(path: Path) -> None:
    """Change a file so that it is still readable."""
    text = path.read_text()
    path.write_text(text.replace('"n": 7', '"n": 8').replace('"seed": 1', '"seed": 2'))
    if path.read_text() == text:
        path.write_text(text + " ")


def line_of(path: Path) -> str:
    """Return what is said of a damaged file."""
    with pytest.raises(UserError) as error:
        read_json(path) if path.suffix == ".json" else check_file(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def make(path: Path, content: str = "1") -> Path:
    write_text(path, content)
    return path


def test_a_file_of_a_sweep_names_its_receipt(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train, split = make(out / "data/train.xyz"), out / "data/split.json"
    write_sealed(split, {"n": 7}, [train])
    spoil(train)
    assert line_of(train) == (
        f"{train} does not match the checksum in split.json (damaged or edited). "
        f"Delete {train} and {split}, then run snakemake again."
    )
    point = "lora_r2_a0.5_s3"  # a dot, which no suffix begins with
    model, merged = make(out / "merge" / point / "m.model"), out / "merge" / point / "merge.json"
    write_sealed(merged, {"n": 7}, [model])
    receipt = out / "merge/packs/lora_s3_1.json"
    Receipt(receipt).write_points([{"point": point}])
    Receipt(out / "merge/packs/other.json").write_points([{"point": f"{point}0"}])
    errors = out / "evaluate" / f"{point}.json"
    write_sealed(errors, {"n": 7})
    Receipt(out / "evaluate/packs/lora_s3_1.json").write_points([{"point": point}])
    for path in (model, merged, errors):
        spoil(path)
        own = str(receipt).replace("merge", path.parent.name if path == errors else "merge")
        assert f"Delete {path} and {own}, then run snakemake again." in line_of(path)


def test_a_receipt_is_deleted_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("e0s/e0s.json", "train/packs/p.json", "check/shortlist.json", "plan.json"):
        write_sealed(out / name, {"n": 7})
    for name in ("e0s/e0s.json", "train/packs/p.json", "check/shortlist.json", "plan.json"):
        spoil(out / name)
        assert f"Delete {out / name}, then run snakemake again." in line_of(out / name)
        write_sealed(out / name, {"n": 7})


def test_a_file_of_no_sweep_says_nothing_of_snakemake(tmp_path: Path) -> None:
    model = make(tmp_path / "m.model")
    write_sealed(tmp_path / "card.json", {}, [model])
    spoil(model)
    assert line_of(model) == (
        f"{model} does not match the checksum in card.json (damaged or edited). Delete it and make "
        "it again, or copy it again from where it came."
    )


def test_a_stamp_is_sealed_by_itself(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, stamp in zip(paths, ({"seed": 1}, {"seed": 3}), strict=True):
        Receipt(path, stamp).write({"n": 7})
    assert read_seal(paths[0])["digest"] == read_seal(paths[1])["digest"]
    spoil(paths[0])
    assert "does not match its own checksum" in line_of(paths[0])


def test_a_newer_format_is_not_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a.json", '{"seal": {"format": 99}}')
    assert "a.json has format 99, and this version reads formats up to" in line_of(path)

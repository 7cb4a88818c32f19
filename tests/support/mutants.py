"""Right files and configs with one or two things spoiled, and how long a step may take over them.

Every case is made from its seed alone, so that one that fails can be made again.
"""

import copy
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

from lora.cli.main import main
from lora.plan.reference import schema

SEED = int(os.environ.get("MACE_LORA_MUTANTS", "0"))  # another one draws other cases
SECONDS = 10
ROOT = Path(__file__).parents[2]

# as YAML or a comment line writes them
NUMBERS = ["1e30", "-1e30", "1_000", "１２", "٣", "0x1F", "010", "1:30", "1e400", ".nan", ".inf"]
NUMBERS += ["-.inf", "nan", "inf", "-0", "1e12", "1e5", "1,5", "1.5.2", "--1", "T", "True", "0"]
NUMBERS += ["9" * 30, "9" * 5000, "1e-320", "-7", "3"]
WORDS = ["", " ", "~", "null", "-x", "--out", "../../etc/passwd", "/etc/passwd", "a b", "a\tb"]
WORDS += ["it's", '"', "{x}", "[1", "a=b", "=", "\\", "\\n", "%s", "#", "*a", "&a", "é☆", "\xa0"]
WORDS += ["!!python/object:os.system", "\u202eabc", "$(touch pwned)", "<script>", "x" * 3000]
WORDS += ['"_JSON [1, [2, 3]]"', '"_JSON \\"a\\\\nb\\""', "[]", "{}", "[[1,2],[3]]", "'", "1_2"]
CONTROLS = ["\x00", "\n", "\r", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\x0c", "\x1c"]


class TooLongError(BaseException):
    """A step that does not come to its end; no handler of an Exception may take it."""


@contextmanager
def in_time() -> Iterator[None]:
    """Let a block take `SECONDS`, and no longer."""

    def end(_: int, __: FrameType | None) -> None:
        raise TooLongError

    before, started = signal.signal(signal.SIGALRM, end), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < SECONDS


def said(capsys: pytest.CaptureFixture, *argv: object) -> tuple[int, list[str]]:
    """The exit code of a command in this process, and its lines on stderr; no log."""
    capsys.readouterr()
    with in_time():
        code = main([str(x) for x in argv])
    lines = capsys.readouterr().err.splitlines()
    return code, [x for x in lines if " WARNING " not in x and " INFO " not in x]


def odd(rng: random.Random) -> str:
    """A number or a word that is right hardly anywhere."""
    return rng.choice(rng.choice([NUMBERS, WORDS]))


# --- files of structures

COLUMNS = "species:S:1:pos:R:3:REF_forces:R:3"
PROPERTIES = ["species:S:1:pos:R:3", "species:S:1:pos:R:3:REF_forces:R:2", "pos:R:3:species:S:1"]
PROPERTIES += ["species:S:1:pos:R:3:REF_forces:R:1000000000", "species:S:1:pos:R:3:REF_forces:R"]
PROPERTIES += ["species:S:1:pos:R:3:REF_forces:R:-3", "species:S:1:pos:R:3:REF_forces:Q:3", ":::"]
PROPERTIES += ["species:S:1:pos:R:3:pos:R:3", "Z:I:1:pos:R:3:REF_forces:R:3", "species:S:1:pos:R:0"]
PROPERTIES += [f"species:S:1:pos:R:3:{x}:R:3" for x in ("forces", "momenta", "magmoms", "1", "é")]
CELLS = ["0 0 0 0 0 0 0 0 0", "9 0 0 9 0 0 0 0 9", "1e-9 0 0 0 9 0 0 0 9", "1e12 0 0 0 9 0 0 0 9"]
CELLS += ["9 0 0 1e4 9 0 0 0 9", "900 0 0 0 900 0 0 0 900", "-9 0 0 0 9 0 0 0 9", "9 9 9", "nan"]
CELLS += ["1e5 0 0 0 1e5 0 0 0 1e5", "0.1 0 0 0 0.1 0 0 0 0.1", "9 0 0 0 9 0 0 0 0"]
SYMBOLS = ["X", "Xx", "h", "", "1", "999", "Og", "D", "H1", "H\u0661"]
KEYS = ["REF_energy", "REF_forces", "REF_stress", "Lattice", "pbc", "Properties", "config_type"]
KEYS += ["energy", "forces", "stress", "virials", "total_charge", "config_weight", "head", "uid"]
KEYS += ["lora_source_frame", "lora_source_file", "test_set", "numbers", "positions", "move_mask"]


@dataclass
class Frame:
    """A frame of extended xyz in its parts, as text.

    Attributes:
        count: The line that says how many atoms follow.
        pairs: The keys and values of the comment line.
        atoms: The words of each atom's line.
        made: Keys and values as they were before anything was spoiled.
        loose: Whether its lines were spoiled, so that nothing is known of it any more.
        moved: Whether its atoms were.
    """

    count: str
    pairs: list[tuple[str, str]]
    atoms: list[list[str]]
    made: dict[str, str]
    loose: bool = False
    moved: bool = False

    def has(self, key: str) -> str | None:
        """Return the value of a key that stands in the line once and as it was made."""
        found = [value for name, value in self.pairs if name == key]
        return found[0] if found == [self.made.get(key)] and not self.loose else None

    def text(self) -> str:
        """Return the frame as a file has it."""
        comment = " ".join(f"{k}={v}" if v or k else "" for k, v in self.pairs)
        return "\n".join([self.count, comment, *(" ".join(x) for x in self.atoms)]) + "\n"


def right_frame(rng: random.Random, number: int) -> Frame:
    """A frame that is right: a molecule, a crystal, a slab or a free atom."""
    kind = rng.choice(["molecule", "crystal", "slab"]) if number != 1 else "free"
    n = 1 if kind == "free" else rng.randint(2, 5)
    atoms = [
        [
            "H" if kind == "free" else rng.choice("HCO"),
            *(f"{x:.4f}" for x in (1.5 * i, rng.random(), rng.random())),
        ]
        + [f"{rng.gauss(0, 1):.4f}" for _ in range(3)]
        for i in range(n)
    ]
    pairs = [("REF_energy", f"{-10 * n - number / 8}"), ("Properties", COLUMNS)]
    if kind in ("crystal", "slab"):
        pairs += [("Lattice", '"9 0 0 0 9 0 0 1 9"'), ("REF_stress", '"1 0 0 0 1 0 0 0 1"')]
        pairs += [("pbc", '"T T F"' if kind == "slab" else '"T T T"')]
    pairs += [
        ("config_type", "IsolatedAtom" if kind == "free" else rng.choice(["hot", "a_b", "7"]))
    ]
    more = pairs[1:]
    rng.shuffle(more)
    return Frame(str(n), [pairs[0], *more], atoms, dict(pairs))


def spoil_comment(rng: random.Random, frame: Frame) -> None:
    """Spoil one key of a comment line, never the first: that of the energy."""
    i = rng.randrange(1, len(frame.pairs))
    key, value = frame.pairs[i]
    wrong: list[tuple[str, str] | None] = [(key, odd(rng)), (odd(rng), value), None]
    wrong += [(key, ""), (key, value.strip('"')), (rng.choice(KEYS[1:]), odd(rng))]
    wrong += [(key, rng.choice(CONTROLS)), ("Properties", rng.choice(PROPERTIES))]
    wrong += [("Lattice", f'"{rng.choice(CELLS)}"')]
    chosen = rng.choice(wrong)
    if chosen is None:
        del frame.pairs[i]
    elif rng.random() < 0.5:
        frame.pairs[i] = chosen
    else:  # beside the right one, before or after it
        frame.pairs.insert(rng.randint(1, len(frame.pairs)), chosen)


def spoil_energy(rng: random.Random, frame: Frame) -> None:
    """Spoil the key of the energy, or put something before it."""
    key, value = frame.pairs[0]
    spoiled = [(key, odd(rng)), (odd(rng), value), (key, "")]
    frame.pairs.insert(rng.choice([0, len(frame.pairs)]), rng.choice(spoiled))


def spoil_before(rng: random.Random, frame: Frame) -> None:
    """Put a key before all others, which may take the energy for its value."""
    frame.pairs[0:0] = [(rng.choice([*KEYS[1:], "note"]), rng.choice(["", " ", odd(rng)]))]


def spoil_atoms(rng: random.Random, frame: Frame) -> None:
    """Spoil the lines of atoms."""
    frame.moved = True
    i = rng.randrange(len(frame.atoms))
    words = frame.atoms[i]
    j = rng.randrange(len(words))
    match rng.randrange(8):
        case 0:
            words[j] = odd(rng)
        case 1:
            words[j] = rng.choice(CONTROLS)
        case 2:
            del words[j]
        case 3:
            words.insert(j, odd(rng))
        case 4:
            del frame.atoms[i]
        case 5:
            frame.atoms.insert(i, [*words])
        case 6:
            words[rng.randint(1, 3)] = rng.choice(["1e12", "-1e12", "9e4", "1e6", "1e300", "nan"])
        case 7:
            words[0] = rng.choice(SYMBOLS)


def spoil_count(rng: random.Random, frame: Frame) -> None:
    """Spoil the number of atoms."""
    n = len(frame.atoms)
    frame.count = rng.choice([odd(rng), str(n + 1), str(n - 1), "0", f" {n} ", f"+{n}", f"{n}.0"])


SPOIL: list[Callable[[random.Random, Frame], None]] = [
    *(spoil_comment, spoil_comment, spoil_comment, spoil_energy, spoil_before),
    *(spoil_atoms, spoil_atoms, spoil_count),
]


@dataclass
class Spoiled:
    """A file of structures with something spoiled.

    Attributes:
        content: Its bytes.
        frames: What it was made of.
    """

    content: bytes
    frames: list[Frame] = field(default_factory=list)


def spoiled_file(case: int) -> Spoiled:
    """One file: in most of them one or two frames are spoiled, in others bytes between them."""
    rng = random.Random(f"xyz {SEED} {case}")
    frames = [right_frame(rng, i) for i in range(rng.randint(6, 9))]
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        rng.choice(SPOIL)(rng, rng.choice(frames[1:]))
    texts = [x.text() for x in frames]
    at = rng.randrange(1, len(texts))
    match rng.randrange(16):
        case 0:
            texts[at] = rng.choice(["\n", "\n\n", " \n", "\t\n"]) + texts[at]
        case 1:  # a byte somewhere
            place = rng.randrange(len(texts[at]))
            texts[at] = texts[at][:place] + rng.choice(CONTROLS) + texts[at][place:]
            frames[at].loose = True
        case 2:  # a bit, of text
            place = rng.randrange(len(texts[at]))
            flipped = chr(ord(texts[at][place]) ^ 1 << rng.randrange(7))
            texts[at] = texts[at][:place] + flipped + texts[at][place + 1 :]
            frames[at].loose = True
        case 3:
            texts[-1] = texts[-1][: rng.randint(1, len(texts[-1]) - 2)]
            frames[-1].loose = True
        case 4:
            texts = [x.replace("\n", "\r\n") for x in texts]
        case 5:
            texts[-1] = texts[-1].rstrip("\n")
    content = "".join(texts).encode("utf-8", "surrogateescape")
    if rng.random() < 0.02:
        content = content + rng.choice([b"\xff\xfe", b"\x00" * 100, b"\n" * 50])
    return Spoiled(content, frames)


# --- configs

SCHEMA = schema()
QUICKSTART = yaml.safe_load((ROOT / "config/config.yaml").read_text())
BOMB = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]
)
STRUCTURES = [
    "[]",
    "{}",
    "[[]]",
    "{a: {b: 1}}",
    "[1, 1]",
    "[1, [2]]",
    "{1: 2}",
    "[null]",
    "{no: 1}",
]
STRUCTURES += ["[" * 300, "[" * 200 + "]" * 200, f"[{', '.join(map(str, range(1, 3000)))}]"]
STRUCTURES += ["&x [*x]", "*none", "{<<: {a: 1}}", "[[1], [1]]", "{a: 1, a: 2}", "!!set {a}"]
SCALARS = [
    '"a\\0b"',
    '"a\\nb"',
    '"\\e[31m"',
    '"\\u2028"',
    '"\\x85"',
    '"\\ud800"',
    "'it''s'",
    '"',
    "'",
]
SCALARS += ["2024-01-01", "!!binary aGk=", "!!python/name:os.system", "|", ">", "@a", "`a`", "? a"]


def leaves(node: dict[str, Any], key: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of the config that holds a value, and what the schema says of the value."""
    node = SCHEMA["$defs"][node["$ref"].split("/")[-1]] if "$ref" in node else node
    if "properties" not in node:
        yield key, node
    for name, own in node.get("properties", {}).items():
        yield from leaves(own, (*key, name))


LEAVES = list(leaves(SCHEMA))


def likely(rng: random.Random, node: dict[str, Any]) -> Any:
    """A value of the kind that a key wants, within its bounds or just not."""
    if "$ref" in node:
        return likely(rng, SCHEMA["$defs"][node["$ref"].split("/")[-1]])
    if "enum" in node:
        return rng.choice(node["enum"])
    if "anyOf" in node:
        return likely(rng, rng.choice(node["anyOf"]))
    match node.get("type", "string"):
        case "boolean":
            return rng.random() < 0.5
        case "integer":
            least, most = node.get("minimum", 0), node.get("maximum", 10**9)
            return rng.choice([least, most, least - 1, most + 1, rng.randint(1, 20)])
        case "number":
            bounds = [x for k, x in node.items() if "imum" in k.lower()]
            return rng.choice([*bounds, 0.5, 1, 1e-9, 1e-300, 1e300, 12.0, rng.random()])
        case "array":
            return [likely(rng, node["items"]) for _ in range(rng.choice([0, 1, 2, 2, 3]))]
        case "object":
            names = ["H", "O", "hot", "nve", "forgetting", "Default"]
            named = list(node.get("properties", {})) or names
            return {rng.choice(named): rng.choice([0.5, 1, -1, "x"]) for _ in range(2)}
        case "null":
            return None
    return rng.choice(["hot", "config/config.yaml", "a b", "results", QUICKSTART["data"]["file"]])


def put(config: Any, key: tuple[Any, ...], value: Any) -> None:
    """Set a key of a config, making the sections above it."""
    for name in key[:-1]:
        if not isinstance(config.get(name), dict):
            config[name] = {}
        config = config[name]
    config[key[-1]] = value


def spoiled_config(case: int) -> bytes:
    """The YAML of the quickstart's config with keys of the schema changed, well or badly."""
    rng = random.Random(f"config {SEED} {case}")
    config, raw = copy.deepcopy(QUICKSTART), []

    def as_written(text: str) -> str:
        raw.append(text)
        return f"RAW{len(raw) - 1}RAW"

    for _ in range(rng.choice([1, 2, 3, 6])):
        key, node = rng.choice(LEAVES)
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 | 4:
                put(config, key, likely(rng, node))
            case 5:
                put(config, key, as_written(odd(rng)))
            case 6:
                put(config, key, as_written(rng.choice(rng.choice([STRUCTURES, SCALARS]))))
            case 7:
                put(config, key, odd(rng))
            case 8:
                put(config, (*key[:-1], as_written(odd(rng))), likely(rng, node))
            case 9:
                put(config, key[:1], as_written(rng.choice([odd(rng), *STRUCTURES])))
            case 10:
                config.pop(key[0], None)
            case 11:
                put(config, key, [likely(rng, node), as_written(odd(rng))])
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)
    for i, written in enumerate(raw):
        text = text.replace(f"RAW{i}RAW", written)
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(24):
        case 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 1:
            del lines[at]
        case 2:
            lines.insert(at, BOMB)
        case 3:
            lines[at] = "\t" + lines[at]
        case 4:
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice(CONTROLS) + lines[at][place:]
        case 5:
            lines = lines[:at]
        case 6:
            lines[at] = lines[at].replace(" ", "", 1)
    whole = "\n".join(lines).encode("utf-8", "surrogateescape")
    return whole + rng.choice([b"\xff", b"\x00"]) if rng.random() < 0.01 else whole

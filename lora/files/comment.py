"""The comment line of a frame of extended xyz: its keys and values, and what is wrong with it.

ASE reads the values.  It says nothing of a key that stands twice, and takes the next key for the
value of one that has none, so that a label is lost; what stands here says both.
"""

import re
from collections import Counter
from collections.abc import Iterator

SHOWN = 40  # characters of a line in a message
PLAIN_KINDS = "SRRR"  # of atoms whose columns are not named
MOST_COLUMNS = 1000  # of an atom; a frame with more is a slip, and takes all memory
TYPES = {"S": "text", "R": "a number", "I": "a whole number", "L": "T or F"}
# Possessive quantifiers would say that nothing is ever taken back, but before Python 3.11.5 they
# match wrongly.  Here nothing after a part can fail, so that nothing is taken back.
# as ASE takes it: quotes and brackets hold spaces, and one that is not closed holds the rest
HELD = tuple(
    rf"{first}(?:\\.|[^\\{last}])*{last}"
    for first, last in (('"', '"'), ("'", "'"), (r"\{", r"\}"), (r"\[", r"\]"))
)
PART = rf"""\\.|{"|".join(f"{x}?" for x in HELD)}|[^\s=\\"'\{{\[]"""
ITEM = re.compile(rf"((?:{PART})+)(\s*=(\s*)((?:{PART}|=)*))?|\s+|(=)|.", re.DOTALL)
CLOSED = re.compile(rf"""(?:\\.|{"|".join(HELD)}|[^\\"'\{{\[])*""", re.DOTALL)
SWALLOWED = re.compile(r"[^\s=\\\"'\{\[]+=")  # an item where a value should be
EMPTY = re.compile(r"""(?:(?:\\.|[^\\])*=)?(?:""|''|\[\]|\{\})*""", re.DOTALL)
QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# numbers that Python reads and no other program: 1_000, and digits of other scripts
ODD_NUMBER = re.compile(r"[0-9]_[0-9]|(?![0-9])\d")


def parse_comment(line: str) -> dict[str, str]:
    """Return the keys and values of a comment line; a key without a value has the value "T".

    Args:
        line: The comment line.
    """
    found = (x for x in _items(line) if x[0])
    return {_unquoted(key): _unquoted(value) if rest else "T" for key, rest, _, value in found}


def _items(line: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, all that follows it, the space before its value, and the value, as they stand.

    An = without a key has the key "".
    """
    for name, rest, space, value, alone in ITEM.findall(line):
        if name or alone:
            yield name, rest, space, value


def wrong_in(line: str) -> str:
    """Return what is wrong with a comment line, "" where nothing is.

    Args:
        line: The comment line.
    """
    if found := CONTROL.search(line):
        return f"its comment line holds {named(found[0])}"
    end = CLOSED.match(line).end()  # type: ignore[union-attr]  # it matches the empty text
    if "=" in line[end:]:
        return (
            f"{line[end]} in its comment line is not closed and hides {line[end + 1 :][:SHOWN]!r}"
        )
    known: dict[str, str] = {}
    empty = ""  # a key with an empty value, for which ASE takes what follows
    for key, rest, space, value in _items(line):
        name = _unquoted(key)
        if not name:
            return "an = stands alone in its comment line"
        if hidden := _hidden(key) or _hidden(value):
            return f"quotes within a word of its comment line hide {hidden[:SHOWN]!r}"
        if empty:
            return f"{empty[:SHOWN]} has no value before {name[:SHOWN]}"
        empty = name if rest and EMPTY.fullmatch(value) else ""
        if space and SWALLOWED.match(value):
            return f"{name[:SHOWN]} has no value before {value[:SHOWN]}"
        if rest and known.setdefault(name, value) != value:
            return f"its comment line names {name[:SHOWN]} twice"
        if name in ("Lattice", "pbc") and ODD_NUMBER.search(value):
            return f"{name}={value[:SHOWN]} holds no plain number"
    return ""


def _hidden(text: str) -> str:
    """Return what quotes in the middle of a key or a value hide, "" where that is no key."""
    if not ('"' in text or "'" in text) or QUOTED.fullmatch(text):
        return ""
    quoted = (x for x in re.findall(PART, text, re.DOTALL) if x[0] in "\"'" and "=" in x)
    return next((x[1:-1] for x in quoted), "")


def named(character: str) -> str:
    """Return the name of a control character.

    Args:
        character: The character.
    """
    names = {"\x00": "a NUL character", "\n": "a line end", "\x1b": "an escape character"}
    return names.get(character, f"the control character U+{ord(character):04X}")


def columns_of(properties: str) -> dict[str, int]:
    """Return the columns that `Properties` names, with the number of components of each.

    Args:
        properties: The value, for example "species:S:1:pos:R:3".
    """
    return {name: n for name, _, n in _triples(properties)}


def _triples(properties: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, type and number of components of the columns that are named as they have to."""
    parts = properties.split(":")
    for name, kind, count in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
        if count.isascii() and count.isdecimal() and len(count) < 10:
            yield name, kind, int(count)


def kinds_of(properties: str) -> str:
    """Return the type of every column of an atom, a letter each: "SRRR".

    Args:
        properties: The value of `Properties`.

    Raises:
        ValueError: It does not name columns, with what is wrong.
    """
    found = list(_triples(properties))
    written = ":".join(f"{name}:{kind}:{n}" for name, kind, n in found)
    same = re.sub(r":0+(?=[0-9])", ":", properties) == written
    if not same or not all(kind in TYPES and n for _, kind, n in found):
        raise ValueError(
            f"Properties={properties[:SHOWN]} is not name:type:columns, again and again, with the "
            f"types {', '.join(TYPES)}"
        )
    names = Counter(name for name, *_ in found)
    if twice := [name for name, n in names.items() if n > 1]:
        raise ValueError(f"Properties names {twice[0][:SHOWN]} twice")
    if (total := sum(n for *_, n in found)) > MOST_COLUMNS:
        raise ValueError(f"Properties names {total} columns, more than {MOST_COLUMNS}")
    return "".join(kind * n for _, kind, n in found)


def wrong_in_atom(line: str, kinds: str) -> str:
    """Return what is wrong with the line of an atom, "" where ASE will see it or nothing is.

    Args:
        line: The line.
        kinds: The type of every column, as `kinds_of` returns them; "" where none are named.
    """
    odd = "_" in line or not line.isascii()
    if not (odd or kinds):
        return ""
    words = line.split()
    if kinds and len(words) != len(kinds):
        return f"{len(words)} columns stand where Properties names {len(kinds)}"
    for word, kind in zip(words, kinds or PLAIN_KINDS, strict=False) if odd else ():
        if kind in "RI" and ODD_NUMBER.search(word):
            return f"{word[:SHOWN]!r} is no plain number"
    return ""


def escaped(text: str) -> str:
    """Return text as ASE's writer needs it, so that its reader gives the same text back.

    The writer puts quotes around spaces and quotes, and takes backslashes and other white space as
    they are; the reader takes what follows a backslash, and ends a word at white space or =.

    Args:
        text: A key, or a value that is text.
    """
    return re.sub(r"[\\=]|(?! )\s", r"\\\g<0>", text)


def _unquoted(text: str) -> str:
    """Return a name or value without the quotation marks around it, and without backslashes."""
    return re.sub(r"\\(.)", r"\1", text[1:-1] if QUOTED.fullmatch(text) else text)

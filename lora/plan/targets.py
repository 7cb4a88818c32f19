"""The layers that get adapters, and what single layers get."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from lora.catalogue.bounds import COUNT, POSITIVE
from lora.catalogue.methods import PLACEMENTS
from lora.errors import UserError
from lora.plan.options import option_field


@dataclass(frozen=True)
class Targets:
    """The layers that get adapters; patterns are globs over layer names.

    A layer is adapted if it matches a pattern of `include` and none of `exclude`.
    """

    include: tuple[str, ...] = option_field(
        ("*",), "Adapt the layers that match one of these patterns.", str
    )
    exclude: tuple[str, ...] = option_field(
        (), "Do not adapt the layers that match one of these patterns.", str
    )
    irreps: tuple[str, ...] = option_field(
        (),
        "Adapt only these irreps of equivariant layers, for example 0e and 1o; an empty list "
        "means all that input and output share. Dense layers count as 0e.",
        str,
        pattern=r"[0-9]+[eo]",
        rule="is not an irrep; write for example 0e or 1o",
    )
    skip_tp: bool = option_field(False, "Adapt the skip connections (skip_tp), too.", bool)
    symmetric_contraction: bool = option_field(
        False, "Adapt the weights of the symmetric contractions, too.", bool
    )
    modules_to_save: tuple[str, ...] = option_field(
        (),
        "Train the modules that match one of these patterns, for example readouts, as a whole, "
        "with the learning rate of the point, and keep them with the adapter. Such a point trains "
        "alone, not in a pack, and not with enable_cueq.",
        str,
    )
    rank_pattern: dict[str, int] = option_field(
        {},
        "Ranks of single layers, as pattern: rank; the first pattern that matches counts.",
        int,
        bounds=COUNT,
    )
    alpha_pattern: dict[str, float] = option_field(
        {},
        "Alphas of single layers, as pattern: alpha; the first pattern that matches counts.",
        float,
        bounds=POSITIVE,
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Targets":
        """Return targets from what JSON or YAML holds.

        Args:
            values: The keys that differ from the defaults.

        Raises:
            UserError: A key or value is not known.
        """
        if not isinstance(values, Mapping):
            raise UserError(
                f"targets: {values!r} must be a mapping, as {{'include': ['products.*']}}"
            )
        known = {f.name: f.metadata["option"] for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise UserError(f"targets.{key} is not known; use {', '.join(sorted(known))}")
            kind = type(getattr(cls(), key))
            if not isinstance(value, (list, tuple) if kind is tuple else kind):
                wanted = {tuple: "a list", dict: "a mapping", bool: "true or false"}[kind]
                raise UserError(f"targets.{key}: {value!r} must be {wanted}")
            if isinstance(value, dict):
                for pattern, number in value.items():
                    if problem := known[key].problem(number):
                        raise UserError(f"targets.{key}.{pattern}: {number!r} {problem}")
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, (list, tuple))}
        return cls(**{**values, **lists})

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds, with lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def placed(self, placement: str) -> "Targets":
        """Return a copy with the switches of a placement turned on.

        Args:
            placement: A name of `lora.catalogue.methods.PLACEMENTS`.
        """
        on: dict[str, Any] = dict.fromkeys(PLACEMENTS[placement], True)
        return replace(self, **on)

    @property
    def placement(self) -> str:
        """Return the name of the widest placement whose switches are on."""
        on = [x for x, names in PLACEMENTS.items() if all(getattr(self, y) for y in names)]
        return on[-1]

    def chosen(self, name: str) -> bool:
        """Return True if the layer of this name gets an adapter.

        Args:
            name: The name of the layer.
        """
        return bool(_first(name, self.include)) and not _first(name, self.exclude)

    def rank_of(self, name: str, rank: int) -> int:
        """Return the rank of a layer.

        Args:
            name: The name of the layer.
            rank: The rank where no pattern matches.
        """
        pattern = _first(name, self.rank_pattern)
        return self.rank_pattern[pattern] if pattern else rank

    def alpha_of(self, name: str, alpha: float) -> float:
        """Return the alpha of a layer.

        Args:
            name: The name of the layer.
            alpha: The alpha where no pattern matches.
        """
        pattern = _first(name, self.alpha_pattern)
        return self.alpha_pattern[pattern] if pattern else alpha

    def check(self, names: Iterable[str]) -> None:
        """Raise an error if a pattern matches none of the layers.

        Args:
            names: The names of all layers that could be adapted.

        Raises:
            UserError: A pattern matches no layer; the message lists the layers.
        """
        names = list(names)
        for pattern in [*self.include, *self.exclude, *self.rank_pattern, *self.alpha_pattern]:
            if not any(_first(name, (pattern,)) for name in names):
                off = [x for x in ("skip_tp", "symmetric_contraction") if not getattr(self, x)]
                more = f" (also {', '.join(off)}, where set to true)" if off else ""
                raise UserError(
                    f"targets: {pattern!r} matches no layer; layers: {', '.join(names)}{more}"
                )


def _first(name: str, patterns: Iterable[str]) -> str | None:
    """Return the first of the glob patterns that matches a name."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)

"""The settings of a training, their defaults per method, and the checks between them.

Standard library only, so that the command line and the tests of the workflow stay quick.
Names are those of `mace_run_train`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from lora.errors import UserError

SCALINGS = ("mace", "rank_stable")
METHODS = ("lora", "naive", "freeze")
PROTOCOLS = ("naive", "replay")
LOSSES = ("weighted", "forces_only", "stress", "virials", "huber", "universal", "l1l2energyforces")
SCHEDULERS = ("ReduceLROnPlateau", "ExponentialLR", "CosineAnnealingLR", "constant")
DTYPES = ("float32", "float64")

# MACE's guidance for fine-tuning (its documentation, September 2026)
METHOD_DEFAULTS: dict[str, dict[str, float]] = {
    "lora": {"lr": 1e-2, "ema_decay": 0.99, "clip_grad": 10.0},
    "naive": {"lr": 1e-3, "ema_decay": 0.999, "clip_grad": 1.0},
    "freeze": {"lr": 1e-3, "ema_decay": 0.999, "clip_grad": 1.0},
    "replay": {"lr": 1e-4, "ema_decay": 0.999, "clip_grad": 1.0},  # of all weights
}


@dataclass(frozen=True)
class Targets:
    """Which layers get adapters.  Patterns are globs over layer names: `interactions.*.linear_up`.

    include, exclude: layers that match an include and no exclude are wrapped
    irreps: which ones of equivariant layers are adapted (`0e`, `1o`); empty means all.
        Dense layers carry scalars, so they are wrapped only if `0e` is among them
    skip_tp, symmetric_contraction: whether these products get adapters, too
    rank_pattern, alpha_pattern: {pattern: value} in place of the point's; the first match counts
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    irreps: tuple[str, ...] = ()
    skip_tp: bool = False
    symmetric_contraction: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Targets":
        """From what JSON or YAML holds.  Raises UserError for a key or value it does not know."""
        known = {f.name for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise UserError(f"targets.{key} is not known; use {', '.join(sorted(known))}")
            kind = type(getattr(cls(), key))
            if not isinstance(value, (list, tuple) if kind is tuple else kind):
                wanted = {tuple: "a list", dict: "a mapping", bool: "true or false"}[kind]
                raise UserError(f"targets.{key}: {value!r} must be {wanted}")
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, (list, tuple))}
        return cls(**{**values, **lists})

    def chosen(self, name: str) -> bool:
        """Whether the layer of this name gets an adapter."""
        return bool(_first(name, self.include)) and not _first(name, self.exclude)

    def rank_of(self, name: str, rank: int) -> int:
        """The rank of a layer; `rank` where no pattern matches."""
        pattern = _first(name, self.rank_pattern)
        return self.rank_pattern[pattern] if pattern else rank

    def alpha_of(self, name: str, alpha: float) -> float:
        """The alpha of a layer; `alpha` where no pattern matches."""
        pattern = _first(name, self.alpha_pattern)
        return self.alpha_pattern[pattern] if pattern else alpha

    def check(self, names: Iterable[str]) -> None:
        """Raises UserError if a pattern matches none of the layers; the message lists them."""
        for pattern in [*self.include, *self.exclude, *self.rank_pattern, *self.alpha_pattern]:
            if not any(_first(name, (pattern,)) for name in names):
                off = [x for x in ("skip_tp", "symmetric_contraction") if not getattr(self, x)]
                more = f" (also {', '.join(off)}, where set to true)" if off else ""
                raise UserError(
                    f"targets: {pattern!r} matches no layer; layers: {', '.join(names)}{more}"
                )


def _first(name: str, patterns: Iterable[str]) -> str | None:
    """The first of the glob patterns that matches a name."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def _setting(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TrainSettings:
    """One fine-tuning.  A None of lr, ema_decay or clip_grad means the method's default."""

    method: str = _setting("lora", "lora, naive (all weights) or freeze", METHODS)
    protocol: str = _setting("naive", "naive, or replay beside the new data", PROTOCOLS)
    replay_weight: float = _setting(1.0, "of a replayed structure in the loss (replay)")
    rank: int = _setting(4, "rank of A and B (lora)")
    alpha: float = _setting(1.0, "numerator of the LoRA scaling (lora)")
    scaling: str = _setting("mace", "alpha/r as MACE, or alpha/sqrt(r) (lora)", SCALINGS)
    targets: Targets = _setting(Targets(), "which layers get adapters, as JSON (lora)")
    freeze: int = _setting(5, "MACE's freeze level: 1 embedding, 5 +interactions, 6 +products")
    seed: int = _setting(3, "of A's start values and of the shuffling")
    train_fraction: float = _setting(1.0, "share of the training set to train on; nested subsets")
    loss: str = _setting("weighted", "MACE's loss", LOSSES)
    energy_weight: float = _setting(1.0, "of the energy in the loss")
    forces_weight: float = _setting(100.0, "of the forces in the loss")
    stress_weight: float = _setting(1.0, "of the stress in the loss")
    virials_weight: float = _setting(1.0, "of the virials in the loss")
    huber_delta: float = _setting(0.01, "of the Huber losses (eV, eV/Å)")
    lr: float | None = _setting(None, "learning rate; default by method")
    weight_decay: float = _setting(0.0, "L2 penalty on the trained weights")
    amsgrad: bool = _setting(True, "AMSGrad variant of Adam")
    ema: bool = _setting(True, "validate and keep the moving average of the weights")
    ema_decay: float | None = _setting(None, "default 0.99 lora, 0.999 naive and freeze")
    clip_grad: float | None = _setting(
        None, "largest gradient norm, 0 for no clipping; default 10 lora, 1 naive and freeze"
    )
    batch_size: int = _setting(10, "structures a step")
    valid_batch_size: int = _setting(32, "structures a batch of validation")
    max_num_epochs: int = _setting(100, "largest number of epochs")
    patience: int = _setting(50, "epochs without a better validation loss before stopping")
    scheduler: str = _setting("ReduceLROnPlateau", "of the learning rate", SCHEDULERS)
    lr_factor: float = _setting(0.8, "ReduceLROnPlateau: factor")
    scheduler_patience: int = _setting(10, "ReduceLROnPlateau: epochs before the factor")
    lr_scheduler_gamma: float = _setting(0.9993, "ExponentialLR: factor an epoch")
    default_dtype: str = _setting("float64", "of the training", DTYPES)
    device: str = _setting("cpu", "cpu or cuda, as torch names it")
    enable_cueq: bool = _setting(False, "train on cuEquivariance's kernels")
    allow_tf32: bool = _setting(False, "round float32 products on a GPU to TF32's 10 bits")

    def resolved(self) -> "TrainSettings":
        """Fill the method's defaults in and check; `replace`d fields only, self is unchanged.

        Raises UserError for a value out of bounds, named as the config names it.
        """
        self._check_choices()
        replayed = self.method != "lora" and self.protocol == "replay"
        defaults = METHOD_DEFAULTS["replay" if replayed else self.method]
        filled = {k: v for k, v in defaults.items() if getattr(self, k) is None}
        out = replace(self, **filled)
        out._check_bounds()
        return out

    def _check_choices(self) -> None:
        for f in fields(self):
            choices = f.metadata["choices"]
            if choices and getattr(self, f.name) not in choices:
                raise UserError(
                    f"{f.name}: {getattr(self, f.name)!r} is not known; "
                    f"use one of {', '.join(choices)}"
                )

    def _check_bounds(self) -> None:
        positive = ["rank", "alpha", "lr", "batch_size", "valid_batch_size", "max_num_epochs"]
        positive += ["patience", "lr_factor", "lr_scheduler_gamma", "huber_delta"]
        for name in positive:
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0")
        weights = ["energy_weight", "forces_weight", "stress_weight", "virials_weight"]
        for name in [*weights, "replay_weight", "weight_decay", "clip_grad", "scheduler_patience"]:
            if getattr(self, name) < 0:
                raise UserError(f"{name}: {getattr(self, name)} must not be negative")
        if not 0 < self.ema_decay < 1:  # type: ignore[operator]  # filled in above
            raise UserError(f"ema_decay: {self.ema_decay} must lie between 0 and 1")
        if not 0 < self.train_fraction <= 1:
            raise UserError(f"train_fraction: {self.train_fraction} must be above 0, at most 1")
        if self.freeze not in (1, 5, 6):
            raise UserError(f"freeze: {self.freeze} is not one of MACE's levels 1, 5, 6")
        if self.energy_weight + self.forces_weight == 0:
            raise UserError("energy_weight and forces_weight: both are 0, nothing would be learnt")


SPLITS = ("random", "group", "blocked", "given")


@dataclass(frozen=True)
class SplitSettings:
    """How to split; the fields are the keys of `data` and `split` in the config."""

    method: str = "random"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    group_key: str | None = None  # of atoms.info, for `group`
    block_size: int = 20  # frames of a stretch, for `blocked`
    near_duplicate: float = 0.01  # Å, largest difference of sorted distances
    energy_key: str = "REF_energy"
    forces_key: str = "REF_forces"
    stress_key: str = "REF_stress"
    given: dict[str, str] = field(default_factory=dict)  # valid and test files, for `given`
    test_files: dict[str, str] = field(default_factory=dict)  # further test sets by name

    def check(self) -> None:
        """Raises UserError for values out of bounds, named as in the config."""
        if self.method not in SPLITS:
            raise UserError(f"split.method: {self.method!r} is not one of {', '.join(SPLITS)}")
        for name in ("valid_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"split.{name}: {getattr(self, name)} must lie in [0, 1)")
        if self.valid_fraction + self.test_fraction >= 1:
            total = self.valid_fraction + self.test_fraction
            raise UserError(
                f"split.valid_fraction + split.test_fraction: {total:g} leaves nothing to train on"
            )
        if self.method == "group" and not self.group_key:
            raise UserError("split.group_key: the method `group` needs the key that names a group")
        if self.method == "given" and "valid" not in self.given:
            raise UserError("split.valid_file: the method `given` needs it")

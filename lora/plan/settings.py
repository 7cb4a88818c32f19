"""The settings of a fine-tuning: the one table of names, types, defaults, bounds and help.

The config sections `train`, `methods` and `grid`, the options of the command line, the JSON schema
and the reference in config/README.md are made from the fields of `TrainSettings` and `Targets`.
Names are those of `mace_run_train` where it has the setting.  Standard library only.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lora.catalogue.bounds import COUNT, NOT_NEGATIVE, POSITIVE, SEED, Bounds
from lora.catalogue.methods import (
    ADAPTERS,
    ALL_STARTS,
    ALONG_GRADIENT,
    ALSO_WITHOUT_STRESS,
    ANCHORED,
    DTYPES,
    EARLIER,
    LOSS_TERMS,
    LOSSES,
    METHODS,
    OPTIMIZERS,
    SCALINGS,
    SCHEDULERS,
)
from lora.errors import UserError
from lora.plan.options import METHOD_DEFAULTS, Option, by_method, option_field
from lora.plan.targets import Targets
from lora.plan.words import did_you_mean

__all__ = ["DEFAULTS", "OPTIONS", "Targets", "TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """The settings of one fine-tuning.

    Where lr, ema_decay or clip_grad is None, the default of the method holds.
    """

    method: str = option_field(
        "lora",
        "The weights that are trained: lora, dora or sparse (adapters), full (all weights) or "
        "freeze (the layers that freeze_level leaves).",
        str,
        choices=METHODS,
        home="point",
    )
    replay: bool = option_field(
        False,
        "Train on structures of the foundation model's own kind, too, with a second head.",
        bool,
        home="point",
    )
    replay_weight: float = option_field(
        1.0,
        "The weight of a replayed structure in the loss; a structure of the new data has 1.",
        float,
        bounds=NOT_NEGATIVE,
        home="point",
    )
    rank: int = option_field(
        4,
        "The rank of the factors A and B (lora, dora), or the entries of each input (sparse).",
        int,
        bounds=COUNT,
        home="grid",
    )
    alpha: float = option_field(
        1.0, "The numerator of the scaling of adapters.", float, bounds=POSITIVE, home="grid"
    )
    scaling: str = option_field(
        "mace",
        "The LoRA scaling: mace is alpha/r with e3nn's 1/sqrt(r) for equivariant layers, as "
        "upstream; rank_stable is alpha/sqrt(r) for all layers. For sparse mace is alpha/r in all.",
        str,
        choices=SCALINGS,
        home="grid",
    )
    start: str = option_field(
        "documented",
        "The start of the factors A and B (lora): documented is N(0, 1e-3) everywhere, as upstream "
        "documents it; upstream is what its code does, N(0, 1) in the normalisation of e3nn for "
        "equivariant layers and N(0, 1e-3) for dense ones; gradient takes the singular vectors of "
        "the gradient of the loss over the first batches, gradient_ranks of these the half with "
        "the largest gradients, so that irreps differ in rank. With these B starts at zero. pissa "
        "starts A and B at the largest singular values of the weights, which are taken away from "
        "them. All these start at the foundation model; adapter goes on from start_from.",
        str,
        choices=ALL_STARTS,
    )
    start_from: str | None = option_field(
        None,
        "The adapter that start adapter goes on from, of this base, kind and layers: docs/loop.md.",
        str,
        pattern=r"[^-~{}?<>][^{}?<>]*",
        rule="is no path that Snakemake can work with; rename the folder",
    )
    targets: Targets = option_field(Targets(), "The layers that get adapters; see below.", dict)
    freeze_level: int = option_field(
        5,
        "The layers that the method freeze does not train, as MACE counts them: 1 is the "
        "embedding, 5 adds the interactions, 6 adds the products.",
        int,
        choices=(1, 5, 6),
    )
    seed: int = option_field(
        3,
        "The random seed of the start values of A and of the order of the structures.",
        int,
        bounds=SEED,
        home="grid",
    )
    keep: bool = option_field(
        False,
        "Train on structures made around the training set, too, that the foundation model labels.",
        bool,
        home="point",
    )
    keep_weight: float = option_field(
        0.01,
        "The weight of a made structure in the loss, where one of the data has 1; 0: none trains.",
        float,
        bounds=NOT_NEGATIVE,
        home="point",
    )
    keep_penalty: float = option_field(
        0.0,
        "The weight of elastic weight consolidation (arXiv 1612.00796): what a change of weights "
        "costs on the made structures, to second order, is added to the loss.",
        float,
        bounds=NOT_NEGATIVE,
        home="point",
    )
    train_fraction: float = option_field(
        1.0,
        "The share of the training set that is trained on; a smaller share lies within a larger.",
        float,
        bounds=Bounds(gt=0, le=1),
        home="grid",
    )
    loss: str = option_field("weighted", "MACE's loss function.", str, choices=LOSSES)
    energy_weight: float = option_field(
        1.0, "The weight of the energy per atom in the loss.", float, bounds=NOT_NEGATIVE
    )
    forces_weight: float = option_field(
        100.0, "The weight of the forces in the loss.", float, bounds=NOT_NEGATIVE
    )
    stress_weight: float = option_field(
        1.0, "The weight of the stress in the loss.", float, bounds=NOT_NEGATIVE
    )
    virials_weight: float = option_field(
        1.0, "The weight of the virials in the loss.", float, bounds=NOT_NEGATIVE
    )
    huber_delta: float = option_field(
        0.01,
        "The error at which the Huber losses turn from square to linear (eV, eV/Å).",
        float,
        bounds=POSITIVE,
    )
    lr: float | None = option_field(
        None, f"The learning rate. The default is {by_method('lr')}.", float, bounds=POSITIVE
    )
    lr_ratio_b: float = option_field(
        1.0,
        "The learning rate of the factors B over that of all else (lora, dora); LoRA+ advises 16.",
        float,
        bounds=POSITIVE,
    )
    optimizer: str = option_field(
        "adam",
        "The optimiser: adam, or adamw, whose weight decay is not scaled by the gradients' size.",
        str,
        choices=OPTIMIZERS,
    )
    beta: float = option_field(
        0.9, "The decay of the optimiser's mean gradient, a step.", float, bounds=Bounds(ge=0, lt=1)
    )
    weight_decay: float = option_field(
        0.0,
        "The decay of weights, on those that mace_run_train decays: linear and skip_tp_full of the "
        "interactions and all of the products; with LoRA the adapters of the products.",
        float,
        bounds=NOT_NEGATIVE,
    )
    amsgrad: bool = option_field(True, "Use the AMSGrad variant of Adam.", bool)
    ema: bool = option_field(True, "Validate and keep the moving average of the weights.", bool)
    ema_decay: float | None = option_field(
        None,
        f"The decay of the moving average, a step. The default is {by_method('ema_decay')}.",
        float,
        bounds=Bounds(gt=0, lt=1),
    )
    clip_grad: float | None = option_field(
        None,
        f"The largest gradient norm; 0 means no clipping. The default is {by_method('clip_grad')}.",
        float,
        bounds=NOT_NEGATIVE,
    )
    batch_size: int = option_field(10, "The number of structures a step.", int, bounds=COUNT)
    drop_last: bool = option_field(
        False,
        "Leave out the last batch of an epoch where it is not full, as mace_run_train does; other "
        "structures each time.",
        bool,
    )
    valid_batch_size: int = option_field(
        32, "The number of structures a batch of validation and evaluation.", int, bounds=COUNT
    )
    max_num_epochs: int = option_field(100, "The largest number of epochs.", int, bounds=COUNT)
    patience: int = option_field(
        50, "The number of epochs without a lower validation loss that end it.", int, bounds=COUNT
    )
    scheduler: str = option_field(
        "ReduceLROnPlateau", "The schedule of the learning rate.", str, choices=SCHEDULERS
    )
    lr_factor: float = option_field(
        0.8,
        "The factor by which ReduceLROnPlateau lowers the learning rate.",
        float,
        bounds=Bounds(gt=0, lt=1),
    )
    scheduler_patience: int = option_field(
        10,
        "The number of epochs that ReduceLROnPlateau waits.",
        int,
        bounds=Bounds(ge=0, le=COUNT.le),
    )
    lr_scheduler_gamma: float = option_field(
        0.9993,
        "The factor of the learning rate, an epoch, of ExponentialLR.",
        float,
        bounds=Bounds(gt=0, le=1),
    )
    default_dtype: str = option_field(
        "float64", "The precision of the training and of the merged model.", str, choices=DTYPES
    )
    device: str = option_field(
        "cpu",
        "The device that trains: cpu, cuda, or cuda:N for a GPU of its number.",
        str,
        pattern=r"cpu|cuda(:[0-9]+)?",
        rule="is not a device; use cpu, cuda or cuda:N",
    )
    enable_cueq: bool = option_field(
        False,
        "Train on cuEquivariance's kernels. This needs cuequivariance-torch, and on a GPU its ops.",
        bool,
    )
    allow_tf32: bool = option_field(
        False,
        "Round the factors of float32 products on a GPU to TF32's 10 bits. This is faster, and "
        "forces lose digits: look at the test errors.",
        bool,
    )

    @property
    def defaults_of(self) -> str:
        """Return the name of the row of the methods that gives this training its defaults."""
        return "full_replay" if self.replay and self.method not in ADAPTERS else self.method

    @property
    def placement(self) -> str:
        """Return the name of what is adapted, as `grid.placement` has it."""
        return self.targets.placement

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the labels that the loss has a term with a weight for."""
        return tuple(x for x in LOSS_TERMS[self.loss] if getattr(self, f"{x}_weight"))

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the labels without which the loss means something else."""
        spared = ("stress",) if self.loss in ALSO_WITHOUT_STRESS else ()
        return tuple(x for x in self.terms if x not in spared)

    @property
    def width(self) -> int:
        """Return the columns of the factors that are stored: the rank, and what is anchored."""
        return self.rank * (2 if self.start in ANCHORED else 1)

    @property
    def asks_gradient(self) -> bool:
        """Return True where the adapters start along the gradient of the loss."""
        return self.method in ADAPTERS and self.start in ALONG_GRADIENT

    @property
    def goes_on(self) -> bool:
        """Return True where the adapters start at those of an earlier training."""
        return self.method in ADAPTERS and self.start == EARLIER

    def resolved(self) -> "TrainSettings":
        """Return a copy with the method's defaults filled in, checked; 8 becomes 8.0 for a float.

        Raises:
            UserError: A value is out of bounds; it is named as the config names it.
        """
        self._check("method")
        defaults = METHOD_DEFAULTS[self.defaults_of].items()
        missing: dict[str, Any] = {k: v for k, v in defaults if getattr(self, k) is None}
        out = replace(self, **missing)
        out._check(*(f.name for f in fields(out) if f.name != "targets"))
        if out.energy_weight + out.forces_weight == 0:
            raise UserError("energy_weight and forces_weight: both are 0, nothing would be learnt")
        if out.enable_cueq and out.targets.modules_to_save:
            raise UserError(
                "targets.modules_to_save and enable_cueq: cuEquivariance stores whole modules in "
                "another layout; set enable_cueq: false"
            )
        if out.goes_on and not out.start_from:
            raise UserError(f"start_from: is missing; the start {EARLIER} needs the folder of one")
        out = out if out.goes_on else replace(out, start_from=None)
        kinds = {x: option.kind for x, option in OPTIONS.items() if option.kind in (int, float)}
        numbers: dict[str, Any] = {x: kind(getattr(out, x)) for x, kind in kinds.items()}
        return replace(out, **numbers)

    def _check(self, *names: str) -> None:
        """Raise an error for the first of some settings that has a bad value."""
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if name in names and (problem := option.problem(value)):
                raise UserError(f"{name}: {value!r} {problem}")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds; `from_dict` gives the same settings back."""
        return asdict(self) | {"targets": self.targets.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainSettings":
        """Return settings from what JSON or YAML holds.

        Args:
            values: The settings that differ from the defaults.

        Raises:
            UserError: A setting is not known, or its value is of the wrong kind.
        """
        for name in values:
            if name not in OPTIONS:
                raise UserError(f"{name} is not a setting{did_you_mean(name, OPTIONS)}")
        targets = values.get("targets", {})
        known = targets if isinstance(targets, Targets) else Targets.from_dict(targets)
        return cls(**{**values, "targets": known})


OPTIONS: dict[str, Option] = {f.name: f.metadata["option"] for f in fields(TrainSettings)}
DEFAULTS: dict[str, Any] = {f.name: getattr(TrainSettings(), f.name) for f in fields(TrainSettings)}

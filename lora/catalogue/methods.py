"""The fine-tuning methods: what each trains, and the settings that suit it.

The learning rates, decays and clipping are MACE's guidance for fine-tuning (its documentation,
September 2026).  A setting of the config section `train` or `methods` wins over them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One way to fine-tune, or the foundation model without any training.

    Attributes:
        name: The name in `methods`, in `baselines` and in the names of points.
        method: The value of `TrainSettings.method`; None where nothing is trained.
        trains: The weights that are trained, in words.
        lr: The default learning rate.
        ema_decay: The default decay of the moving average of the weights, a step.
        clip_grad: The default largest gradient norm.
        replays: Whether structures of the foundation model's own kind are always replayed.
        baseline: Whether it can stand in `baselines`.
        rates: The learning rates of a sweep whose config names none, so that a baseline is tuned.
        adapter: Whether it trains adapters, of the kind of its name in `lora/adapters/kinds.py`.
        can_be_cut: Whether lower ranks can be cut from its adapters, as the kind says.
        starts: The names of `ALL_STARTS` that its adapters have; none named means all.
        own: The settings that act on it and not on every method.
    """

    name: str
    method: str | None
    trains: str
    lr: float | None = None
    ema_decay: float | None = None
    clip_grad: float | None = None
    replays: bool = False
    baseline: bool = False
    rates: tuple[float, ...] = ()
    adapter: bool = False
    can_be_cut: bool = False
    starts: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def has_start(self, start: str) -> bool:
        """Return True for a start that its adapters have.

        Args:
            start: A name of `ALL_STARTS`.
        """
        return not self.starts or start in self.starts

    def defaults(self) -> dict[str, float]:
        """Return the settings that depend on the method, those that are set."""
        values = {"lr": self.lr, "ema_decay": self.ema_decay, "clip_grad": self.clip_grad}
        return {name: value for name, value in values.items() if value is not None}


OF_ADAPTERS = ("targets", "start", "start_from")
OF_FACTORS = (*OF_ADAPTERS, "lr_ratio_b")
ROWS = (
    Method(
        *("lora", "lora", "the low-rank factors of the adapted layers"),
        *(1e-2, 0.99, 10.0),
        adapter=True,
        can_be_cut=True,
        own=OF_FACTORS,
    ),
    Method(
        *("dora", "dora", "the low-rank factors of the adapted layers, and the length of outputs"),
        *(1e-2, 0.99, 10.0),
        adapter=True,
        own=OF_FACTORS,
    ),
    Method(
        *("sparse", "sparse", "a few entries of the weights of the adapted layers"),
        *(1e-2, 0.99, 10.0),
        adapter=True,
        starts=("documented", "adapter"),
        own=OF_ADAPTERS,
    ),
    Method(
        *("full", "full", "all weights"),
        *(1e-3, 0.999, 1.0),
        baseline=True,
        rates=(1e-3, 3e-3, 1e-2),
    ),
    Method(
        *("freeze", "freeze", "the layers that freeze_level leaves trainable"),
        *(1e-3, 0.999, 1.0),
        baseline=True,
        rates=(1e-3, 3e-3, 1e-2),
        own=("freeze_level",),
    ),
    Method(
        *("full_replay", "full", "all weights, with replay"),
        *(1e-4, 0.999, 1.0),
        replays=True,
        baseline=True,
        rates=(1e-4, 3e-4, 1e-3),
    ),
    Method("foundation", None, "nothing: the foundation model with new E0s", baseline=True),
)
BY_NAME = {row.name: row for row in ROWS}
OWN = tuple(dict.fromkeys(name for row in ROWS for name in row.own))
METHODS = tuple(dict.fromkeys(row.method for row in ROWS if row.method))
ADAPTERS = tuple(row.name for row in ROWS if row.adapter)
TRAINED = tuple(row.name for row in ROWS if row.method)  # the keys of the section `methods`
BASELINES = ("foundation", *(row.name for row in ROWS if row.baseline and row.method))
SCALINGS = ("mace", "rank_stable")
SHARED = "gradient_ranks"  # by what the gradient says, ranks differ from irrep to irrep
ALONG_GRADIENT = ("gradient", SHARED)  # start at singular vectors of the gradient
STARTS = ("documented", "upstream", "pissa", *ALONG_GRADIENT)  # of the factors A and B
EARLIER = "adapter"  # starts where an adapter that was trained before ended
ALL_STARTS = (*STARTS, EARLIER)  # of a training
ANCHORED = ("pissa",)  # starts at another product than zero, which frozen columns take away


def plain_start(start: str) -> str:
    """Return the start of what is cut or summed from adapters of a start: it has no frozen columns.

    Args:
        start: A name of `ALL_STARTS`.
    """
    return STARTS[0] if start in (*ANCHORED, EARLIER) else start


def own_start(start: str) -> str:
    """Return the start that the layers of a training are made with, before it puts them elsewhere.

    Args:
        start: A name of `ALL_STARTS`.
    """
    return STARTS[0] if start == EARLIER else start


# which layers are adapted: the switches of `targets` that each placement turns on
PLACEMENTS = {"linear": (), "all": ("skip_tp", "symmetric_contraction")}
PLACEMENT = "linear"  # the default
# the terms of MACE's losses, each with a weight of its name in the settings: energy_weight, ...
LOSS_TERMS = {
    "weighted": ("energy", "forces"),
    "forces_only": ("forces",),
    "stress": ("energy", "forces", "stress"),
    "virials": ("energy", "forces", "virials"),
    "huber": ("energy", "forces", "stress"),
    "universal": ("energy", "forces", "stress"),
    "l1l2energyforces": ("energy", "forces"),
}
LOSSES = tuple(LOSS_TERMS)
ALSO_WITHOUT_STRESS = ("huber", "universal")  # which are for molecules, too
OPTIMIZERS = ("adam", "adamw")
SCHEDULERS = ("ReduceLROnPlateau", "ExponentialLR", "CosineAnnealingLR", "constant")
DTYPES = ("float32", "float64")

"""The options of `mace_run_train`, a row each: what stands for it in the config of a sweep.

docs/from_mace.md is made from these rows, and `mace-lora init --from` translates by them.  Names,
kinds and defaults are those of mace 0.3.16; a test reads its parser.
"""

from lora.catalogue.mace_data import (
    DATA,
    DIPOLES,
    FINE_TUNING,
    GENERAL,
    KEYS,
    MODEL,
    VERSION,
    MaceOption,
    missing,
)

__all__ = ["BY_NAME", "GROUPS", "ROWS", "MaceOption"]
_ = MaceOption
_STAGE_TWO = (
    "There is no stage two. Raise `train.energy_weight`, or run a second sweep with other weights "
    "on the merged model of the first: `foundation.model: results/merge/POINT/POINT.model`."
)
_CHECKPOINTS = "The best epoch is kept, and the last one until a training has ended."
_MLFLOW = "MLflow has all runs; see `tracking`."
_METHOD = "The default depends on the method."
_VALID = (
    "MACE's validation loss, by which both keep an epoch, is the sum of the means of batches over "
    "the number of structures: it depends on this size."
)
_SCHEDULE_FREE = "There is no ScheduleFree."
_FACTORS = (
    '{"embedding_lr_factor": 1.0, "interactions_lr_factor": 1.0, "products_lr_factor": 1.0, '
    '"readouts_lr_factor": 1.0}'
)
_HYPERS: tuple[str, ...] = (
    "num_channels",
    "max_L",
    "correlation",
    "lr",
    "swa_lr",
    "weight_decay",
    "batch_size",
)
_HYPERS += ("max_num_epochs", "start_swa", "energy_weight", "forces_weight")

LOSS = (
    _(
        *("loss", "text", "weighted", "train.loss"),
        "ef is `weighted` with `energy_weight: 1` and `forces_weight: 1`; losses of dipoles are "
        "missing.",
    ),
    _("forces_weight", "float", 100.0, "train.forces_weight"),
    _("energy_weight", "float", 1.0, "train.energy_weight"),
    _("virials_weight", "float", 1.0, "train.virials_weight"),
    _("stress_weight", "float", 1.0, "train.stress_weight"),
    _("dipole_weight", "float", 1.0, "train", DIPOLES),
    _("polarizability_weight", "float", 1.0, "train", DIPOLES),
    _(
        *("config_type_weights", "text", '{"Default":1.0}', "data.config_type_weights"),
        "A mapping. Default is the name of structures without a config_type. The weights hold for "
        "training and validation.",
    ),
    _("huber_delta", "float", 0.01, "train.huber_delta"),
    _("swa", "flag", False, "train", _STAGE_TWO, ("stage_two",)),
    _("start_swa", "int", None, "train", "See `swa`.", ("start_stage_two",)),
    _("swa_lr", "float", 0.001, "train", "See `swa`.", ("stage_two_lr",)),
    *(
        _(f"swa_{x}", "float", default, "train", "See `swa`.", (f"stage_two_{x}",))
        for x, default in (
            ("forces_weight", 100.0),
            ("energy_weight", 1000.0),
            ("virials_weight", 10.0),
            ("stress_weight", 10.0),
            ("dipole_weight", 1.0),
            ("polarizability_weight", 1.0),
        )
    ),
)
OPTIMISER = (
    _("optimizer", "text", "adam", "train.optimizer", "There is no schedulefree."),
    _("beta", "float", 0.9, "train.beta"),
    _("beta1_schedulefree", "float", 0.9, "train", _SCHEDULE_FREE),
    _("beta2_schedulefree", "float", 0.98, "train", _SCHEDULE_FREE),
    _(
        *("batch_size", "int", 10, "train.batch_size"),
        "mace_run_train leaves the last batch of an epoch out where it is not full: here with "
        "`train.drop_last: true`.",
    ),
    _("valid_batch_size", "int", 10, "train.valid_batch_size", _VALID),
    _("lr", "float", 0.01, "train.lr", _METHOD),
    _(
        *("weight_decay", "float", 5e-7, "train.weight_decay"),
        "On the same weights: `linear` and `skip_tp_full` of the interactions and all of the "
        "products, 8 of 24 tensors; with LoRA the adapters of the products.",
    ),
    _(
        *("lr_params_factors", "text", _FACTORS, "methods"),
        "One rate holds for all layers. `train.targets` and `train.freeze_level` say what trains.",
    ),
    _(
        *("freeze", "int", None, "train.freeze_level"),
        "For the method freeze, a baseline. 1 to 4 are 1 here; 5 and 6 are the same levels; 7 "
        "would leave nothing to train; negative numbers freeze nothing in mace_run_train.",
    ),
    _("amsgrad", "flag", True, "train.amsgrad", "It cannot be switched off in mace_run_train."),
    _(
        *("scheduler", "text", "ReduceLROnPlateau", "train.scheduler"),
        "CosineAnnealingLR and constant exist here, too.",
    ),
    _("lr_factor", "float", 0.8, "train.lr_factor"),
    _("scheduler_patience", "int", 50, "train.scheduler_patience"),
    _("lr_scheduler_gamma", "float", 0.9993, "train.lr_scheduler_gamma"),
    _("lbfgs", "flag", False, "train", "There is no L-BFGS."),
    _("ema", "flag", False, "train.ema"),
    _("ema_decay", "float", 0.99, "train.ema_decay", _METHOD),
    _(
        *("max_num_epochs", "int", 2048, "train.max_num_epochs"),
        "mace_run_train counts epochs from 0. Here epoch 0 is the untrained model, which is kept "
        "if no epoch is better; mace_run_train keeps a trained one always.",
        told=True,
    ),
    _(
        *("patience", "int", 2048, "train.patience"),
        f"mace_run_train {VERSION} stops only distributed trainings; others say that they stop and "
        "go on.",
        told=True,
    ),
    _(
        *("foundation_model", "text", None, "foundation.model"),
        "Required: a sweep fine-tunes, and trains no model from scratch.",
    ),
    _(
        *("foundation_model_kwargs", "text", "{}", "foundation"),
        "A model is a name or a file, and `foundation.head`.",
    ),
    _("foundation_model_readout", "flag", True, "foundation", "Readouts are always kept."),
    _("eval_interval", "int", 1, "train", "Every epoch is validated."),
    _("keep_checkpoints", "flag", False, "train", _CHECKPOINTS),
    _("save_all_checkpoints", "flag", False, "train", _CHECKPOINTS),
    _(
        *("restart_latest", "flag", False, "train"),
        "A second `snakemake` goes on from the last epoch, to the same result.",
    ),
    _("save_cpu", "flag", False, "export", "Models are saved so that any device opens them."),
    _(
        *("clip_grad", "float", 10.0, "train.clip_grad"),
        f"{_METHOD} None is 0. mace_run_train counts the gradients of Bessel frequencies, too, "
        "where they are a parameter: they are never zeroed, pile up, and tighten the clipping.",
    ),
    _("dry_run", "flag", False, "top", "`snakemake --dry-run`, and `mace-lora config`."),
    _("enable_cueq", "bool", False, "train.enable_cueq"),
    _("only_cueq", "bool", False, "export", "The engine `cueq` of `export.engines`."),
    _("enable_oeq", "bool", False, "train", "`lora.mace.kernels.to_kernel(model, 'oeq')` by hand."),
)
WANDB = missing(
    *("tracking", _MLFLOW),
    ("wandb", "flag", False),
    ("wandb_dir", "text", None),
    ("wandb_project", "text", ""),
    ("wandb_entity", "text", ""),
    ("wandb_name", "text", ""),
    ("wandb_log_hypers", "texts", _HYPERS),
)
# by the heading of its table in docs/from_mace.md
GROUPS: dict[str, tuple[MaceOption, ...]] = {
    "general": GENERAL,
    "data": DATA,
    "keys": KEYS,
    "fine_tuning": FINE_TUNING,
    "loss": LOSS,
    "optimiser": OPTIMISER,
    "model": MODEL,
    "wandb": WANDB,
}
ROWS = tuple(row for group in GROUPS.values() for row in group)
BY_NAME = {name: row for row in ROWS for name in (row.name, *row.aliases)}

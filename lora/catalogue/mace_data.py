"""The options of `mace_run_train` that say what is trained on what; see `mace_options`."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["int", "float", "bool", "flag", "text", "texts"]
VERSION = "0.3.16"  # of mace-torch


@dataclass(frozen=True)
class MaceOption:
    """One option.

    Attributes:
        name: Its name, without dashes.
        kind: The kind of its value; a flag takes none.
        default: Its default in mace_run_train.
        place: The key of the config that stands for it; a section where none does.
        note: What differs, or what to do instead.
        told: Whether the note is told beside a translated value, too.
        aliases: Its other names.
    """

    name: str
    kind: Kind
    default: Any
    place: str
    note: str = ""
    aliases: tuple[str, ...] = ()
    told: bool = False

    @property
    def key(self) -> str:
        """Return the key of the config that stands for it; empty where none does."""
        return self.place if "." in self.place or self.place == "results" else ""


Short = tuple[str, Kind, Any]


def missing(place: str, note: str, *options: Short) -> tuple[MaceOption, ...]:
    """Return rows of options that are missing for the same reason."""
    return tuple(MaceOption(*option, place, note) for option in options)


_ = MaceOption
_FOLDERS = "Everything lies in `results`."
_FROM_MODEL = "The foundation model says it."
_POLAR = "PolarMACE is not supported."
_PLOTS = "The report has plots."
DIPOLES = "Dipoles and polarisabilities are not trained."
_H5 = "Data are a file that ASE reads, or HDF5 or LMDB, as MACE has them."
_LOADER = "Graphs are made once and held; of more than 10,000, each when its batch needs it."
_HEADS = "Run one sweep for each head, each with its data."
_REPLAY = "`replay.num_samples` structures are chosen at random; choose others beforehand."
_BLOCK = "RealAgnosticResidualInteractionBlock"

GENERAL = (
    _("config", "text", None, "top", "Options of a YAML file are translated, too."),
    _("name", "text", None, "results", "A sweep is known by the folder of its results."),
    _(
        *("seed", "int", 123, "grid.seed"),
        "A list: every seed is a point. The split has a seed of its own, `split.seed`.",
    ),
    _("work_dir", "text", ".", "results", "The folder of `name`."),
    *missing(
        *("top", _FOLDERS),
        ("log_dir", "text", None),
        ("model_dir", "text", None),
        ("checkpoints_dir", "text", None),
        ("results_dir", "text", None),
    ),
    _("downloads_dir", "text", None, "top", "MACE's cache has what was downloaded."),
    _("device", "text", "cpu", "train.device", "cpu, cuda or cuda:N; mps and xpu were not tried."),
    _("default_dtype", "text", "float64", "train.default_dtype"),
    _("distributed", "flag", False, "pack", "Say how many GPUs share a training: `pack.gpus`."),
    _("launcher", "text", "slurm", "pack", "Snakemake starts jobs: `--profile slurm`."),
    _("log_level", "text", "INFO", "top", "Each job has a file in `results/logs`."),
    *missing(
        *("top", _PLOTS),
        ("plot", "bool", True),
        ("plot_frequency", "int", 0),
        ("plot_interaction_e", "bool", False),
    ),
    _("error_table", "text", "PerAtomRMSE", "select", "The report has RMSE and MAE of all."),
)
MODEL = (
    _("model", "text", "MACE", "foundation", "The class is that of `foundation.model`."),
    *missing(
        *("foundation", _FROM_MODEL),
        ("r_max", "float", 5.0),
        ("radial_type", "text", "bessel"),
        ("num_radial_basis", "int", 8),
        ("num_cutoff_basis", "int", 5),
        ("pair_repulsion", "flag", False),
        ("distance_transform", "text", "None"),
        ("apply_cutoff", "bool", True),
        ("use_last_readout_only", "bool", False),
        ("use_embedding_readout", "bool", False),
        ("interaction", "text", _BLOCK),
        ("interaction_first", "text", _BLOCK),
        ("max_ell", "int", 3),
        ("correlation", "int", 3),
        ("use_reduced_cg", "bool", False),
        ("use_so3", "bool", False),
        ("use_agnostic_product", "bool", False),
        ("num_interactions", "int", 2),
        ("MLP_irreps", "text", "16x0e"),
        ("radial_MLP", "text", "[64, 64, 64]"),
        ("hidden_irreps", "text", None),
        ("edge_irreps", "text", None),
        ("use_edge_irreps_first", "bool", False),
        ("num_channels", "int", None),
        ("max_L", "int", None),
        ("gate", "text", "silu"),
    ),
    *missing(
        *("foundation", _POLAR),
        ("kspace_cutoff_factor", "float", 1.5),
        ("atomic_multipoles_max_l", "int", 0),
        ("atomic_multipoles_smearing_width", "float", 1.0),
        ("field_feature_max_l", "int", 0),
        ("field_feature_widths", "text", "[1.0]"),
        ("field_feature_norms", "text", None),
        ("num_recursion_steps", "int", 1),
        ("field_si", "bool", False),
        ("include_electrostatic_self_interaction", "bool", False),
        ("add_local_electron_energy", "bool", False),
        ("quadrupole_feature_corrections", "bool", False),
        ("return_electrostatic_potentials", "bool", False),
        ("field_norm_factor", "float", 0.02),
        ("fixedpoint_update_config", "text", None),
        ("field_readout_config", "text", None),
    ),
    _(
        *("scaling", "text", "rms_forces_scaling", "foundation"),
        f"{_FROM_MODEL} `grid.scaling` is another thing: the scaling of LoRA.",
    ),
    _("avg_num_neighbors", "float", 1.0, "foundation", _FROM_MODEL),
    _("compute_avg_num_neighbors", "bool", True, "foundation", _FROM_MODEL),
    _("compute_stress", "bool", False, "train", "The loss says whether a stress is computed."),
    _("compute_forces", "bool", True, "train", "Forces are always computed."),
    _("compute_polarizability", "bool", False, "train", DIPOLES),
    _("compute_atomic_dipole", "bool", False, "train", DIPOLES),
)
DATA = (
    _("train_file", "text", None, "data.file", "It is split, unless `valid_file` is given, too."),
    _("valid_file", "text", None, "split.valid_file", "With `split.method: given`."),
    _(
        *("valid_fraction", "float", 0.1, "split.valid_fraction"),
        "A share of all structures. Here a test set is split off as well: `split.test_fraction`, "
        "0.1.",
    ),
    _(
        *("test_file", "text", None, "split.test_file"),
        "With `split.method: given`; without a `valid_file` it is one of `data.test_sets`. Errors "
        "are given for each config_type here, too.",
    ),
    _("test_dir", "text", None, "data", f"{_H5} Name the files in `data.test_sets`."),
    _("multi_processed_test", "bool", False, "data", _H5),
    _("num_workers", "int", 0, "data", _LOADER),
    _("pin_memory", "bool", True, "data", _LOADER),
    _("atomic_numbers", "text", None, "foundation", "The elements are those of the data."),
    _("mean", "float", None, "foundation", _FROM_MODEL),
    _("std", "float", None, "foundation", _FROM_MODEL),
    _("statistics_file", "text", None, "foundation", _FROM_MODEL),
    _("les_arguments", "text", None, "foundation", "MACELES is not supported."),
    _(
        *("E0s", "text", None, "e0s.method"),
        "average, estimated and foundation mean the same; values are {symbol: eV}, not {number: "
        "eV}. Free atoms in `train_file` win over all of these in mace_run_train: `isolated` here.",
    ),
)
FINE_TUNING = (
    _(
        *("pseudolabel_replay", "bool", False, "replay.labels"),
        "True is `foundation`, False is `file`.",
    ),
    _(
        *("pseudolabel_replay_compute_stress", "bool", False, "replay"),
        "Replayed crystals always get a stress.",
    ),
    _(
        *("foundation_filter_elements", "bool", True, "replay"),
        "Replayed structures may hold any element that the foundation model knows.",
    ),
    _("heads", "text", None, "foundation", _HEADS),
    _(
        *("multiheads_finetuning", "bool", True, "grid.replay"),
        "[true], or the baseline `full_replay`, with `replay.file`. mace_run_train replays by "
        "default where the foundation model is small, medium or large or `pt_train_file` is given, "
        "and sets lr 0.0001, EMA 0.99999 and the loss universal. Here only the new head is kept.",
    ),
    _("foundation_head", "text", None, "foundation.head"),
    _("weight_pt_head", "float", 1.0, "replay.weight"),
    _(
        *("real_pt_data_ratio_threshold", "float", 0.1, "replay"),
        "New data are not repeated; lower `replay.num_samples` or `replay.weight` instead.",
    ),
    _("num_samples_pt", "int", 10000, "replay.num_samples"),
    _(
        *("force_mh_ft_lr", "bool", False, "methods"),
        "Learning rates are never changed implicitly: `methods.full_replay.lr`.",
    ),
    _("subselect_pt", "text", "random", "replay", _REPLAY),
    _("filter_type_pt", "text", "none", "replay", _REPLAY),
    _("disallow_random_padding_pt", "flag", True, "replay", _REPLAY),
    _(
        *("pt_train_file", "text", None, "replay.file"),
        "A file; the names mp, omat, matpes_pbe and matpes_r2scan download data in MACE.",
    ),
    _("pt_valid_file", "text", None, "replay", "Points are judged on the new head alone."),
    _(
        *("foundation_model_elements", "bool", False, "foundation"),
        "Trainings run on the elements of the data; merged models have all elements again.",
    ),
    _(
        *("keep_isolated_atoms", "bool", False, "e0s"),
        "Free atoms are never trained on; see the check `atoms`.",
    ),
    _(
        "lora",
        "bool",
        False,
        "grid",
        "A sweep always has LoRA points; `methods.lora` has settings of theirs alone.",
    ),
    _("lora_rank", "int", 4, "grid.rank", "A list: every rank is a point."),
    _("lora_alpha", "float", 1.0, "grid.alpha", "A list: every alpha is a point."),
)
KEYS = (
    _("energy_key", "text", "REF_energy", "data.energy_key"),
    _("forces_key", "text", "REF_forces", "data.forces_key"),
    _("virials_key", "text", "REF_virials", "data.virials_key"),
    _("stress_key", "text", "REF_stress", "data.stress_key"),
    _("dipole_key", "text", "dipole", "data", DIPOLES),
    _("polarizability_key", "text", "polarizability", "data", DIPOLES),
    _("head_key", "text", "head", "foundation", _HEADS),
    _("charges_key", "text", "REF_charges", "data", "MACE does not train on charges of atoms."),
    _("total_charge_key", "text", "total_charge", "data.total_charge_key"),
    _("total_spin_key", "text", "total_spin", "data.total_spin_key"),
    *missing(
        *("data", "Models with an embedding of the electronic temperature are not supported."),
        ("elec_temp_key", "text", "elec_temp"),
    ),
    _("embedding_specs", "text", None, "foundation", _FROM_MODEL),
    _("skip_evaluate_heads", "text", "pt_head", "replay", "Only the new head is evaluated."),
)

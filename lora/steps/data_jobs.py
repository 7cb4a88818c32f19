"""Run the jobs before any training: split, labels, E0s, and what reminds of the foundation model.

`lora.steps.jobs` calls them; each is one step of the DAG.
"""

from lora.plan.commands import Base
from lora.plan.job import FOUNDATION_ROLE
from lora.steps.call import Call


def run_foundation(call: Call) -> None:
    """Keep the foundation model, and describe it."""
    from lora.steps.foundation import foundation

    config = call.sweep.config.foundation
    kept = call.sweep.layout.foundation_model
    replay = call.job.settings["replay"]
    base = Base(config.model, config.head, under=config.base)
    foundation(base, kept, config.licence, call.run, replay)


def run_split(call: Call) -> None:
    """Divide the data."""
    from lora.data.grouping import SplitSettings
    from lora.steps.split import split

    config, layout = call.sweep.config, call.sweep.layout
    own = {k: v for k, v in config.split.model_dump().items() if not k.endswith("_file")}
    settings = SplitSettings(
        **own,
        keys=call.keys,
        given=config.split.given_files(),
        config_type_weights=dict(config.data.config_type_weights),
        test_files={x.name: x.file for x in config.data.test_sets},
    )
    split(config.data.file, settings, layout.split("train").parent, call.receipt)


def run_replay(call: Call) -> None:
    """Choose and label structures for replay."""
    from lora.steps.replay import ReplaySettings, replay

    config = call.sweep.config.replay
    settings = ReplaySettings(config.labels, config.num_samples, config.seed, keys=call.keys)
    replay(str(config.file), call.base, call.sweep.layout.replayed, settings, call.run)


def run_audit(call: Call) -> None:
    """Compare labels with the foundation model's own predictions."""
    from lora.steps.audit import audit

    files = {role: str(path) for role, path in call.job.files.items() if role != FOUNDATION_ROLE}
    config = call.sweep.config
    weights = config.data.config_type_weights
    engines = config.export.engines
    audit(files, call.base, call.keys, config.audit, call.run, weights, engines)


def run_e0s(call: Call) -> None:
    """Estimate the E0s."""
    from lora.steps.e0s import E0sSettings, e0s

    config = call.sweep.config.e0s
    own = (config.method, config.isolated_file, config.max_error, config.stop)
    settings = E0sSettings(*own, call.keys, call.job.files.get("start"))
    e0s(call.sweep.layout.split("train"), call.base, call.receipt.path, settings, call.run)


def run_keep(call: Call) -> None:
    """Make structures around the training set."""
    from lora.steps.keep import KeepSettings, keep

    config, layout = call.sweep.config.keep, call.sweep.layout
    settings = KeepSettings(config.kinds, config.num_samples, config.temperatures, config.seed)
    files = (layout.split("train"), layout.receipt("e0s"))
    size = call.job.settings["batch_size"]
    keep(*files, call.base, layout.kept, settings, size, call.run)

"""The commands of the loop that lets the data grow: `mace-lora select` and `mace-lora label`."""

from typing import Any

from lora.plan.commands import Base, Run


def select(**args: Any) -> None:
    """Choose frames to label.

    Args:
        **args: What `lora.cli.options` reads.
    """
    from lora.data.labels import Keys
    from lora.steps.select import SelectSettings
    from lora.steps.select import select as choose

    settings = SelectSettings(args["count"], args["score"], args["above"], Keys.of(args))
    base = Base(args["model"], args["head"], under=args["base"])
    choose(args["pool"], base, args["train"], args["out"], settings, Run(args["threads"]))


def label(**args: Any) -> None:
    """Label frames, or collect what was labelled by hand.

    Args:
        **args: What `lora.cli.options` reads.
    """
    from lora.data.labels import Keys
    from lora.steps.label import label as give_labels

    keys = Keys.of(args)
    give_labels(args["frames"], args["out"], args["command"], args["folder"], keys)

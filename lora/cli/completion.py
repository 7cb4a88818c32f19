"""`mace-lora completion`: what a shell needs to complete commands, options, choices and files."""

import argparse

from lora.cli.options import parser


def completion(shell: str) -> None:
    """Print the completion of a shell, for `eval "$(mace-lora completion bash)"`.

    Args:
        shell: bash or zsh.
    """
    import shtab

    whole = parser()
    (steps,) = (x for x in whole._actions if isinstance(x, argparse._SubParsersAction))
    for step in steps.choices.values():
        for action in step._actions:
            number = getattr(action.type, "__name__", "") in ("int", "float", "count")
            if action.nargs != 0 and not action.choices and not number:
                action.complete = shtab.FILE
    print(shtab.complete(whole, shell=shell))

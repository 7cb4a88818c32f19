"""`mace-lora verify`: check the files of a sweep, also before something is made of them."""

from pathlib import Path

from lora.cli.options import PLAN


def verify(results: str | Path, store: bool = True) -> None:
    """Check every file of a sweep, and print what was found.

    Args:
        results: The results folder.
        store: As for `lora.steps.verify.verify`.

    Raises:
        UserError: As `lora.steps.verify.verify`.
    """
    from lora.steps.verify import verify as check

    print(*check(results, store), sep="\n")


def verify_sweep(source: str | Path) -> None:
    """Check the files of a sweep; nothing where none has begun, as beside a model of one's own.

    Args:
        source: A results folder, or a model file.
    """
    if (Path(source) / PLAN).is_file():
        verify(source, store=False)

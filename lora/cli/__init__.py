"""The command `mace-lora`: parses words, calls one step, turns an error into one line."""


def main(argv: list[str] | None = None) -> int:
    """Run a step, see `lora.cli.main`, which is imported on the first call."""
    from importlib import import_module

    return int(import_module("lora.cli.main").main(argv))

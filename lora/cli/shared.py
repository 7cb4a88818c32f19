"""Options that several commands have, and those that are keys of the config."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora.catalogue.bounds import COUNT
from lora.errors import UserError
from lora.files.sealed import Receipt
from lora.plan.config_data import Audit
from lora.plan.messages import problems_of
from lora.plan.options import Option
from lora.plan.sections import Section
from lora.plan.settings import DEFAULTS


def keys(p: argparse.ArgumentParser, section: type[Section], *names: str, kind: type = str) -> None:
    """Add options for keys of a section of the config, with its defaults and descriptions."""
    for name in names:
        field = section.model_fields[name]
        said = f"{field.description}{_default(field.default)}".replace("%", "%%")
        whole = kind is str or section is Audit  # whose step checks all of it
        read = kind if whole else _checked(section, name, kind)
        p.add_argument(f"--{name}", type=read, default=field.default, help=said)


def _default(value: Any) -> str:
    """Return a default in brackets; "" where there is none, or where the description says it."""
    return "" if value is None or value == "" else f" (default {value})"


def _checked(section: type[Section], name: str, kind: type) -> Callable[[str], Any]:
    """Return what reads a number as the config takes it."""

    def read(text: str) -> Any:
        value = kind(text)
        try:
            section(**{name: value})
        except ValidationError as error:
            said = next(problems_of(error)).text
            raise UserError(f"{section.__name__.lower()}.{name}: {said}") from None
        return value

    read.__name__ = kind.__name__  # which argparse names where it is no number
    return read


def count(text: str) -> int:
    """Return a number of things."""
    if not COUNT.admits(value := int(text)):
        raise argparse.ArgumentTypeError(f"{value} must be {COUNT}")
    return value


count.__name__ = "int"  # which argparse names where it is no number


def foundation(parser: argparse.ArgumentParser) -> None:
    """Add what names the foundation model."""
    parser.add_argument("--foundation", required=True, help=".model file, or a name MACE knows")
    parser.add_argument("--head", help="which head of a model that has several")


def receipt(parser: argparse.ArgumentParser) -> None:
    """Add the file for what was found of each point."""
    parser.add_argument(
        "--receipt", type=_to_receipt, help="json file: what was found of each point"
    )


def _to_receipt(path: str) -> Receipt:
    return Receipt(Path(path))


def threads(parser: argparse.ArgumentParser) -> None:
    """Add the number of CPU threads."""
    parser.add_argument("--threads", type=count, help="CPU threads (default torch's choice)")


def device(parser: argparse.ArgumentParser) -> None:
    """Add the device."""
    default = DEFAULTS["device"]
    said = f"cpu, cuda or cuda:N (default {default})"
    parser.add_argument("--device", default=default, help=said)


def batch_size(parser: argparse.ArgumentParser) -> None:
    """Add the number of structures a batch of an evaluation."""
    size = DEFAULTS["valid_batch_size"]
    said = f"structures a batch (default {size})"
    parser.add_argument("--batch_size", type=count, default=size, help=said)


def setting(parser: argparse.ArgumentParser, name: str, option: Option) -> None:
    """Add an option for a setting of a training."""
    default = DEFAULTS[name]
    if option.kind is bool:
        action = argparse.BooleanOptionalAction
        said = f"{option.help} (default {'yes' if default else 'no'})"
        parser.add_argument(f"--{name}", action=action, default=default, help=said)
    elif option.kind is dict:
        parser.add_argument(f"--{name}", default="{}", help=f"JSON. {option.help}")
    else:
        said = f"{option.help}{_default(default)}".replace("%", "%%")
        parser.add_argument(
            f"--{name}",
            type=option.kind,
            default=default,
            choices=option.choices if option.kind is str and option.choices else None,
            help=said,
        )

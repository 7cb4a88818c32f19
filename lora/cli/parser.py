"""A parser of options whose mistakes are one line, with the name that was probably meant."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from lora.errors import UserError
from lora.plan.words import did_you_mean


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises `UserError` in place of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Args:
            message: In argparse's words.

        Raises:
            UserError: Always.
        """
        said = message.removeprefix("argument ")
        raise UserError(f"{said} ({self.prog} --help)")

    def check_names(self, given: Sequence[str]) -> None:
        """Look for options that do not exist, which argparse sees after all that is missing.

        Args:
            given: What follows the command.

        Raises:
            UserError: One does not exist; the message names the nearest.
        """
        known = [x for x in self._option_string_actions if x.startswith("--")]
        for word in given:
            name = word.partition("=")[0]
            if word == "--":
                return
            if len(name) > 2 and name.startswith("--") and " " not in name:
                meant = [x for x in known if x.startswith(name)]
                if not meant:  # argparse takes the beginning of a name, too
                    nearest = did_you_mean(name, known)
                    raise UserError(f"there is no option {name}{nearest} ({self.prog} --help)")

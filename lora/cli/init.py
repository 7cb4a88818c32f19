"""`mace-lora init`: write the config of a sweep from a look at the data, or from mace_run_train."""

from dataclasses import dataclass
from pathlib import Path

from lora.errors import UserError, UserErrors
from lora.files.sealed import write_text
from lora.plan.checking import resolve
from lora.plan.draft import Draft
from lora.plan.home import settle


@dataclass(frozen=True)
class Wish:
    """What the user says.

    Attributes:
        file: The structures, or None.
        foundation: The foundation model, or None.
        head: Its head, or None.
        command: A command of mace_run_train or its YAML file, or None.
        out: The config to write.
        force: Whether to overwrite it.
        energy_key: The name of the energy in the file, or None to look for it.
        forces_key: That of the forces.
        stress_key: That of the stress.
    """

    file: str | None
    foundation: str | None
    head: str | None
    command: str | None
    out: Path
    force: bool
    energy_key: str | None
    forces_key: str | None
    stress_key: str | None

    def keys(self) -> dict[str, str]:
        """Return the names of labels that were given, by quantity."""
        named = {x: getattr(self, f"{x}_key") for x in ("energy", "forces", "stress")}
        return {quantity: name for quantity, name in named.items() if name}


def init(wish: Wish) -> None:
    """Write a config with the reason of each choice, and say what is not sure.

    Raises:
        UserError: The file exists, the data cannot be used, an option is not known, or there is
            no workflow for this folder.
    """
    if wish.out.exists() and not wish.force:
        raise UserError(f"{wish.out}: exists; name another file by --out, or add --force")
    draft = _translated(wish) if wish.command else _proposed(wish)
    left: list[str] = []
    try:
        resolve(draft.values(), folder=Path.cwd())
    except UserErrors as errors:
        if not wish.command:
            raise
        left = errors.lines
    settled = settle(Path.cwd())
    write_text(wish.out, draft.text())
    if settled:
        print(f"{', '.join(settled)}: written; this folder had no Snakefile")
    print(*draft.doubts, *left, sep="\n", end="\n" if draft.doubts or left else "")
    if left:
        print(f"{wish.out}: written; mend these lines, then: mace-lora config {wish.out}")
    else:
        print(f"{wish.out}: written; next: snakemake --dry-run --configfile {wish.out}")


def _proposed(wish: Wish) -> Draft:
    """Return a config from a look at the data."""
    from lora.data.look import look
    from lora.data.proposal import proposal

    if not wish.file or not wish.foundation:
        raise UserError("name a file of structures and --foundation, or give --from COMMAND")
    return proposal(look(Path(wish.file), wish.keys()), wish.foundation, wish.head)


def _translated(wish: Wish) -> Draft:
    """Return a config from a command of mace_run_train."""
    from lora.plan.translation import translation

    over = {"train_file": wish.file, "foundation_model": wish.foundation}
    over |= {"foundation_head": wish.head}
    over |= {f"{quantity}_key": name for quantity, name in wish.keys().items()}
    return translation(wish.command or "", {k: x for k, x in over.items() if x})

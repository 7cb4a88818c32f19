"""Say in markdown what a run and a registered model are."""

import json
from typing import Any

from lora.catalogue.columns import BY_KEY, ENERGY, FORCE, VALID
from lora.catalogue.endings import Ending
from lora.plan.sweep import Sweep
from lora.tracking.names import title_of
from lora.tracking.registry import ALIAS
from lora.tracking.run import Run

Sets = dict[str, dict[str, Any]]


def about_run(sweep: Sweep, point: str, run: Run, page: str) -> str:
    """Return the description of a run.

    Args:
        sweep: The sweep.
        point: The point of the run.
        run: What it holds.
        page: The page of the sweep, from the server's address on.
    """
    base, data = (run.params.get(f"provenance/{x}", "") for x in ("base", "data"))
    prints = f" (fingerprint of the base {base}, digest of the data {data})" if base else ""
    lines = [f"**{point}**: {title_of(sweep.config)}{prints}."]
    if run.tags["chosen"] == "True":
        lines.append(
            "This is the chosen point: its artifacts hold the `report`, and its logged model is in "
            f"the registry under the alias `{ALIAS}`."
        )
    lines += [f"RMSE {_errors(name, values)}." for name, values in run.sets.items()]
    lines += [f"Check failed: {text}." for text in run.failed]
    lines += [f"{x}: {run.tags[x]}." for x in (Ending.FAILED, "race", "origin") if x in run.tags]
    adapter = [x for x in run.files if x.suffix == ".safetensors"]
    if adapter:
        place = adapter[0].parent.relative_to(sweep.layout.results)
        lines.append(f"Trained weights: artifacts `{place}`, for the base of that fingerprint.")
    lines.append(f"[All runs of this sweep]({page.removeprefix('/')})")
    return "\n\n".join(lines)


def about_model(name: str, uri: str, title: str, facts: dict[str, str], sets: Sets) -> str:
    """Return what the registered model is, and how to load it.

    Args:
        name: The name of the registered model.
        uri: The store.
        title: Base and data.
        facts: What it was made from: point, dtype, elements and fingerprints.
        sets: {set: {error: value}}.
    """
    errors = "\n".join(f"- {_errors(x, values)}" for x, values in sets.items())
    point, dtype = facts["point"], facts["dtype"] or "float64"
    return f"""# {point}: {title}

The chosen point of its sweep: a standard MACE model ({dtype}; fine-tuned on the elements \
{facts["elements"] or "none"}; base {facts["base_fingerprint"] or "itself"}).
RMSE of energies and forces:

{errors}

To use it, in the folder that holds the results where the store is theirs (a .model file is a
pickle: load only what you trust):

```python
import mlflow

mlflow.set_tracking_uri({json.dumps(uri)})
model = mlflow.pyfunc.load_model("models:/{name}@{ALIAS}")
table = model.predict({{"structure": open("start.xyz").read()}})  # energy in eV, forces in eV/Å
```

In ASE:

```python
from mace.calculators import MACECalculator

folder = mlflow.artifacts.download_artifacts("models:/{name}@{ALIAS}")
atoms.calc = MACECalculator(f"{{folder}}/data/{point}.model", default_dtype="{dtype}")
```
"""


def _errors(name: str, values: dict[str, Any]) -> str:
    """Return the errors on a set in words."""
    told = ((x, "energy" if x == ENERGY else "forces") for x in (ENERGY, FORCE))
    numbers = [f"{what} {values[x]:.4g} {BY_KEY[x].unit}" for x, what in told if x in values]
    return f"on the {'validation set' if name == VALID else f'set {name}'}: {', '.join(numbers)}"

"""What the server imports from which steps are forked."""

import lora.mace.door
import lora.steps.check
import lora.steps.e0s
import lora.steps.evaluate
import lora.steps.export
import lora.steps.merge
import lora.steps.replay
import lora.steps.split
import lora.steps.train
import lora.steps.truncate
from lora.mace.device import set_threads

set_threads(1)
for name in (
    "mace.modules",
    "mace.data",
    "mace.tools.train",
    "mace.tools.scripts_utils",
    "mace.calculators",
):
    lora.mace.door.upstream(name)

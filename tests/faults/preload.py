"""What the server imports from which steps are forked."""

import lora._upstream
import lora.check
import lora.e0s
import lora.evaluate
import lora.export
import lora.merge
import lora.replay
import lora.split
import lora.train
import lora.truncate
from lora.data import set_threads

set_threads(1)
for name in (
    "mace.modules",
    "mace.data",
    "mace.tools.train",
    "mace.tools.scripts_utils",
    "mace.calculators",
):
    lora._upstream.upstream(name)

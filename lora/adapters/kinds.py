"""The kinds of adapters, a row each; `lora/catalogue/methods.py` has the row of the same name."""

from lora.adapters.dora import DoRA
from lora.adapters.layer import Adapter
from lora.adapters.lora import LoRA
from lora.adapters.sparse import Sparse

KINDS: dict[str, type[Adapter]] = {
    "lora": LoRA,
    "dora": DoRA,
    "sparse": Sparse,
}

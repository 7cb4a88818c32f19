"""Imported before any test module: e3nn imports only after our door to it was opened."""

import lora._upstream  # noqa: F401
from lora.data import set_threads

set_threads(1)  # small tensors: threads only cost, and tests run side by side

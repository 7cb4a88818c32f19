"""MACE is imported without torch's compiler, and still has it."""

import subprocess
import sys

BEFORE = """
import sys
from lora.mace.door import upstream
for name in ("mace.modules", "mace.data", "mace.tools.scripts_utils", "mace.calculators"):
    upstream(name)
assert "torch._dynamo" not in sys.modules
compile = upstream("mace.tools.compile")
"""
USED = """
import torch
calls = []
torch._dynamo.allow_in_graph, allow = calls.append, torch._dynamo.allow_in_graph
compile.configure_autograd_for_compile()
assert calls == [torch.autograd.grad] and torch._dynamo.config.trace_autograd_ops
torch._dynamo.allow_in_graph = allow
assert compile.dynamo.config is torch._dynamo.config
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(1)) == 2
assert torch._dynamo.utils.counters["frames"] == {"total": 1, "ok": 1}
"""
THERE = """
import torch._dynamo
from lora.mace.door import upstream
assert upstream("mace.tools.compile").dynamo is torch._dynamo
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_compiler_is_imported_when_it_is_used() -> None:
    run(BEFORE + USED)


def test_a_compiler_that_is_there_stays() -> None:
    run(THERE)

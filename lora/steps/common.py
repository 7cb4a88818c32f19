"""What commands give to several steps: the foundation model, threads, a receipt, limits."""

from lora.plan.commands import Base, Limits, Run

__all__ = ["Base", "Limits", "Run"]

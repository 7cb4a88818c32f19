"""What the loop trains: a module that computes the outputs of several points."""

from typing import Any, Protocol

from torch import Tensor, nn


class Trainee(Protocol):
    """What `Fit` trains: a module that computes several points, such as an `adapters.pack.Pack`."""

    def __call__(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]: ...


class Single(nn.Module):
    """One model as the only point."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]:
        return [self.model(batch, **options)]

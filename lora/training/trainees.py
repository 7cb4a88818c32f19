"""What the loop trains: a module that computes the outputs of several points for one batch."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora.adapters.inject import lora_layers, take_adapters
from lora.adapters.pack import Pack
from lora.adapters.saved import save_adapter, save_weights
from lora.adapters.spectra import spectra
from lora.catalogue.methods import ADAPTERS
from lora.mace.elements import get_e0s
from lora.mace.fast.contraction import fold
from lora.mace.fast.convolution import fuse, unfuse
from lora.mace.kernels import from_kernel
from lora.mace.modules import count_parameters
from lora.mace.origin import note
from lora.mace.trained import is_decayed
from lora.plan.settings import TrainSettings
from lora.training.elastic import PENALTY, Elastic, Hold
from lora.training.setup import choose_weights, injection_of, prepare
from lora.training.starts import Start


class Trainee(nn.Module, ABC):
    """The points of a `Fit` as one module.

    Attributes:
        elastic: What holds the adapted weights where they are; None where nothing does.
    """

    elastic: Elastic | None = None

    @abstractmethod
    def forward(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]:
        """Return what MACE computes for one batch, for each of the points.

        Args:
            batch: MACE's tensors of some structures.
            points: Places of the points in the pack; the others cost nothing.
            **options: As MACE's models take them: training, compute_stress, ...

        Returns:
            For each point: energy [n_structures] (eV), forces [n_atoms, 3] (eV/Å), and more; in
            training `PENALTY` [], a term of the loss, where something holds the weights.
        """

    @abstractmethod
    def changes(self) -> Iterable[tuple[str, Tensor]]:
        """Return the changes of the adapted weights by layer, [K, *shape of the weight].

        Of the K points that `forward` has just computed.
        """

    def held(self, outs: list[dict[str, Tensor]], training: bool) -> list[dict[str, Tensor]]:
        """Return outputs with the penalty of each point, in training and where there is one.

        Args:
            outs: What the model has just computed for each point.
            training: Whether gradients of a loss will be asked for.
        """
        if self.elastic is None or not training:
            return outs
        penalties = self.elastic.penalties(self.changes())
        return [out | {PENALTY: x} for out, x in zip(outs, penalties, strict=True)]

    @abstractmethod
    def trained(self) -> list[dict[str, nn.Parameter]]:
        """Return what the optimiser of each point moves, by name."""

    @abstractmethod
    def decayed(self) -> list[dict[str, Tensor]]:
        """Return, of what `trained` returns, where weight decay acts: a factor of 1 or 0 each."""

    @abstractmethod
    def b_factors(self) -> list[dict[str, Tensor]]:
        """Return, of what `trained` returns, where `lr_ratio_b` acts: 1 or 0 each."""

    def own(self, i: int, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of one point as it is alone, whoever trains beside it.

        Args:
            i: Place of the point in the pack.
            state: What its `TrainingState` returns.
        """
        return state

    def shared(self, i: int, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of one point as it is in this pack.

        Args:
            i: Place of the point in the pack.
            state: What `own` returned, of this pack or another.
        """
        return state

    @abstractmethod
    def save(
        self,
        i: int,
        settings: TrainSettings,
        base: nn.Module,
        folder: Path,
        elements: list[str],
        notes: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write what one point has trained, as it stands now; the model cannot train after that.

        Args:
            i: Place of the point in the pack.
            settings: Resolved settings of the point.
            base: The foundation model, with all elements.
            folder: Where the adapter goes.
            elements: Those that were fine-tuned; their E0s are kept with the adapter.
            notes: Kept in adapter.json.

        Returns:
            What train.json says of the adapter: its spectra.
        """


class AdapterPack(Trainee):
    """LoRA points over one frozen base.

    Args:
        pack: Their adapters.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.pack = pack

    def forward(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]:
        """Return what MACE computes for one batch with the adapters of each point."""
        outputs: list[dict[str, Tensor]] = self.pack(batch, points, **options)
        return self.held(outputs, options.get("training", False))

    def changes(self) -> Iterable[tuple[str, Tensor]]:
        """Return the changes of the adapted weights by layer, of the points computed last."""
        return ((name, layer.changes()) for name, layer in self.pack.packed.items())

    def trained(self) -> list[dict[str, nn.Parameter]]:
        """Return the factors of each point, as one flat parameter."""
        return [{"factors": row} for row in self.pack.rows]

    def decayed(self) -> list[dict[str, Tensor]]:
        """Return where weight decay acts on the factors of each point."""
        layers = self.pack.packed.items()
        parts = [layer.scales.new_full([layer.size], is_decayed(name)) for name, layer in layers]
        decayed = torch.cat(parts)
        return [
            {"factors": decayed if still is None else decayed * ~still} for still in self.pack.still
        ]

    def b_factors(self) -> list[dict[str, Tensor]]:
        """Return where the factors B are among the factors of each point."""
        parts = [layer.b_factors() for layer in self.pack.packed.values()]
        return [{"factors": torch.cat(parts)}] * len(self.pack.rows)

    def own(self, i: int, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state without what pads it to the highest rank of the pack."""
        places = self.pack.places(i)
        return _mapped(state, len(places), lambda row: row[places])

    def shared(self, i: int, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state padded with zeros to the highest rank of the pack."""
        places = self.pack.places(i)

        def padded(own: Tensor) -> Tensor:
            row = own.new_zeros(len(places))
            row[places] = own
            return row

        return _mapped(state, int(places.sum()), padded)

    def save(
        self,
        i: int,
        settings: TrainSettings,
        base: nn.Module,
        folder: Path,
        elements: list[str],
        notes: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the adapter of one point, and return its spectra."""
        model = self.pack.dissolve(i)
        note(model, "lora_injection", injection_of(settings))
        save_adapter(model, folder, _e0s_of(model, elements), **notes)
        return spectra(take_adapters(model).items())


class Single(Trainee):
    """One model, all or some of whose weights train; or adapters and whole modules beside them.

    Args:
        model: Its parameters that ask for a gradient are trained.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], points: list[int], **options: Any
    ) -> list[dict[str, Tensor]]:
        """Return what MACE computes for one batch; `points` is always [0]."""
        return self.held([self.model(batch, **options)], options.get("training", False))

    def changes(self) -> Iterable[tuple[str, Tensor]]:
        """Return the changes of the adapted weights by layer; whole modules beside are left out."""
        return ((name, layer.delta()[None]) for name, layer in lora_layers(self.model))

    def trained(self) -> list[dict[str, nn.Parameter]]:
        """Return the weights that train."""
        return [{n: p for n, p in self.model.named_parameters() if p.requires_grad}]

    def decayed(self) -> list[dict[str, Tensor]]:
        """Return the weights that decay."""
        (trained,) = self.trained()
        moves = {
            f"{n}.{k}": ~x
            for n, layer in lora_layers(self.model)
            if layer.frozen
            for k, x in layer.still().items()
        }
        return [{n: p.new_ones(()) * moves.get(n, 1) for n, p in trained.items() if is_decayed(n)}]

    def b_factors(self) -> list[dict[str, Tensor]]:
        """Return the factors B of adapters."""
        layers = lora_layers(self.model)
        factors = {f"{n}.{k}": x.get_parameter(k) for n, x in layers for k in x.b_factors}
        return [{name: factor.new_ones(()) for name, factor in factors.items()}]

    def save(
        self,
        i: int,
        settings: TrainSettings,
        base: nn.Module,
        folder: Path,
        elements: list[str],
        notes: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the weights that were trained, or adapters and whole modules beside them."""
        model = unfuse(self.model)
        if settings.method in ADAPTERS:
            save_adapter(model, folder, _e0s_of(model, elements), **notes)
            return spectra(lora_layers(model))
        model = from_kernel(model, "cueq") if settings.enable_cueq else model.cpu()
        choose_weights(model, settings)  # a converted model has lost which weights train
        save_weights(model, base, folder, _e0s_of(model, elements), **notes)
        return {}


def make_trainee(
    model: nn.Module,
    settings: list[TrainSettings],
    starts: Sequence[Start | None] = (),
    hold: Hold | None = None,
) -> tuple[Trainee, list[tuple[int, int]]]:
    """Prepare a model to train some points at once.

    Args:
        model: The foundation model, trimmed, with its new E0s; changed in place.
        settings: Resolved settings of each point.
        starts: Of each point, what puts its adapters at their start; None for a random one.
        hold: What is asked, of the model with adapters that change nothing, how to hold them.

    Returns:
        What trains, and of each point the numbers of (trainable, all) parameters.
    """
    fuse(model)
    layers, counted, elastic = [], [], None
    for one, start in itertools.zip_longest(settings, starts):
        prepare(model, one)
        if hold and not elastic:  # the points of a pack adapt the same layers
            elastic = hold(model)
        if start:
            start(model)
        counted.append(count_parameters(model))
        if one.method not in ADAPTERS or one.targets.modules_to_save:
            return _held(Single(model), elastic), counted  # `common` saw to it that it is alone
        layers.append(take_adapters(model))
    pack = Pack(model, layers).to(next(model.parameters()).device)
    fold(pack.model)
    return _held(AdapterPack(pack), elastic), counted


def _held(trainee: Trainee, elastic: Elastic | None) -> Trainee:
    """Return a trainee whose weights are held."""
    trainee.elastic = elastic
    return trainee


def _mapped(state: Any, size: int, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a state with a change of every tensor of parameters, which have that size."""
    if isinstance(state, dict):
        return {key: _mapped(x, size, change) for key, x in state.items()}
    if isinstance(state, list):
        return [_mapped(x, size, change) for x in state]
    return change(state) if isinstance(state, Tensor) and state.shape == (size,) else state


def _e0s_of(model: nn.Module, elements: list[str]) -> dict[str, float]:
    """Return the E0s (eV) of some elements."""
    return {x: get_e0s(model)[x] for x in elements}

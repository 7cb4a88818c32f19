"""Foundation models on other kernels: cuEquivariance and OpenEquivariance, and back.

Convert the base first and inject then: adapters are the same for all kernels, and nothing is
dropped.  For the way back merge first.  MACE's own converters do the work; this module checks that
they lost nothing.
"""

import copy

import torch
from torch import nn

from lora.errors import UserError
from lora.mace.contraction import path_weights
from lora.mace.door import Untyped, default_dtype, is_cueq, o3, upstream
from lora.mace.elements import elements
from lora.mace.modules import irreps_of
from lora.mace.origin import NOTE, changed, note, noted, origin_of, pass_on
from lora.mace.predict import on_cluster

MODULES = {"cueq": "cuequivariance_torch", "oeq": "openequivariance"}
PACKAGES = {
    "cueq": "cuequivariance-torch, and on a GPU cuequivariance-ops-torch-cu12",
    "oeq": "openequivariance",
}
AGREE = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative, of a conversion
ROUNDED = 1e-7  # the same in float64, for a model whose couplings were rounded to float32


def to_kernel(model: nn.Module, kernel: str, device: str = "cpu") -> nn.Module:
    """Return a copy of an e3nn model that runs on other kernels.

    Args:
        model: A MACE model without adapters.
        kernel: "cueq" or "oeq".
        device: The device of the copy.

    Raises:
        ValueError: The model holds adapters (convert first, then inject).
        UserError: The kernels are not installed, or MACE cannot convert this model.
    """
    _no_adapters(model, "convert the base first, then inject")
    try:
        upstream(MODULES[kernel])
    except ImportError as error:
        raise UserError(
            f"{kernel}: its kernels are not installed ({error}); pip install {PACKAGES[kernel]}"
        ) from None
    source: Untyped = copy.deepcopy(model)
    source.use_reduced_cg = _reduced(source)
    out: Untyped = _convert(f"mace.cli.convert_e3nn_{kernel}", source, device)
    for product, old in zip(out.products, source.products, strict=True):
        contraction = product.symmetric_contractions
        if is_cueq(contraction):
            contraction.path_weights = path_weights(old.symmetric_contractions)
            projection = _projection(contraction) if source.use_reduced_cg else None
            weight = contraction.weight
            contraction.from_reduced = None if projection is None else projection.to(weight)
    _check(source.to(device), out, kernel)
    converted: nn.Module = out
    return converted


def from_kernel(model: nn.Module, kernel: str) -> nn.Module:
    """Return a copy of a model on `kernel` as an e3nn model on the CPU; the reverse of `to_kernel`.

    Args:
        model: What `to_kernel` returned.
        kernel: "cueq" or "oeq".

    Raises:
        ValueError: The model holds adapters (merge first, then convert).
        UserError: MACE cannot convert this model.
    """
    _no_adapters(model, "merge first, then convert")
    source = copy.deepcopy(model).cpu()
    out = _convert(f"mace.cli.convert_{kernel}_e3nn", source, "cpu")
    _check(source, out, kernel)
    return out


def rounded(model: nn.Module) -> bool:
    """Return True if the coupling coefficients are those of a model that was made in float32.

    Converted to float64 they keep float32's digits; cuEquivariance computes its own.

    Args:
        model: A MACE model.
    """
    tables = [b for name, b in model.named_buffers() if name.endswith(("U_matrix_2", "U_matrix_3"))]
    return any(bool((b == b.float()).all()) for b in tables)


def _no_adapters(model: nn.Module, advice: str) -> None:
    if any(getattr(module, "is_adapter", False) for module in model.modules()):
        raise ValueError(f"the model holds LoRA layers: {advice}")


def _convert(module: str, source: nn.Module, device: str) -> nn.Module:
    dtype = next(source.parameters()).dtype
    try:
        with default_dtype(dtype):  # the converters set torch's global and leave it so
            out: nn.Module = upstream(module).run(source, device=device, return_model=True)
    except KeyError:
        raise UserError(f"{type(source).__name__}: MACE converts ScaleShiftMACE only") from None
    if (before := noted(source)) is not None and changed(source, before):
        note(out, NOTE, before)  # trained since, which the weights of the copy show as well
    else:
        pass_on(origin_of(source), out)
    return out.to(device).eval()


def _reduced(model: Untyped) -> bool:
    """Return True if the couplings are cuEquivariance's reduced ones; the model's flag may lie.

    A model that asked for them where cuEquivariance was missing has the others.
    """
    if not getattr(model, "use_reduced_cg", False):
        return False
    contraction = model.products[0].symmetric_contractions
    part, order = contraction.contractions[0], contraction.contractions[0].correlation
    couplings = upstream("mace.tools.cg").U_matrix_real(
        irreps_in=part.coupling_irreps,
        irreps_out=o3.Irreps(str(contraction.irreps_out[0].ir)),
        correlation=order,
        use_cueq_cg=True,
    )[-1]
    return bool(couplings.shape[-1] == part.U_tensors(order).shape[-1])


def _projection(contraction: Untyped) -> torch.Tensor:
    """Return the matrix from MACE's reduced couplings to cuEquivariance's, [n_paths, n_paths]."""
    cue = upstream("cuequivariance")
    group = upstream("mace.tools.cg").O3_e3nn
    single = ["+".join(str(ir.ir) for ir in x) for x in irreps_of(contraction)]
    projection = upstream("mace.tools.cg_cueq_tools").symmetric_contraction_proj(
        *(cue.Irreps(group, x) for x in single),
        list(range(1, contraction.contraction_degree + 1)),
    )[1]
    return torch.tensor(projection)


def _check(before: nn.Module, after: nn.Module, kernel: str) -> None:
    """Compare the models: the converters pass over what they do not recognise."""
    a, b = on_cluster(before, elements(before)), on_cluster(after, elements(after))
    dtype = next(before.parameters()).dtype
    bound = ROUNDED if dtype == torch.float64 and rounded(before) else AGREE[dtype]
    for key, value in a.items():
        difference = (value - b[key]).abs().max() / value.abs().max().clamp_min(1e-3)
        if not difference <= bound:
            raise UserError(
                f"{kernel}: the converted model's {key} differ by {difference:.1e} of their size; "
                "MACE cannot convert this model, run it without enable_cueq"
            )

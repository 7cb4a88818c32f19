"""Which weights of a MACE model `mace_run_train` trains, and which of them it decays."""

from torch import nn

# the parts whose weights its optimiser moves; others, as Bessel frequencies, stay what they are
PARTS: tuple[str, ...] = ("node_embedding", "interactions", "products", "readouts")
PARTS += ("joint_embedding", "embedding_readout")
DECAYED = ("linear.weight", "skip_tp_full.weight")  # of the interactions


def let_train(model: nn.Module, frozen: tuple[str, ...] = ()) -> None:
    """Let the weights train that `mace_run_train` trains, and no others; in place.

    Args:
        model: A MACE model.
        frozen: Parts that do not train.
    """
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        parameter.requires_grad_(part in PARTS and part not in frozen)


def is_decayed(name: str) -> bool:
    """Return True for a weight that weight decay acts on.

    As in `mace_run_train`: `linear` and `skip_tp_full` of the interactions, and all of the
    products.  So of adapters those of the products alone.

    Args:
        name: The name of a weight, or of a layer's adapter, in a MACE model.
    """
    part = name.partition(".")[0]
    return part == "products" or (part == "interactions" and any(x in name for x in DECAYED))

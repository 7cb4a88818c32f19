"""One step of the optimisers of all points of a pack, each operator for all of them at once.

The same arithmetic as clipping, torch.optim.Adam and the moving average of one point after the
other (Kingma and Ba, arXiv 1412.6980; AMSGrad: Reddi et al., arXiv 1904.09237):

    g <- g min(1, c / |g|)
    m <- m + (1 - b1) (g - m)
    v <- b2 v + (1 - b2) g g
    p <- p - lr / (1 - b1^t) m / (sqrt(max v / (1 - b2^t)) + eps)

With lr_ratio_b, lr is as many times larger for the factors B (LoRA+: Hayou et al., arXiv
2402.12354).
A point has one flat parameter, so that a step of K points is some twenty operators on lists of K
tensors, in place of as many for each; on a GPU each is one launch.  Moments and averages stay
where torch and torch_ema keep them: checkpoints do not know who went together.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora.training.state import TrainingState

Rows = list[Tensor]


def step_together(points: Sequence[TrainingState]) -> None:
    """Take one step of the optimisers of several points, with the gradients at hand.

    Args:
        points: The points, on which the loss has been differentiated.
    """
    kinds = {point.settings.amsgrad for point in points}
    if len(points) == 1 or len(kinds) > 1 or not all(_is_plain(point) for point in points):
        for point in points:
            point.step()
        return
    with torch.no_grad():
        gradients = _clipped(points)
        _adam(points, gradients)
        _average(points)


def _is_plain(point: TrainingState) -> bool:
    """Return True for a point of one parameter whose first step has made the moments."""
    if len(point.trained) != 1 or point.settings.weight_decay or not point.settings.clip_grad:
        return False
    (parameter,) = point.trained.values()
    return parameter.grad is not None and bool(point.optimizer.state.get(parameter))


def _parameter(point: TrainingState) -> nn.Parameter:
    return next(iter(point.trained.values()))


def _clipped(points: Sequence[TrainingState]) -> Rows:
    """Return the gradients, none longer than its point allows."""
    gradients = [grad for point in points if (grad := _parameter(point).grad) is not None]
    norms = torch.stack(list(torch._foreach_norm(gradients)))  # [K]
    longest = norms.new_tensor([point.settings.clip_grad for point in points])
    factors = (longest / (norms + 1e-6)).clamp(max=1.0)
    return list((torch.stack(gradients) * factors[:, None]).unbind())


def _adam(points: Sequence[TrainingState], gradients: Rows) -> None:
    """Move the parameters."""
    states: list[dict[str, Any]] = [p.optimizer.state[_parameter(p)] for p in points]
    groups = [point.optimizer.param_groups[0] for point in points]
    betas, second = [g["betas"][0] for g in groups], groups[0]["betas"][1]
    steps = []
    for point, state in zip(points, states, strict=True):
        state["step"] += 1
        steps.append(float(state["step"]))
        vars(point.optimizer)["_opt_called"] = True  # a schedule warns of steps it did not see
    first = [state["exp_avg"] for state in states]
    squares = [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(first, gradients, [1 - beta for beta in betas])
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
    highest = squares
    if groups[0]["amsgrad"]:
        highest = [state["max_exp_avg_sq"] for state in states]
        torch._foreach_maximum_(highest, squares)
    scale = torch._foreach_sqrt(highest)
    torch._foreach_div_(scale, [(1 - second**step) ** 0.5 for step in steps])
    torch._foreach_add_(scale, groups[0]["eps"])
    rates = [
        -group["lr"] / (1 - beta**step)
        for group, beta, step in zip(groups, betas, steps, strict=True)
    ]
    moves = [_paced(point, moment) for point, moment in zip(points, first, strict=True)]
    torch._foreach_addcdiv_([_parameter(point) for point in points], moves, scale, rates)


def _paced(point: TrainingState, moment: Tensor) -> Tensor:
    """Return a moment, larger by `lr_ratio_b` where that multiplies the learning rate."""
    for ratio in point.ratios.values():
        return ratio * moment
    return moment


def _average(points: Sequence[TrainingState]) -> None:
    """Move the averages towards the parameters: a <- a - (1 - d) (a - p)."""
    shadows: Rows = []
    parameters: Rows = []
    shares: list[float] = []
    for point in points:
        if point.ema is None:
            continue
        decay = point.ema.decay
        if point.ema.num_updates is not None:
            point.ema.num_updates += 1
            n = point.ema.num_updates
            decay = min(decay, (1 + n) / (10 + n))
        shadows += point.ema.shadow_params
        parameters.append(_parameter(point))
        shares.append(1.0 - decay)
    if shadows:
        gaps = torch._foreach_sub(shadows, parameters)
        torch._foreach_mul_(gaps, shares)
        torch._foreach_sub_(shadows, gaps)

"""Models that answer together answer as each does alone; threads ask together and end together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from lora.calculators.company import Company, together
from lora.calculators.joined import Joined
from lora.calculators.potential import Potential, Together
from tests.support import counts
from tests.support.models import BASE, ONE_HEAD, Case, make_model, structures

KNOWN = [1, 6, 7, 8]


def files(folder: Path, case: Case, change: Callable[[torch.nn.Module, int], None]) -> list[Path]:
    """Three models of one kind, the second and third changed."""
    out = []
    for i in range(3):
        model = make_model(case)
        if i:
            with torch.no_grad():
                change(model, i)
        out.append(folder / f"{i}.model")
        torch.save(model, out[-1])
    return out


def everything(model: torch.nn.Module, i: int) -> None:
    """What full fine-tuning changes, and more: all weights, E0s, scale, frequencies."""
    for parameter in model.parameters():
        parameter.mul_(1 + 0.1 * i * torch.rand_like(parameter))
    model.atomic_energies_fn.atomic_energies.sub_(0.3 * i)
    if hasattr(model, "scale_shift"):
        model.scale_shift.scale.mul_(1.1)


def linears(model: torch.nn.Module, i: int) -> None:
    """What LoRA changes."""
    for name, parameter in model.named_parameters():
        if "linear" in name and name.endswith("weight"):
            parameter.mul_(1 + 0.1 * i * torch.rand_like(parameter))


def each(models: list[Path]) -> list[Potential]:
    return [Potential(file, KNOWN) for file in models]


def alone(models: list[Potential], asked: list[list[Atoms]]) -> list[tuple]:
    return [model(atoms) for model, atoms in zip(models, asked, strict=True)]


def furthest(found: list[tuple], expected: list[tuple]) -> float:
    worst = 0.0
    for (e, f), (e0, f0) in zip(found, expected, strict=True):
        assert e.shape == e0.shape and [x.shape for x in f] == [x.shape for x in f0]
        worst = max(
            [worst, *abs(e - e0), *(np.abs(a - b).max() for a, b in zip(f, f0, strict=True))]
        )
    return worst


ROWS = counts.covering(ONE_HEAD, [everything, linears])


@pytest.mark.long
@pytest.mark.parametrize(("case", "change"), ROWS, ids=[f"{x.name}-{y.__name__}" for x, y in ROWS])
def test_each_answers_as_it_does_alone(case: Case, change: Callable, tmp_path: Path) -> None:
    """Of other numbers of structures, atoms and edges each, and twice, the atoms moved."""
    models = files(tmp_path, case, change)
    some = structures()
    asked = [some[:2], some[1:5], some[3:]]
    joint, single = each(models), each(models)
    company = Together(joint)
    # its blocks have weights of their own, which act on no row by itself
    apart = case.name == "nonlinear" and change is everything
    assert len(company.passes) == (3 if apart else 1)
    for turn in range(2):
        for atoms in some:
            atoms.rattle(0.05 * turn, seed=turn)
        expected = alone(single, asked)
        found = company.run(lambda one: one(asked[joint.index(one)]))
        assert furthest(found, expected) < 1e-9
    assert furthest(found[:1], alone(single[1:2], asked[:1])) > 1e-4


def test_models_of_two_kinds_answer_one_by_one(tmp_path: Path) -> None:
    some, models = structures()[:3], []
    for i, case in enumerate((BASE, replace(BASE, name="other", channels=6))):
        models.append(tmp_path / f"{i}.model")
        torch.save(make_model(case), models[-1])
    joint = each(models)
    company = Together(joint)
    assert len(company.passes) == 2
    found = company.run(lambda one: one(some))
    assert furthest(found, alone(each(models), [some, some])) < 1e-9


def test_where_neighbours_beyond_the_cutoff_count_each_answers_alone(tmp_path: Path) -> None:
    """MACE's non-linear blocks with `apply_cutoff`, its default."""
    case = replace(next(x for x in ONE_HEAD if x.name == "nonlinear"), apply_cutoff=True)
    models, some = files(tmp_path, case, linears), structures()
    asked = [some[:2], some[1:5], some[3:]]
    joint = each(models)
    company = Together(joint)
    assert len(company.passes) == 3
    found = company.run(lambda one: one(asked[joint.index(one)]))
    assert furthest(found, alone(each(models), asked)) < 1e-9


def test_a_molecule_far_from_the_origin_takes_no_more_memory(tmp_path: Path) -> None:
    """MACE's grid of neighbours reaches from the origin: at 5,000 Å it would take terabytes."""
    torch.save(make_model(), tmp_path / "0.model")
    near = next(x for x in structures() if not x.pbc.any())
    far = near.copy()
    far.positions += [5000.0, -3000.0, 0.0]
    found = [each([tmp_path / "0.model"])[0]([x]) for x in (near, far)]
    assert furthest(found[:1], found[1:]) < 1e-9


def test_what_cannot_be_joined_is_refused() -> None:
    """Another number in a block, and a tensor of a block whose rows depend on each other."""
    models = [make_model(BASE) for _ in range(3)]
    models[1].interactions[0].avg_num_neighbors *= 2
    with pytest.raises(ValueError, match="models are not of one kind"):
        Joined(models[:2])
    for i, model in enumerate(models):
        model.interactions[0].register_buffer("own", torch.tensor(1.0 * i))
    with pytest.raises(ValueError, match=r"models differ in interactions\.0\.own, which"):
        Joined(models[::2])


# --- threads


def test_questions_of_all_are_answered_at_once() -> None:
    seen: list[list[int]] = []

    def answer(questions: list[int]) -> list[int]:
        seen.append(questions)
        return [x + 100 for x in questions]

    company = Company(answer)

    def work(i: int) -> list[int]:
        first = company.ask(i)  # 0, 1, 2
        parts = [lambda j=j: company.ask(10 * i + j) for j in range(2 if i else 0)]
        return [first, *together(parts), *([company.ask(50)] if i == 2 else [])]

    assert company.run([lambda i=i: work(i) for i in range(3)]) == [
        [100],
        [101, 110, 111],
        [102, 120, 121, 150],
    ]
    assert seen == [[0, 1, 2], [10, 11, 20, 21], [50]]
    assert together([lambda: 1, lambda: 2]) == [1, 2]  # outside: one after the other


@pytest.mark.parametrize("where", ["work", "part", "answer"])
def test_an_error_ends_all_threads_and_is_raised(where: str) -> None:
    import threading

    def answer(questions: list[int]) -> list[int]:
        if where == "answer" and 2 in questions:
            raise KeyError("answer")
        return questions

    company = Company(answer)

    def fail() -> None:
        company.ask(7)
        if where == "part":
            raise KeyError("part")

    def work(i: int) -> None:
        for turn in range(5):
            company.ask(turn)
            if i == 1 and where == "work":
                raise KeyError("work")
            if i == 2:
                together([fail, fail])

    before = threading.active_count()
    with pytest.raises(KeyError, match=where):
        company.run([lambda i=i: work(i) for i in range(4)])
    for thread in threading.enumerate()[before:]:
        thread.join(10)
    assert threading.active_count() == before
    assert company.run([lambda: company.ask(1)]) == [1]  # and it can be used again

"""Scores of atoms by what the training set says of their features."""

import json

import numpy as np
import pytest

from lora.data.rigidity import RIDGE, Rigidity


def test_scores_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    train, new = rng.normal(size=(200, 6)), rng.normal(size=(5, 6))
    made = Rigidity.of([train[:80], train[80:]])
    gram = train.T @ train
    inverse = np.linalg.inv(gram + RIDGE * np.trace(gram) / 6 * np.eye(6))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", new, inverse, new))
    assert made.scores(new) == pytest.approx(expected, rel=1e-10)
    assert (made.scores(train) ** 2).sum() == pytest.approx(6, rel=1e-6)  # leverages
    assert made.scores(3 * new) == pytest.approx(3 * expected)


def test_a_direction_that_training_never_saw_scores_high() -> None:
    rng = np.random.default_rng(1)
    train = rng.normal(size=(200, 6)) * [1, 1, 1, 1, 1, 0]
    made = Rigidity.of([train])
    usual, strange = made.scores(np.eye(6)[[0, 5]])
    assert strange > 1e3 * usual and np.isfinite(strange)
    assert np.isfinite(Rigidity.of([np.zeros((3, 2))]).scores(np.ones((1, 2)))).all()
    assert np.isfinite(Rigidity.of([rng.normal(size=(2, 6))]).scores(train)).all()  # few atoms


def test_a_file_gives_the_same_scores() -> None:
    rng = np.random.default_rng(2)
    made, new = Rigidity.of([rng.normal(size=(50, 7))]), rng.normal(size=(4, 7))
    read = Rigidity.from_dict(json.loads(json.dumps(made.to_dict())))
    assert (read.scores(new) == made.scores(new)).all()

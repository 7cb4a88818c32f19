"""Farthest points: spread out, far from what is there, the same whenever they are asked for."""

import numpy as np

from lora.data.farthest import farthest

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [10.1], [5.0]])


def test_each_is_the_farthest_from_those_before() -> None:
    assert farthest(LINE, 4) == [4, 0, 5, 2]  # 10.1 from the mean, then the gaps in order
    chosen: list[int] = []
    points = np.random.default_rng(0).normal(size=(200, 3))
    for i in farthest(points, 20):
        if chosen:
            apart = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1)
            assert apart[i] == apart.max()
        chosen.append(i)
    assert len(set(chosen)) == 20


def test_what_is_chosen_already_counts() -> None:
    assert farthest(LINE, 2, start=np.array([[10.0], [0.0]])) == [5, 2]


def test_copies_of_chosen_ones_are_left() -> None:
    assert farthest(np.zeros((5, 2)), 3) == [0]
    assert farthest(np.zeros((5, 2)), 3, start=np.zeros((1, 2))) == []
    assert farthest(LINE, 100) == [4, 0, 5, 2, 1, 3]
    assert farthest(np.zeros((0, 2)), 3) == farthest(LINE, 0) == []

"""Choose a few vectors out of many, so that each is far from all that are chosen."""

import numpy as np


def farthest(vectors: np.ndarray, count: int, start: np.ndarray | None = None) -> list[int]:
    """Return the numbers of vectors, each the farthest from those before it.

    Every choice is the vector whose distance to the nearest chosen one is largest; of equal ones
    the first.  Vectors in the place of a chosen one are never taken, so there may be fewer than
    `count`.

    Args:
        vectors: What to choose from, [n, d].
        count: How many to choose.
        start: Vectors that are chosen already, [m, d]; without any, the vector farthest from the
            mean comes first.

    Returns:
        At most `count` numbers, in the order of their choice.
    """
    if not len(vectors) or count < 1:
        return []
    taken = vectors[:0] if start is None else start
    chosen = [] if len(taken) else [int(_squared(vectors, vectors.mean(axis=0)).argmax())]
    apart = np.full(len(vectors), np.inf)  # from the nearest that is taken
    for vector in (*taken, *vectors[chosen]):
        apart = np.minimum(apart, _squared(vectors, vector))
    while len(chosen) < count and apart.max() > 0:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, _squared(vectors, vectors[chosen[-1]]))
    return chosen


def _squared(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the squared distances of vectors, [n, d], from one, [d]."""
    found: np.ndarray = ((vectors - centre) ** 2).sum(axis=1)
    return found

"""Samples that the tests of figures share."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from lesion.metrics import Floats

Sample = tuple[np.ndarray, np.ndarray]
derandomized = settings(derandomize=True, deadline=None, max_examples=60)

# Few distinct scores, so that ties are the rule; both ends of [0, 1] among them.
pairs = st.tuples(st.integers(0, 8).map(lambda k: k / 8), st.booleans())
samples = st.lists(pairs, min_size=1, max_size=40).map(
    lambda items: (np.array([p for p, _ in items]), np.array([t for _, t in items]))
)
both = samples.filter(lambda sample: 0 < sample[1].sum() < len(sample[1]))
counts = st.integers(0, 3)


def one(values: Floats) -> float:
    assert values.shape == (1,)
    return float(values[0])


def study(n: int, copies: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Calibrated probabilities of `n` lesions with `copies` identical images each, and the lesions' ids."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    t = rng.random(n) < p
    return np.repeat(p, copies), np.repeat(t, copies), [f"L{i}" for i in range(n) for _ in range(copies)]

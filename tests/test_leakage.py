"""What 34 plain numbers tell of the label: not enough to tell attacks by them.

Instruments 1 (accesses 2, 4) are trained on, instruments 2 (3, 5) tested on, with other users and another session.
Figures: docs/simulator.md.
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from input_pipeline.simulate import render

SIZE = 64
LIMIT = 0.90


def plain_numbers(images):
    """Mean log power in 28 rings of the grey image's spectrum, mean and deviation of R, G and B: [n, 34]."""
    x = images.astype(np.float64) / 255.0
    grey = x.mean(-1)
    power = np.abs(np.fft.fftshift(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)), axes=(1, 2))) ** 2
    line = np.arange(images.shape[1]) - images.shape[1] // 2
    ring = (np.hypot(line, line[:, None]) * 28 / (images.shape[1] / 2)).astype(int)
    rings = [np.log(power[:, ring == k].mean(1) + 1e-8) for k in range(28)]
    return np.concatenate([np.stack(rings, 1), x.mean((1, 2)), x.std((1, 2))], 1)


def pictures(users, sessions, accesses):
    """Live pictures and attacks, two phones each, as numbers and labels."""
    grid = np.array(
        [(u, p, s, a) for u in users for s in sessions for p in ((u + s) % 3 + 1, (u + s) % 3 + 4) for a in accesses]
    )
    return plain_numbers(render(*grid.T, size=SIZE)), grid[:, 3]


@pytest.fixture(scope="module")
def sets():
    return pictures(range(1, 21), (1, 2), (1, 2, 4)), pictures(range(36, 56), (3,), (1, 3, 5))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seen", "unseen"), [("print", 2, 3), ("replay", 4, 5)])
def test_plain_numbers_hardly_tell_attacks(sets, name, seen, unseen):
    (train, seen_access), (test, unseen_access) = sets
    used, tested = np.isin(seen_access, (1, seen)), np.isin(unseen_access, (1, unseen))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores = model.fit(train[used], seen_access[used] == 1).decision_function(test[tested])
    assert roc_auc_score(unseen_access[tested] == 1, scores) <= LIMIT, name

"""How a run's score moves when one factor of a rendered face changes, and nothing else."""

from collections.abc import Mapping

import numpy as np
from scipy.special import logit

SMALLEST = 1e-6  # P(live) is at least so far from 0 and 1 where its logit is taken


def figures(scores: Mapping[tuple[str, str], np.ndarray], base: tuple[str, str], threshold: float) -> list[dict]:
    """Returns a row for each (factor, value) but `base`.

    scores: P(live) [n] of the same n live people with each value of each factor. A row has factor, value, mean and
    deviation of the difference of the logit from the value `base`, people (their number), bpcer, and flips: the share
    of decisions at `threshold` that differ from those of `base`.
    """
    before = scores[base]
    return [
        {"factor": factor, "value": value, **_moved(before, after, threshold)}
        for (factor, value), after in scores.items()
        if (factor, value) != base
    ]


def _moved(before: np.ndarray, after: np.ndarray, threshold: float) -> dict[str, float]:
    one, two = (logit(np.clip(scores, SMALLEST, 1 - SMALLEST)) for scores in (before, after))
    return {
        "mean": float((two - one).mean()),
        "deviation": float((two - one).std(ddof=1)),
        "people": len(before),
        "bpcer": float((after < threshold).mean()),
        "flips": float(((after >= threshold) != (before >= threshold)).mean()),
    }

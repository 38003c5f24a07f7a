"""Temperature scaling of a video's P(live): one number, fitted on dev, that makes a score mean what it says.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599) [S]. It moves
no video past another, so no ROC, EER or area changes. The scores that are stored, and the thresholds, stay those of
the model; `apply` is for whoever wants a probability.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

BINS = 10  # equally wide ones of P(live) [C]
BOUNDS = 0.05, 20.0  # of the temperature [C]: dev scores that no error parts would ask for zero, reversed ones for more
SMALLEST = 1e-7  # nearer to 0 and 1 an fp32 score says nothing


def apply(scores: Sequence[float], temperature: float) -> np.ndarray:
    """P(live) [n] as the model gives it -> calibrated: sigmoid(logit(score) / temperature)."""
    return expit(logit(np.clip(scores, SMALLEST, 1 - SMALLEST)) / temperature)


def fit(videos: pd.DataFrame) -> float:
    """The temperature, within `BOUNDS`, that minimises the NLL of `videos` (columns `score`, `label`; both classes).

    [C] Fitted to videos, not to frames: a decision is about a video, whose score is the mean of its frames'.
    """
    low, high = np.log(BOUNDS)  # convex in 1 / temperature, so there is one minimum
    return float(np.exp(minimize_scalar(lambda t: nll(videos, np.exp(t)), bounds=(low, high), method="bounded").x))


def nll(videos: pd.DataFrame, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood, in nats, of the labels under scores scaled by `temperature`; chance is 0.693."""
    return float(log_loss(videos["label"], apply(videos["score"], temperature), labels=[0, 1]))


def reliability(videos: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """One row for each of `BINS` bins that has videos: mean `score`, the share that is `live`, the `videos` in it."""
    scores = apply(videos["score"], temperature)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"score": scores, "live": videos["label"].to_numpy(), "videos": 1})
    return table.groupby(bins).agg({"score": "mean", "live": "mean", "videos": "sum"})


def ece(videos: pd.DataFrame, temperature: float = 1.0) -> float:
    """Expected calibration error: the bins' |mean score - share of live|, averaged over videos, in [0, 1].

    [C] Of P(live); Guo et al. bin the confidence of the predicted class, which folds 0 onto 1.
    """
    bins = reliability(videos, temperature)
    return float(np.average((bins["score"] - bins["live"]).abs(), weights=bins["videos"]))


def figures(videos: pd.DataFrame, temperature: float) -> dict[str, float]:
    """NLL and ECE of a split's scores as they are, and scaled by `temperature`."""
    return {
        "nll": nll(videos),
        "ece": ece(videos),
        "nll_calibrated": nll(videos, temperature),
        "ece_calibrated": ece(videos, temperature),
    }

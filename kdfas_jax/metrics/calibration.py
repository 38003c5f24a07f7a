"""Temperature scaling of a video's P(live): one temperature, fitted on dev, turns scores into probabilities.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599). Scaling keeps
the order of the videos, so ROC, EER and AUC do not change. Stored scores and thresholds refer to the uncalibrated
output of the model; call `apply` where a probability is needed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

BINS = 10  # bins of P(live), of equal width [C: our own choice]
# Range of the temperature [C]. Dev scores that separate the classes without error would push it to zero, and reversed
# scores to infinity.
BOUNDS = 0.05, 20.0
SMALLEST = 1e-7  # fp32 scores closer to 0 or 1 carry no information


def apply(scores: Sequence[float], temperature: float) -> np.ndarray:
    """Returns calibrated P(live) [n], sigmoid(logit(score) / temperature), from the model's `scores` [n]."""
    return expit(logit(np.clip(scores, SMALLEST, 1 - SMALLEST)) / temperature)


def fit(videos: pd.DataFrame) -> float:
    """Returns the temperature, within `BOUNDS`, that minimises the NLL of `videos`.

    `videos` has the columns `score` and `label` and holds both classes. [C] The fit is to videos, not to frames,
    because decisions are about videos; a video's score is the mean over its frames.
    """
    low, high = np.log(BOUNDS)  # the NLL is convex in 1 / temperature, so there is one minimum
    return float(np.exp(minimize_scalar(lambda t: nll(videos, np.exp(t)), bounds=(low, high), method="bounded").x))


def nll(videos: pd.DataFrame, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood, in nats, of the labels under scores scaled by `temperature`; chance is 0.693."""
    return float(log_loss(videos["label"], apply(videos["score"], temperature), labels=[0, 1]))


def reliability(videos: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """Reliability table: the mean `score`, the share of `live` and the number of `videos` of each non-empty bin."""
    scores = apply(videos["score"], temperature)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"score": scores, "live": videos["label"].to_numpy(), "videos": 1})
    return table.groupby(bins).agg({"score": "mean", "live": "mean", "videos": "sum"})


def ece(videos: pd.DataFrame, temperature: float = 1.0) -> float:
    """Expected calibration error in [0, 1]: |mean score - share of live| of a bin, averaged over videos.

    [C] The bins are of P(live). Guo et al. bin the confidence of the predicted class, which folds 0 onto 1.
    """
    bins = reliability(videos, temperature)
    return float(np.average((bins["score"] - bins["live"]).abs(), weights=bins["videos"]))


def figures(videos: pd.DataFrame, temperature: float) -> dict[str, float]:
    """NLL and ECE of a split, uncalibrated and calibrated by `temperature`."""
    return {
        "nll": nll(videos),
        "ece": ece(videos),
        "nll_calibrated": nll(videos, temperature),
        "ece_calibrated": ece(videos, temperature),
    }

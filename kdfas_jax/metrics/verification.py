"""Metrics of face verification, the decision whether two images show the same person. Fractions, not per cent.

Definitions as for LFW (Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of Massachusetts
Amherst, TR 07-49, 2007). Curves and areas come from scikit-learn. [C] marks our own choices.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from kdfas_jax.metrics import detection as metrics

FARS = (0.1, 0.01, 0.001)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the cosine similarity [n], in [-1, 1], of the rows of two arrays [n, d]; 0 for a row of zeros."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.maximum(lengths, np.finfo(np.float32).tiny)


def verification(scores: Sequence[float], same: Sequence[bool], folds: Sequence[int] | None = None) -> dict:
    """Verification metrics of n pairs of images.

    Args:
      scores: similarity of each pair [n], higher for the same person.
      same: whether a pair shows one person [n].
      folds: the fold of each pair [n], for cross-validated accuracy.

    Returns a dict:
      auc, eer: area under the ROC curve; equal error rate (`detection.eer_threshold`).
      accuracy: share of right decisions. With `folds`, each fold is judged at the threshold that is best on the other
        folds and the accuracies are averaged, as for LFW; otherwise the threshold is that of the EER [C].
      tar_at_far: {"0.1", "0.01", "0.001"}: share of same-person pairs accepted where at most this share of
        different-person pairs is accepted. A rate is left out with fewer than 1 / FAR different-person pairs.

    Raises ValueError where one kind of pair is missing (in all, or in all folds but one), or a score is not finite.
    """
    pairs = pd.DataFrame({"score": np.asarray(scores, float), "label": np.asarray(same, bool).astype(int)})
    _check(pairs, "verification")
    threshold, eer = metrics.eer_threshold(pairs)
    different = int((pairs["label"] == 0).sum())
    return {
        "auc": float(roc_auc_score(pairs["label"], pairs["score"])),
        "eer": eer,
        "accuracy": _right(pairs, threshold) if folds is None else _over_folds(pairs, np.asarray(folds)),
        "tar_at_far": {f"{far:g}": metrics.tpr_at_fpr(pairs, far) for far in FARS if different * far > 1 - 1e-9},
    }


def _over_folds(pairs: pd.DataFrame, folds: np.ndarray) -> float:
    accuracies = []
    for fold in np.unique(folds):
        others = pairs[folds != fold]
        _check(others, f"verification without fold {fold}")
        accuracies.append(_right(pairs[folds == fold], _best_threshold(others)))
    return float(np.mean(accuracies))


def _best_threshold(pairs: pd.DataFrame) -> float:
    """Returns the threshold with the most right decisions; the highest of equally good ones."""
    far, tpr, thresholds = roc_curve(pairs["label"], pairs["score"], drop_intermediate=False)
    same = pairs["label"].mean()
    return float(thresholds[np.argmax(same * tpr + (1 - same) * (1 - far))])


def _right(pairs: pd.DataFrame, threshold: float) -> float:
    return float(((pairs["score"] >= threshold) == (pairs["label"] == 1)).mean())


def _check(pairs: pd.DataFrame, what: str) -> None:
    if bad := int((~np.isfinite(pairs["score"])).sum()):
        raise ValueError(f"{what}: {bad} of {len(pairs)} scores are not finite; the embeddings are broken")
    if set(pairs["label"]) != {0, 1}:
        raise ValueError(
            f"{what}: found {int(pairs['label'].sum())} same-person pairs among {len(pairs)}; expected pairs of the "
            "same person and of different people; give both kinds"
        )

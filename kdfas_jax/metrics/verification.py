"""Face verification figures: two images, one score, one person or two. Fractions, not per cent.

Definitions as for LFW (Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of Massachusetts
Amherst, TR 07-49, 2007). Curves and areas come from scikit-learn.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from kdfas_jax.metrics import detection as metrics

FARS = (0.1, 0.01, 0.001)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of the rows of two arrays [n, d] -> [n], in [-1, 1]; 0 for a row of zeros."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.maximum(lengths, np.finfo(np.float32).tiny)


def verification(scores: Sequence[float], same: Sequence[bool], folds: Sequence[int] | None = None) -> dict:
    """The figures of `scores` [n], higher for the same person, of pairs that are of one person (`same` [n]) or not.

    auc, eer: area under the ROC; where the shares of wrongly accepted and wrongly rejected pairs come closest, their
        mean.
    accuracy: share of right decisions. With `folds` [n], those of each fold are taken at the threshold that is best on
        the others, and the folds averaged, as for LFW; without, all at the threshold of the EER [C].
    tar_at_far: {"0.1", "0.01", "0.001"}: share of same pairs accepted where at most so many different ones are; a rate
        for which there are fewer than 1 / FAR different pairs is left out.
    ValueError where only one kind of pair is there (in all, or in what a fold leaves), or a score is not finite.
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
    """The score from which on pairs are accepted with the most right decisions; the highest of equally good ones."""
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
            f"{what}: expected pairs of the same person and of different ones, got {int(pairs['label'].sum())} of the "
            f"same among {len(pairs)}; give both kinds"
        )

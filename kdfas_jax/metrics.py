"""Presentation attack detection figures of scored videos. Definitions: EVALUATION in docs/methods.md.

Score = P(live); a video is accepted as bona fide when score >= threshold. Fractions, not per cent. Curves and areas
come from scikit-learn; ours are the attack-species maximum (ISO/IEC 30107-3) and the bootstrap over subjects.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

LIVE = "live"
BOOTSTRAP = 1000


def check(videos: pd.DataFrame, what: str) -> None:
    """Raises ValueError unless `videos` (columns `video, subject, species, label, score`) can be evaluated."""
    labels = set(videos["label"])
    if labels != {0, 1}:
        missing = " and ".join(name for name, label in (("bona fide", 1), ("attack", 0)) if label not in labels)
        raise ValueError(f"{what}: no {missing} video to evaluate among {len(videos)}; check the protocol and the data")
    if bad := videos.loc[~np.isfinite(videos["score"]), "video"].tolist():
        raise ValueError(f"{what}: {len(bad)} scores are not finite, first: {bad[0]}; the model's output is broken")


def eer_threshold(videos: pd.DataFrame) -> tuple[float, float]:
    """-> (threshold, EER): where the share of accepted attacks and of rejected bona fide come closest.

    The EER is their mean there. Every distinct score is tried (scikit-learn's default drops some), and the first
    point of the curve, at +inf, is never returned. All thresholds between two neighbouring scores decide alike here;
    the middle one is returned [C], so that on another split neither kind is favoured.
    """
    far, tpr, scores = roc_curve(videos["label"], videos["score"], drop_intermediate=False)
    best = 1 + int(np.argmin(np.abs(far - (1 - tpr))[1:]))
    score, below = float(scores[best]), float(scores[min(best + 1, len(scores) - 1)])
    middle = (score + below) / 2
    return middle if middle > below else score, float((far[best] + 1 - tpr[best]) / 2)


def at_threshold(videos: pd.DataFrame, threshold: float) -> dict:
    """APCER per PAI species and their maximum, BPCER, ACER, HTER, and the pooled APCER, at a fixed threshold.

    ACER = (max APCER + BPCER) / 2 (ISO/IEC 30107-3); HTER = (FAR + FRR) / 2 with FAR over all attacks pooled.
    """
    accepted = videos["score"] >= threshold
    attack = videos["label"] == 0
    apcer = accepted[attack].groupby(videos.loc[attack, "species"]).mean()
    pooled, bpcer = float(accepted[attack].mean()), float((~accepted[~attack]).mean())
    return {
        "apcer": {species: float(value) for species, value in apcer.items()},
        "apcer_max": float(apcer.max()),
        "bpcer": bpcer,
        "acer": float(apcer.max() + bpcer) / 2,
        "hter": (pooled + bpcer) / 2,
        "apcer_pooled": pooled,
    }


def bpcer_at_apcer(videos: pd.DataFrame, apcer: float) -> float:
    """BPCER at the lowest threshold at which no species' APCER exceeds `apcer` (BPCER10 is `apcer=0.1`)."""
    attacks = videos[videos["label"] == 0]
    threshold = max(_lowest_threshold(group["score"].to_numpy(), apcer) for _, group in attacks.groupby("species"))
    return float((videos.loc[videos["label"] == 1, "score"] < threshold).mean())


def _lowest_threshold(attack_scores: np.ndarray, apcer: float) -> float:
    allowed = int(np.floor(apcer * len(attack_scores) + 1e-9))  # 0.1 x 30 is 3 attacks, not 2.9999
    if allowed >= len(attack_scores):
        return -np.inf
    return float(np.nextafter(np.sort(attack_scores)[::-1][allowed], np.inf))


def tpr_at_fpr(videos: pd.DataFrame, fpr: float) -> float:
    """Share of bona fide accepted where at most `fpr` of all attacks are."""
    far, tpr, _ = roc_curve(videos["label"], videos["score"], drop_intermediate=False)
    return float(tpr[far <= fpr].max())


def figures(videos: pd.DataFrame, threshold: float) -> dict:
    """Every figure of one split that results.json carries, at `threshold` where the figure depends on one."""
    fixed = at_threshold(videos, threshold)
    fixed.pop("apcer_pooled")
    return fixed | {
        "eer": eer_threshold(videos)[1],
        "auc": float(roc_auc_score(videos["label"], videos["score"])),
        "bpcer10": bpcer_at_apcer(videos, 0.10),
        "bpcer20": bpcer_at_apcer(videos, 0.05),
        "bpcer100": bpcer_at_apcer(videos, 0.01),
        "tpr_at_fpr1": tpr_at_fpr(videos, 0.01),
        "counts": {
            "videos": len(videos),
            "subjects": _people(videos).nunique(),
            **{species: int(n) for species, n in videos["species"].value_counts().sort_index().items()},
        },
    }


def literature(videos: pd.DataFrame, threshold: float) -> dict:
    """What most papers print, for comparison only: APCER pooled over species, HTER at the test set's own EER."""
    fixed = at_threshold(videos, threshold)
    return {
        "apcer_pooled": fixed["apcer_pooled"],
        "acer_pooled": (fixed["apcer_pooled"] + fixed["bpcer"]) / 2,
        "hter_test_eer": at_threshold(videos, eer_threshold(videos)[0])["hter"],
    }


def confidence(videos: pd.DataFrame, threshold: float, seed: int = 0) -> Mapping[str, list[float]]:
    """95 % percentile intervals by bootstrap over subjects -> {figure: [low, high]}.

    Videos of one person are not independent, so persons are drawn with replacement, not videos. Draws that miss a
    class are passed over; with a single subject there is nothing to draw from and the result is empty.
    """
    subjects, which = np.unique(_people(videos), return_inverse=True)
    if len(subjects) < 2:
        return {}
    draws = np.random.default_rng(seed).multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), BOOTSTRAP)
    weights = draws[:, which].astype(float)  # [draw, video]: how often the draw holds the video
    label, accepted = videos["label"].to_numpy(), (videos["score"] >= threshold).to_numpy()
    weights = weights[(weights @ label > 0) & (weights @ (1 - label) > 0)]

    def share(event: np.ndarray, among: np.ndarray) -> np.ndarray:
        size = weights @ among
        return np.divide(weights @ (event & among), size, out=np.zeros(len(weights)), where=size > 0)

    species = videos["species"].to_numpy()
    apcer_max = np.max([share(accepted, species == name) for name in np.unique(species[label == 0])], axis=0)
    bpcer = share(~accepted, label == 1)
    hter = (share(accepted, label == 0) + bpcer) / 2
    _, rank = np.unique(videos["score"], return_inverse=True)
    auc = [_area(rank, row * label, row * (1 - label)) for row in weights]
    rows = {"apcer_max": apcer_max, "bpcer": bpcer, "acer": (apcer_max + bpcer) / 2, "hter": hter, "auc": auc}
    return {name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in rows.items()}


def _people(videos: pd.DataFrame) -> pd.Series:
    """Who is in each video: the same subject number in two data sets is two people."""
    return videos["dataset"] + " " + videos["subject"] if "dataset" in videos else videos["subject"]


def _area(rank: np.ndarray, live: np.ndarray, attack: np.ndarray) -> float:
    """Area under the ROC of weighted videos, the Mann-Whitney way; `rank` numbers the distinct scores upwards.

    scikit-learn gives the same figure (a test holds them together) a hundred times slower, and a bootstrap needs many.
    """
    live, attack = np.bincount(rank, live), np.bincount(rank, attack)
    below = np.cumsum(attack) - attack / 2
    return float(live @ below / (live.sum() * attack.sum()))

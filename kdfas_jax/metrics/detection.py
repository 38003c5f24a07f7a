"""Presentation attack detection figures of scored videos. Definitions: Figures in docs/methods.md.

Score = P(live); a video is accepted as bona fide when score >= threshold. Fractions, not per cent. Curves and areas
come from scikit-learn; ours are the attack-species maximum (ISO/IEC 30107-3) and the bootstrap over subjects.
`videos` is a table with one row a video, its columns `video, subject, species, label, score`; where a figure needs
both classes or finite scores, ValueError says what is missing.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

LIVE = "live"
BOOTSTRAP = 1000
BPCER_AT = {"bpcer10": 0.10, "bpcer20": 0.05, "bpcer100": 0.01}  # figure -> the APCER at which it is taken
OPERATING_POINTS = {"apcer10": 0.10, "apcer5": 0.05, "apcer1": 0.01}  # name -> the APCER that dev may reach


def check(videos: pd.DataFrame, what: str) -> None:
    """Raises ValueError, which names `what` was to be evaluated, unless both classes are there with finite scores."""
    labels = set(videos["label"])
    if labels != {0, 1}:
        missing = " and ".join(name for name, label in (("bona fide", 1), ("attack", 0)) if label not in labels)
        raise ValueError(f"{what}: no {missing} video to evaluate among {len(videos)}; check the protocol and the data")
    if bad := videos.index[~np.isfinite(videos["score"])].tolist():
        first = videos["video"].get(bad[0]) if "video" in videos else f"row {bad[0]}"
        raise ValueError(f"{what}: {len(bad)} scores are not finite, first: {first}; the model's output is broken")


def roc(videos: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (share of attacks accepted, share of bona fide accepted, thresholds), every distinct score tried.

    scikit-learn's default drops some points, which moves an EER; the first threshold is +inf.
    """
    check(videos, "ROC")
    return roc_curve(videos["label"], videos["score"], drop_intermediate=False)


def eer_threshold(videos: pd.DataFrame) -> tuple[float, float]:
    """-> (threshold, EER): where the share of accepted attacks and of rejected bona fide come closest.

    The EER is their mean there. The first point of the curve, at +inf, is never returned. Of thresholds at which the
    shares are equally close, the highest counts [C]. All thresholds between two neighbouring scores decide alike here;
    the middle one is returned [C], so that on another split neither kind is favoured.
    """
    far, tpr, scores = roc(videos)
    bona_fide = int((videos["label"] == 1).sum())
    best = 1 + int(np.argmin(_gap(far, tpr, len(videos) - bona_fide, bona_fide)[1:]))
    score, below = float(scores[best]), float(scores[min(best + 1, len(scores) - 1)])
    middle = (score + below) / 2
    return middle if middle > below else score, float((far[best] + 1 - tpr[best]) / 2)


def _gap(far: np.ndarray, tpr: np.ndarray, attacks: float, bona_fide: float) -> np.ndarray:
    """|far - (1 - tpr)| times both numbers of videos: whole numbers, so that equal gaps compare as equal.

    Differences of the rounded shares themselves do not: |1/10 - 2/5| and |2/5 - 1/10| may differ in the last bit.
    """
    accepted, rejected = np.rint(far * attacks), bona_fide - np.rint(tpr * bona_fide)
    return np.abs(accepted * bona_fide - rejected * attacks)


def at_threshold(videos: pd.DataFrame, threshold: float) -> dict:
    """APCER per PAI species and their maximum, BPCER, ACER, HTER, and the pooled APCER, at a fixed threshold.

    ACER = (max APCER + BPCER) / 2 (ISO/IEC 30107-3); HTER = (FAR + FRR) / 2 with FAR over all attacks pooled.
    """
    check(videos, "figures at a threshold")
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


def threshold_at_apcer(videos: pd.DataFrame, apcer: float) -> float:
    """The lowest threshold at which no species' APCER exceeds `apcer`: just above the score of the last one allowed."""
    check(videos, f"threshold at APCER {apcer:g}")
    attacks = videos[videos["label"] == 0]
    return max(lowest_threshold(group["score"].to_numpy(), apcer) for _, group in attacks.groupby("species"))


def lowest_threshold(scores: np.ndarray, share: float) -> float:
    """The lowest threshold that at most a `share` of `scores` [n] reaches."""
    allowed = int(np.floor(share * len(scores) + 1e-9))  # 0.1 x 30 is 3 of them, not 2.9999
    if allowed >= len(scores):
        return -np.inf
    return float(np.nextafter(np.sort(scores)[::-1][allowed], np.inf))


def bpcer_at_apcer(videos: pd.DataFrame, apcer: float) -> float:
    """BPCER at the lowest threshold at which no species' APCER exceeds `apcer` (BPCER10 is `apcer=0.1`)."""
    threshold = threshold_at_apcer(videos, apcer)
    return float((videos.loc[videos["label"] == 1, "score"] < threshold).mean())


def tpr_at_fpr(videos: pd.DataFrame, fpr: float) -> float:
    """Share of bona fide accepted where at most `fpr` of all attacks are."""
    far, tpr, _ = roc(videos)
    return float(tpr[far <= fpr].max())


def figures(videos: pd.DataFrame, threshold: float) -> dict:
    """Every figure of one split that results.json carries, at `threshold` where the figure depends on one."""
    fixed = at_threshold(videos, threshold)
    fixed.pop("apcer_pooled")
    return fixed | {
        "eer": eer_threshold(videos)[1],
        "auc": float(roc_auc_score(videos["label"], videos["score"])),
        **{name: bpcer_at_apcer(videos, apcer) for name, apcer in BPCER_AT.items()},
        "tpr_at_fpr1": tpr_at_fpr(videos, 0.01),
        "counts": {
            "videos": len(videos),
            "subjects": _people(videos).nunique(),
            **{species: int(n) for species, n in videos["species"].value_counts().sort_index().items()},
        },
    }


def operating_points(dev: pd.DataFrame) -> dict[str, float]:
    """Thresholds from `dev` alone -> {'eer', 'apcer10', 'apcer5', 'apcer1'}: its EER, its APCER at most 10, 5, 1 %."""
    points = {name: threshold_at_apcer(dev, apcer) for name, apcer in OPERATING_POINTS.items()}
    return {"eer": eer_threshold(dev)[0], **points}


def at_points(videos: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """apcer_max, bpcer and acer of `videos` at each of the `operating_points` of another split."""
    kept = ("apcer_max", "bpcer", "acer")
    return {
        name: {key: value for key, value in at_threshold(videos, threshold).items() if key in kept}
        for name, threshold in thresholds.items()
    }


def breakdown(videos: pd.DataFrame, groups: pd.DataFrame, threshold: float) -> dict[str, dict[str, dict]]:
    """Error rates of parts of a split: {column: {value: {apcer_max, bpcer, counts}}}, for each column of `groups`.

    groups: the same rows, what is known of each ('' = unknown, left out). A part without attacks has no `apcer_max`,
    one without bona fide no `bpcer`; a column that knows nothing is left out.
    """
    known = {name: videos[values != ""].groupby(values[values != ""]) for name, values in groups.items()}
    return {
        name: {str(value): _rates(rows, threshold) for value, rows in parts}
        for name, parts in known.items()
        if parts.ngroups
    }


def _rates(videos: pd.DataFrame, threshold: float) -> dict:
    accepted, live = videos["score"] >= threshold, videos["label"] == 1
    rates = {"counts": {"videos": len(videos)}}
    if not live.all():
        rates["apcer_max"] = float(accepted[~live].groupby(videos.loc[~live, "species"]).mean().max())
    if live.any():
        rates["bpcer"] = float((~accepted[live]).mean())
    return rates


def literature(videos: pd.DataFrame, threshold: float) -> dict:
    """What most papers print, for comparison only: APCER pooled over species, HTER at the test set's own EER."""
    fixed = at_threshold(videos, threshold)
    return {
        "apcer_pooled": fixed["apcer_pooled"],
        "acer_pooled": (fixed["apcer_pooled"] + fixed["bpcer"]) / 2,
        "hter_test_eer": at_threshold(videos, eer_threshold(videos)[0])["hter"],
    }


def confidence(videos: pd.DataFrame, threshold: float, seed: int = 0) -> dict:
    """95 % percentile intervals by bootstrap over subjects -> {figure: [low, high]}, of `apcer` one a species.

    Videos of one person are not independent, so persons are drawn with replacement, not videos. Draws that miss a
    class are passed over, those that miss a species leave it out of their maximum; with a single subject there is
    nothing to draw from and the result is empty.
    """
    check(videos, "confidence intervals")
    subjects, which = np.unique(_people(videos), return_inverse=True)
    if len(subjects) < 2:
        return {}
    table = _by_score(videos)
    draws = np.random.default_rng(seed).multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), BOOTSTRAP)
    weights = (draw[which] for draw in draws)  # [video]: how often the draw holds it
    drawn = [_weighted(table, weight, threshold) for weight in weights if len(set(videos["label"][weight > 0])) == 2]
    apcer = pd.DataFrame([figures.pop("apcer") for figures in drawn])
    return {"apcer": _percentiles(apcer), **_percentiles(pd.DataFrame(drawn))}


def _percentiles(draws: pd.DataFrame) -> dict[str, list[float]]:
    """{column: [2.5th, 97.5th percentile]}, a NaN being a draw that says nothing."""
    return {name: np.nanpercentile(values, [2.5, 97.5]).tolist() for name, values in draws.items()}


def _by_score(videos: pd.DataFrame) -> dict:
    """What `_weighted` needs of `videos`: the distinct scores upwards, each video's rank among them, its species."""
    scores, rank = np.unique(videos["score"], return_inverse=True)
    species = videos["species"].where(videos["label"] == 0, LIVE).to_numpy()
    return {"scores": scores, "rank": rank, "species": {name: species == name for name in np.unique(species)}}


def _weighted(table: dict, weight: np.ndarray, threshold: float) -> dict:
    """The figures of videos that count `weight` times each; those of `figures` where all weights are one.

    From running sums over the ranks of the scores: `roc_curve` gives the same a hundred times slower, and a bootstrap
    needs a thousand. Entry r of a curve belongs to the threshold at distinct score r, the last to one above all.
    """

    def accepted(rows: np.ndarray) -> np.ndarray:
        mass = np.bincount(table["rank"], weight * rows, len(table["scores"]))
        return np.append(np.cumsum(mass[::-1])[::-1], 0) / mass.sum() if mass.sum() else np.full(len(mass) + 1, np.nan)

    live = table["species"][LIVE]
    tpr, far = accepted(live), accepted(~live)
    apcer = {name: accepted(rows) for name, rows in table["species"].items() if name != LIVE}
    apcer_max = np.nanmax(list(apcer.values()), axis=0)
    here = np.searchsorted(table["scores"], threshold)
    gap = _gap(far, tpr, weight[~live].sum(), weight[live].sum())[:-1]
    crossing = len(gap) - 1 - np.argmin(gap[::-1])  # of equal ones the highest, as in `eer_threshold`
    return {
        "apcer": {name: curve[here] for name, curve in apcer.items()},
        "apcer_max": apcer_max[here],
        "bpcer": 1 - tpr[here],
        "acer": (apcer_max[here] + 1 - tpr[here]) / 2,
        "hter": (far[here] + 1 - tpr[here]) / 2,
        "eer": (far[crossing] + 1 - tpr[crossing]) / 2,
        "auc": float(np.trapezoid(tpr[::-1], far[::-1])),
        **{name: 1 - tpr[apcer_max <= apcer + 1e-9].max() for name, apcer in BPCER_AT.items()},
        "tpr_at_fpr1": tpr[far <= 0.01 + 1e-9].max(),
    }


def _people(videos: pd.DataFrame) -> pd.Series:
    """Who is in each video: the same subject number in two data sets is two people."""
    return videos["dataset"] + " " + videos["subject"] if "dataset" in videos else videos["subject"]

"""Metrics of presentation attack detection (PAD). Definitions: "Figures" in docs/methods.md.

Score = P(live); a video is accepted as bona fide when score >= threshold. All rates are fractions, not per cent. Curves
and areas come from scikit-learn; this module adds the maximum over attack species (ISO/IEC 30107-3) and the bootstrap
over subjects. [C] marks our own choices.

`videos` is a table with one row per video and the columns `video, subject, species, label, score`. A metric that needs
both classes or finite scores raises ValueError without them.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from kdfas_jax.metrics import exact

LIVE = "live"
BOOTSTRAP = 1000
DIFFERENCES = ("acer", "apcer_max", "bpcer", "auc", "eer")  # figures by which runs are compared
BPCER_AT = {"bpcer10": 0.10, "bpcer20": 0.05, "bpcer100": 0.01}  # metric -> APCER at which BPCER is measured
AT_APCER = {"apcer10": 0.10, "apcer5": 0.05, "apcer1": 0.01}  # name -> largest APCER on dev
AT_BPCER = {"accept90": 0.10, "accept95": 0.05}  # name -> largest BPCER on dev
OPERATING_POINTS = {  # name -> words
    "eer": "EER",
    "eer_sets": "EER, data sets weighing alike,",
    **{name: f"APCER {100 * apcer:.0f} %" for name, apcer in AT_APCER.items()},
    **{name: f"BPCER {100 * bpcer:.0f} %" for name, bpcer in AT_BPCER.items()},
}


def check(videos: pd.DataFrame, what: str) -> None:
    """Raises ValueError, naming `what` was to be computed, unless `videos` has both classes and finite scores."""
    labels = set(videos["label"])
    if labels != {0, 1}:
        missing = " and ".join(name for name, label in (("bona fide", 1), ("attack", 0)) if label not in labels)
        raise ValueError(f"{what}: no {missing} video to evaluate among {len(videos)}; check the protocol and the data")
    if bad := videos.index[~np.isfinite(videos["score"])].tolist():
        first = videos["video"].get(bad[0]) if "video" in videos else f"row {bad[0]}"
        raise ValueError(f"{what}: {len(bad)} scores are not finite, first: {first}; the model's output is broken")


def roc(videos: pd.DataFrame, weights: pd.Series | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (share of attacks accepted, share of bona fide accepted, thresholds) at every distinct score.

    A video counts as often as `weights` says, by default once. scikit-learn's default drops collinear points, which
    moves the EER. The first threshold is +inf.
    """
    check(videos, "ROC")
    return roc_curve(videos["label"], videos["score"], drop_intermediate=False, sample_weight=weights)


def eer_threshold(videos: pd.DataFrame, sets_alike: bool = False) -> tuple[float, float]:
    """Returns (threshold, EER), where the share of accepted attacks and of rejected bona fide are closest.

    The EER is the mean of the two shares there. The first point of the curve, at +inf, is never returned. Among
    thresholds at which the shares are equally close, the highest counts [C]. All thresholds between two neighbouring
    scores give the same decisions on this split; the function returns their midpoint [C], so that on another split
    neither class is favoured. With `sets_alike` each share is the mean over the data sets (column `dataset`) that have
    such videos, so that a small set counts as much as a large one [C].
    """
    if sets_alike:
        sizes = videos.groupby(["dataset", "label"])["score"].transform("size")
        far, tpr, scores = roc(videos, 1 / sizes)
        gap = np.abs(far - (1 - tpr))
    else:
        far, tpr, scores = roc(videos)
        bona_fide = int((videos["label"] == 1).sum())
        gap = _gap(far, tpr, len(videos) - bona_fide, bona_fide)
    best = 1 + int(np.argmin(gap[1:]))
    score, below = float(scores[best]), float(scores[min(best + 1, len(scores) - 1)])
    middle = (score + below) / 2
    return middle if middle > below else score, float((far[best] + 1 - tpr[best]) / 2)


def _gap(far: np.ndarray, tpr: np.ndarray, attacks: float, bona_fide: float) -> np.ndarray:
    """Returns |far - (1 - tpr)| times the numbers of attacks and of bona fide: integers, so that ties are exact.

    Differences of the shares are not exact: |1/10 - 2/5| and |2/5 - 1/10| may differ in the last bit.
    """
    accepted, rejected = np.rint(far * attacks), bona_fide - np.rint(tpr * bona_fide)
    return np.abs(accepted * bona_fide - rejected * attacks)


def at_threshold(videos: pd.DataFrame, threshold: float) -> dict:
    """APCER per PAI species, its maximum, BPCER, ACER, HTER and the pooled APCER at a fixed threshold.

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
    """Returns the lowest threshold at which no species' APCER exceeds `apcer`."""
    check(videos, f"threshold at APCER {apcer:g}")
    attacks = videos[videos["label"] == 0]
    return max(lowest_threshold(group["score"].to_numpy(), apcer) for _, group in attacks.groupby("species"))


def threshold_at_bpcer(videos: pd.DataFrame, bpcer: float) -> float:
    """Returns the highest threshold at which BPCER does not exceed `bpcer`: the score of a bona fide video."""
    check(videos, f"threshold at BPCER {bpcer:g}")
    live = np.sort(videos.loc[videos["label"] == 1, "score"].to_numpy())
    return float(live[int(np.floor(bpcer * len(live) + 1e-9))])


def lowest_threshold(scores: np.ndarray, share: float) -> float:
    """Returns the lowest threshold that at most a `share` of `scores` [n] reaches; -inf where all of them may."""
    allowed = int(np.floor(share * len(scores) + 1e-9))  # 0.1 x 30 is 3, not 2.9999
    if allowed >= len(scores):
        return -np.inf
    return float(np.nextafter(np.sort(scores)[::-1][allowed], np.inf))


def bpcer_at_apcer(videos: pd.DataFrame, apcer: float) -> float:
    """BPCER at the lowest threshold at which no species' APCER exceeds `apcer` (BPCER10 is `apcer=0.1`)."""
    threshold = threshold_at_apcer(videos, apcer)
    return float((videos.loc[videos["label"] == 1, "score"] < threshold).mean())


def tpr_at_fpr(videos: pd.DataFrame, fpr: float) -> float:
    """Returns the share of bona fide accepted where at most a share `fpr` of all attacks is accepted."""
    far, tpr, _ = roc(videos)
    return float(tpr[far <= fpr].max())


def figures(videos: pd.DataFrame, threshold: float) -> dict:
    """Returns the metrics of one split for results.json, at `threshold` where a metric depends on one."""
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
    """Returns thresholds chosen on `dev` alone: {name of `OPERATING_POINTS`: threshold}.

    'eer': both errors alike; 'eer_sets' likewise, where there are several data sets, each of which counts as much as
    another. 'apcer10', 'apcer5', 'apcer1': the lowest at which no species' APCER exceeds 10, 5 or
    1 %. 'accept90', 'accept95': the highest at which BPCER does not exceed 10 or 5 %.
    """
    at_apcer = {name: threshold_at_apcer(dev, apcer) for name, apcer in AT_APCER.items()}
    at_bpcer = {name: threshold_at_bpcer(dev, bpcer) for name, bpcer in AT_BPCER.items()}
    several = "dataset" in dev and dev["dataset"].nunique() > 1
    of_sets = {"eer_sets": eer_threshold(dev, sets_alike=True)[0]} if several else {}
    return {"eer": eer_threshold(dev)[0], **of_sets, **at_apcer, **at_bpcer}


def threshold_at(points: Mapping[str, float], name: str) -> float:
    """Returns the threshold `name` of `operating_points`; 'eer_sets' of a single data set is its 'eer'."""
    return points["eer"] if name == "eer_sets" and name not in points else points[name]


def at_points(videos: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Returns {name: apcer_max, bpcer and acer of `videos`} at the `operating_points` of another split."""
    kept = ("apcer_max", "bpcer", "acer")
    return {
        name: {key: value for key, value in at_threshold(videos, threshold).items() if key in kept}
        for name, threshold in thresholds.items()
    }


def exact_rates(videos: pd.DataFrame, threshold: float) -> dict:
    """Returns the exact intervals of APCER and BPCER: {'apcer': {species: `exact.rate`}, 'bpcer': `exact.rate`}.

    A class without videos has no interval.
    """
    wrong = (videos["score"] >= threshold) != (videos["label"] == 1)
    found = exact.rates(wrong, _people(videos), videos["species"].where(videos["label"] == 0, LIVE))
    live = {"bpcer": found.pop(LIVE)} if LIVE in found else {}
    return ({"apcer": found} if found else {}) | live


def literature(videos: pd.DataFrame, threshold: float) -> dict:
    """Metrics as most papers report them, for comparison only: APCER pooled over species, HTER at the EER of test."""
    fixed = at_threshold(videos, threshold)
    return {
        "apcer_pooled": fixed["apcer_pooled"],
        "acer_pooled": (fixed["apcer_pooled"] + fixed["bpcer"]) / 2,
        "hter_test_eer": at_threshold(videos, eer_threshold(videos)[0])["hter"],
    }


def confidence(videos: pd.DataFrame, threshold: float, seed: int = 0) -> dict:
    """95 % percentile intervals by bootstrap over subjects: {metric: [low, high]}, and {species: interval} for `apcer`.

    Videos of one person are not independent, so the bootstrap draws persons with replacement, not videos. It skips
    draws without one of the classes; a draw without a species leaves that species out of the maximum. With a single
    subject the result is empty.
    """
    check(videos, "confidence intervals")
    if _people(videos).nunique() < 2:
        return {}
    table = sorted_by_score(videos)
    drawn = [weighted_figures(table, weight, threshold) for weight in _draws(videos, seed)]
    apcer = pd.DataFrame([figures.pop("apcer") for figures in drawn])
    return {"apcer": _percentiles(apcer), **_percentiles(pd.DataFrame(drawn))}


def paired(
    first: pd.DataFrame, second: pd.DataFrame, thresholds: tuple[float, float], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Differences `second` - `first` of `DIFFERENCES` between two models on the same videos: (difference, low, high).

    The rows of both tables are the same videos in the same order; each model has the threshold of its dev data. The
    95 % percentile intervals are those of a bootstrap in which each draw of people, as in `confidence`, counts for
    both models. With a single subject the result is empty.
    """
    check(first, "paired differences")
    check(second, "paired differences")
    if _people(first).nunique() < 2:
        return {}
    tables = [sorted_by_score(videos) for videos in (first, second)]

    def differences(weight: np.ndarray) -> dict[str, float]:
        one, two = (weighted_figures(table, weight, at) for table, at in zip(tables, thresholds, strict=True))
        return {name: float(two[name] - one[name]) for name in DIFFERENCES}

    bounds = _percentiles(pd.DataFrame([differences(weight) for weight in _draws(first, seed)]))
    return {name: (value, *bounds[name]) for name, value in differences(np.ones(len(first))).items()}


def _draws(videos: pd.DataFrame, seed: int) -> Iterator[np.ndarray]:
    """Draws people with replacement: how often each draw contains each video [videos], of draws with both classes."""
    subjects, which = np.unique(_people(videos), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(subjects), np.full(len(subjects), 1 / len(subjects)), BOOTSTRAP)
    weights = (draw[which] for draw in draws)
    return (weight for weight in weights if len(set(videos["label"][weight > 0])) == 2)


def _percentiles(draws: pd.DataFrame) -> dict[str, list[float]]:
    """Returns {column: [2.5th, 97.5th percentile]}, ignoring NaN (draws in which the metric is undefined)."""
    return {name: np.nanpercentile(values, [2.5, 97.5]).tolist() for name, values in draws.items()}


def sorted_by_score(videos: pd.DataFrame) -> dict:
    """Sorts `videos` for `weighted_figures`; returns {'scores', 'rank', 'species'}.

    scores: the distinct scores in ascending order. rank: of each video's score [videos].
    species: {name: mask [videos]}.
    """
    scores, rank = np.unique(videos["score"], return_inverse=True)
    species = videos["species"].where(videos["label"] == 0, LIVE).to_numpy()
    return {"scores": scores, "rank": rank, "species": {name: species == name for name in np.unique(species)}}


def weighted_figures(table: dict, weight: np.ndarray, threshold: float) -> dict:
    """Returns the metrics of videos that count `weight` [videos] times each; with unit weights they equal `figures`.

    table: the videos as of `sorted_by_score`.

    Cumulative sums over the ranks of the scores take a hundredth of the time of `roc_curve`, and the bootstrap needs a
    thousand curves. Entry r of a curve is at the threshold that equals distinct score r; the last entry is above all.
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
    crossing = len(gap) - 1 - np.argmin(gap[::-1])  # the highest of equal gaps, as in `eer_threshold`
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
    """Identifies the person in each video: the same subject number in two data sets means two people."""
    return videos["dataset"] + " " + videos["subject"] if "dataset" in videos else videos["subject"]

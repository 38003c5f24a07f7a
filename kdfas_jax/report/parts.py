"""The parts of a report that are drawn: plots of the scores, of calibration and training, and the worst errors."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdfas_jax.report import plots
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Columns, Face, Figure, Gallery, Named, Plots, Section, Table, Text
from kdfas_jax.runs import origin

WORST = 12  # errors of each kind that the page lists
EXAMPLES = ("live", "print", "replay")  # kinds of presentation of which the page shows a typical one


class Evaluated(NamedTuple):
    """What results.json and scores.csv hold of a run: `videos` are the test rows, None of a protocol over folds."""

    results: dict
    videos: pd.DataFrame | None = None


class Looked(NamedTuple):
    """A frame of a video, uint8 [h, w, 3], and where the model looked, [h, w] in [0, 1]; None where it is not asked."""

    image: np.ndarray
    heat: np.ndarray | None = None


Seen = Mapping[tuple[str, str], Looked]


class Shown(NamedTuple):
    """What a page shows beside results.json.

    videos: the test rows of scores.csv, with plots; None for folds. journal: the rows of metrics.csv. teachers: those
    that were evaluated on the same protocol. seen: {(dataset, video): Looked} of `pictured` videos. groups: the
    metadata of `videos` by which figures are broken down. splits: `amounts.counted` of the data. made: config.json of
    the run, and the `date` of the evaluation.
    """

    videos: pd.DataFrame | None = None
    journal: pd.DataFrame | None = None
    teachers: Mapping[str, Evaluated] | None = None
    seen: Seen | None = None
    groups: pd.DataFrame | None = None
    splits: Mapping[str, Mapping[str, Any]] | None = None
    made: Mapping[str, Any] | None = None


def worst(videos: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """The most wrong videos: {'attack': highest scores accepted, 'live': lowest rejected}, `WORST` of each at most."""
    accepted, live = videos["score"] >= threshold, videos["label"] == 1
    return {
        "attack": videos[accepted & ~live].nlargest(WORST, "score"),
        "live": videos[~accepted & live].nsmallest(WORST, "score"),
    }


def typical(videos: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Returns one video of each of `EXAMPLES` that `videos` have: the median score of those decided rightly, or of all.

    A species such as 'print2' is a print.
    """
    right = (videos["score"] >= threshold) == (videos["label"] == 1)
    found = []
    for kind in EXAMPLES:
        own = videos["species"].str.startswith(kind)
        chosen = videos[own & right] if (own & right).any() else videos[own]
        found.append(chosen.sort_values(["score", "video"]).iloc[len(chosen) // 2 : len(chosen) // 2 + 1])
    return pd.concat(found)


def pictured(videos: pd.DataFrame, threshold: float, faces: bool) -> pd.DataFrame:
    """Returns the videos of which the page shows a picture: the `worst` and the `typical`, each once.

    faces: also those of real people; else only simulated faces, which are nobody's.
    """
    chosen = pd.concat([*worst(videos, threshold).values(), typical(videos, threshold)])
    chosen = chosen[~chosen.index.duplicated()]
    return chosen if faces else chosen[[origin.simulated([name]) for name in chosen["dataset"]]]


def distributions(videos: pd.DataFrame, threshold: float) -> Section:
    """Histograms and DET of the test `videos`."""
    live, attacks = videos[videos["label"] == 1], videos[videos["label"] == 0]
    by_species = {
        names.species(str(name)): (pd.concat([live, own]), threshold) for name, own in attacks.groupby("species")
    }
    histograms = "Scores of the test videos by species, heights logarithmic. Orange: errors."
    trade_off = (
        "Detection error trade-off of each species against live, on logarithmic axes: the nearer to the lower left, "
        "the better. Dots: at the threshold, hollow where a rate is 0. Curves end at one error."
    )
    drawn = [
        (histograms, plots.scores(videos, threshold)),
        (trade_off, plots.det(by_species, "detection error trade-off by species")),
    ]
    words = "How far apart live faces and attacks are, and what other thresholds would cost."
    return Section("Scores and error curves", words, [Plots(drawn)])


def calibration(found: Mapping[str, float], temperature: float | None, videos: pd.DataFrame | None) -> Section:
    """What `calibration.figures` found on test, as given and scaled; of the `videos` of one run the diagram, too."""
    ece, nll = "mean gap between score and share of live", "negative log-likelihood in nats; chance is 0.693"
    rows = [
        (Named("ECE", ece), Figure(found["ece"]), Figure(found["ece_calibrated"])),
        (Named("NLL", nll), Figure(found["nll"], area=True), Figure(found["nll_calibrated"], area=True)),
    ]
    scaled = f"scaled by {temperature:.4g}" if temperature else "scaled, one temperature per fold"
    figures = Table(("on test", "as given", scaled), rows)
    caption = "On the line, scores mean what they say. The larger a dot, the more videos."
    diagram = videos is not None and Plots([(caption, plots.reliability(videos, temperature))])
    return Section(
        "Are the scores probabilities?",
        "Of the videos that score 0.8, 8 of 10 should be live. The temperature that scales scores is fitted on dev. "
        "Scores in scores.csv and all thresholds are the model's own, not scaled: scaling changes no ranking.",
        [Columns([figures, diagram]) if diagram else figures],
    )


def training(journal: pd.DataFrame, step: int) -> Section:
    """The curves of metrics.csv (columns `step, metric, value`) and the `step` of the chosen checkpoint."""
    on_dev = {f"dev_{name}": f"{name.upper()} on dev" for name in ("auc", "eer")}
    other = ("grad_norm", "learning_rate")
    losses = [name for name in journal["metric"].unique() if name not in other and not name.startswith("dev_")]
    drawn = [
        (
            "On training batches, which are augmented and mixed.",
            plots.curves(journal, {name: name for name in losses}, "loss", step),
        ),
        ("Checkpoints are ranked by AUC - EER.", plots.curves(journal, on_dev, "figure on dev", step)),
    ]
    words = (
        "The loss and its terms (before their weights) as means over ten steps, and the figures on dev. Dashed: the "
        "checkpoint that dev chose."
    )
    return Section("Training", words, [Plots(drawn)])


def errors(shown: Shown, threshold: float) -> Section:
    """The worst errors of each kind: with pictures of those that `shown.seen` has, and a table of the others."""
    seen = shown.seen or {}
    found = worst(shown.videos, threshold)
    titles = {"attack": "Attacks that pass", "live": "Live faces turned away"}
    parts = []
    for kind, rows in found.items():
        keys = [key in seen for key in zip(rows["dataset"], rows["video"], strict=True)]
        faces = [face(video, shown, threshold) for video in rows[keys].itertuples()]
        others = rows[[not key for key in keys]]
        cells = [
            (video.video, names.species(video.species), video.subject, Figure(video.score, area=True))
            for video in others.itertuples()
        ]
        parts += [Gallery(titles[kind], faces)] if faces else []
        title = "" if faces else titles[kind]
        parts += [Table(("video", "species", "subject", "score"), cells, title)] if cells else []
        parts += [] if faces or cells else [Text("None.", titles[kind])]
    return Section(
        "The worst errors", f"At most {WORST} of each kind, the most wrong first. {_pictures(found, seen)}", parts
    )


def _pictures(found: Mapping[str, pd.DataFrame], seen: Seen) -> str:
    """Says which pictures of the worst errors are shown, and why not all are."""
    rows = pd.concat(found.values())
    keys = set(zip(rows["dataset"], rows["video"], strict=True))
    if not keys:
        return ""
    pictures = [seen[key] for key in keys if key in seen]
    mapped = any(looked.heat is not None for looked in pictures)
    middle = "The middle frame of each" + (", and below it where the model looked, in blue. " if mapped else ". ")
    option = "--mode=eval --config.report.faces=true"
    if not pictures:
        return f"Pictures are left out, as they may show real people; {option} adds them and where the model looked."
    if len(pictures) < len(keys):
        return f"{middle}Pictures of real people are left out; {option} adds them."
    return middle + ("" if mapped else f"The faces are simulated. {option} adds where the model looked.")


def face(video, shown: Shown, threshold: float, decided: bool = False) -> Face:
    """Returns the picture of a row of `shown.videos` (a named tuple) with its score and what is known of it.

    decided: with the decision, too.
    """
    accepted = video.score >= threshold
    known = shown.groups.loc[video.Index] if shown.groups is not None else {}
    values = [names.value(column, known[column], [video.dataset]) for column in GIVEN if column in known]
    decision = f", {'accepted' if accepted else 'rejected'}" if decided else ""
    words = [f"score {video.score:.4f}{decision}", ", ".join(filter(None, values)), video.video]
    looked = shown.seen[video.dataset, video.video]
    wrong = bool(accepted) != (video.label == 1)
    source = html.picture(looked.image, looked.heat)
    return Face(source, names.species(video.species), [line for line in words if line], wrong)


GIVEN = ("sensor", "session", "light", "environment", "support")  # metadata that may explain an error

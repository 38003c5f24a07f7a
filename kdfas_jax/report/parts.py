"""The parts of a report that are drawn: plots of the scores, of calibration and training, and the worst errors."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdfas_jax.report import plots as plots
from kdfas_jax.report.html import Html, area, beside, figures, named, picture, section, share, table

WORST = 12  # errors of each kind that the page lists


class Evaluated(NamedTuple):
    """What results.json and scores.csv hold of a run: `videos` are the test rows, None of a protocol over folds."""

    results: dict
    videos: pd.DataFrame | None = None


class Looked(NamedTuple):
    """A frame of a video, uint8 [h, w, 3], and where the model looked, [h, w] in [0, 1]."""

    image: np.ndarray
    heat: np.ndarray


class Shown(NamedTuple):
    """What a page shows beside results.json.

    videos: the test rows of scores.csv, with plots; None for folds. journal: the rows of metrics.csv. teachers: those
    that were evaluated on the same protocol. seen: {(dataset, video): Looked} of the worst errors.
    """

    videos: pd.DataFrame | None = None
    journal: pd.DataFrame | None = None
    teachers: Mapping[str, Evaluated] | None = None
    seen: Mapping[tuple[str, str], Looked] | None = None


def worst(videos: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """The most wrong videos: {'attack': highest scores accepted, 'live': lowest rejected}, `WORST` of each at most."""
    accepted, live = videos["score"] >= threshold, videos["label"] == 1
    return {
        "attack": videos[accepted & ~live].nlargest(WORST, "score"),
        "live": videos[~accepted & live].nsmallest(WORST, "score"),
    }


def distributions(name: str, videos: pd.DataFrame, threshold: float, teachers: Mapping[str, Evaluated]) -> Html:
    """Histograms, DET and ROC of the test `videos` of the run called `name`, its teachers' ROC beside it."""
    taught = {f"teacher {teacher}": of.videos for teacher, of in teachers.items() if of.videos is not None}
    histograms = "Scores of the test videos by species, heights logarithmic. Orange: errors."
    trade_off = "Detection error trade-off: the nearer to the lower left, the better. Dots: at the threshold."
    curves = "ROC, on normal deviates as the DET: the nearer to the upper left, the better."
    return section(
        "Scores and error curves",
        "How far apart live faces and attacks are, and what other thresholds would cost.",
        figures(
            (histograms, plots.scores(videos, threshold)),
            (trade_off, plots.det(videos, threshold)),
            (curves, plots.roc({name: videos, **taught})),
        ),
    )


def calibration(found: Mapping[str, float], temperature: float | None, videos: pd.DataFrame | None) -> Html:
    """What `calibration.figures` found on test, as given and scaled; of the `videos` of one run the diagram, too."""
    ece, nll = "mean gap between score and share of live", "negative log-likelihood in nats; chance is 0.693"
    rows = [
        (named("ECE", ece), share(found["ece"]), share(found["ece_calibrated"])),
        (named("NLL", nll), area(found["nll"]), area(found["nll_calibrated"])),
    ]
    scaled = f"scaled by {temperature:.4g}" if temperature else "scaled, one temperature per fold"
    caption = "On the line, scores mean what they say. The larger a dot, the more videos."
    return section(
        "Are the scores probabilities?",
        "Of the videos that score 0.8, 8 of 10 should be live. The temperature that scales scores is fitted on dev. "
        "Scores in scores.csv and all thresholds are the model's own, not scaled: scaling changes no ranking.",
        beside(
            table(("on test", "as given", scaled), rows),
            figures((caption, plots.reliability(videos, temperature))) if videos is not None else "",
        ),
    )


def taught(teachers: Mapping[str, Mapping]) -> Html:
    """Returns the section on a run's teachers, from their facts in results.json; nothing without teachers."""
    if not teachers:
        return Html("")
    names = ("run", "protocol", "step", "config", "parameters", "overlap")
    rows = [
        (name, *("not known" if facts[key] is None else str(facts[key]) for key in names))
        for name, facts in teachers.items()
    ]
    return section(
        "The teachers",
        "Runs or published weights that taught this model. Overlap: what a teacher has seen of what this "
        "model is judged on.",
        table(("teacher", *names), rows),
    )


def training(journal: pd.DataFrame, step: int) -> Html:
    """The curves of metrics.csv (columns `step, metric, value`) and the `step` of the chosen checkpoint."""
    on_dev = {f"dev_{name}": f"{name.upper()} on dev" for name in ("auc", "eer")}
    beside = ("grad_norm", "learning_rate")
    losses = [name for name in journal["metric"].unique() if name not in beside and not name.startswith("dev_")]
    return section(
        "Training",
        "The loss and its terms (before their weights) as means over ten steps, and the figures on dev. Dashed: the "
        "checkpoint that dev chose.",
        figures(
            (
                "On training batches, which are augmented and mixed.",
                plots.curves(journal, {name: name for name in losses}, "loss", step),
            ),
            ("Checkpoints are ranked by AUC - EER.", plots.curves(journal, on_dev, "figure on dev", step)),
        ),
    )


def errors(videos: pd.DataFrame, threshold: float, seen: Mapping[tuple[str, str], Looked]) -> Html:
    """The worst errors of each kind; `seen` {(dataset, video): Looked} has the pictures of all of them, or nothing."""
    found = worst(videos, threshold)
    shown = (
        "The middle frame of each, and beside it where the model looked, in red."
        if seen
        else "Pictures are left out; --mode=eval --config.report.faces=true lays them into the page."
    )
    titles = {"attack": "Attacks that pass", "live": "Live faces turned away"}
    return section(
        "The worst errors",
        f"At most {WORST} of each kind, the most wrong first. {shown}",
        *(_listed(titles[kind], rows, seen) for kind, rows in found.items()),
    )


def _listed(title: str, rows: pd.DataFrame, seen: Mapping[tuple[str, str], Looked]) -> Html:
    head = f"<h3>{title}</h3>"
    if rows.empty:
        return Html(f"{head}<p>None.</p>")
    if not seen:
        cells = [(video.video, video.species, video.subject, area(video.score)) for video in rows.itertuples()]
        return Html(head + table(("video", "species", "subject", "score"), cells))
    pictures = (
        picture(*seen[video.dataset, video.video], f"{video.species}, score {video.score:.4f}: {video.video}")
        for video in rows.itertuples()
    )
    return Html(f'{head}<div class="grid faces">{"".join(pictures)}</div>')

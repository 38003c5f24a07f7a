"""The section on how the score moves when one factor of a rendered face changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdfas_jax.report import plots, summary
from kdfas_jax.report.render import html
from kdfas_jax.report.render.content import Face, Figure, Gallery, Plots, Section, Table

WORDS = (
    "The same {people} rendered people, none of whom was in training, with one factor changed and all else as it was, "
    "to the noise of the camera. Moves: the mean difference of the score's logit, and its standard deviation over "
    "people; below zero the face looks less alive. Flips: decisions that differ from those on the people as drawn, of "
    "whom {bpcer:.1f} % are rejected."
)
HEAD = ("factor", "value", "moves", "BPCER", "flips")


def moved(content: Mapping[str, Any], drawn: str, shown: Mapping[str, tuple[np.ndarray, float]]) -> Section:
    """Returns the section of a card's content (`commands.robustness.counterfactual.card`).

    drawn: its `plot`. shown: {factor and value: (picture uint8 [s, s, 3], P(live))} of one person.
    """
    rows = [
        (
            of["factor"],
            of["value"],
            f"{of['mean']:+.2f} ± {of['deviation']:.2f}",
            Figure(of["bpcer"]),
            Figure(of["flips"]),
        )
        for of in content["rows"]
    ]
    words = WORDS.format(people=content["people"], bpcer=100 * content["bpcer"])
    plot = Plots([("Change of the logit of P(live): mean, and standard deviation over people. Bars: flips.", drawn)])
    faces = [
        Face(html.picture(image), name, [f"score {score:.2f}"], score < content["threshold"])
        for name, (image, score) in shown.items()
    ]
    gallery = Gallery("The person whose score is nearest to the threshold, as the model is shown them", faces)
    return Section("What moves the score of a live face?", words, [plot, gallery, Table(HEAD, rows)])


def plot(rows: list[Mapping[str, Any]]) -> str:
    """Returns the plot of the rows as SVG."""
    named = {f"{of['factor']}: {of['value']}": (of["mean"], of["deviation"], of["flips"]) for of in rows}
    return plots.moves(named)


def text(content: Mapping[str, Any]) -> str:
    """Returns the rows as a table for the screen."""
    rows = {
        f"{of['factor']}: {of['value']}": {
            "moves": _moves(of),
            "BPCER": f"{100 * of['bpcer']:.1f}",
            "flips": f"{100 * of['flips']:.1f}",
        }
        for of in content["rows"]
    }
    return summary.markdown(rows, corner=f"{content['people']} people, %")


def _moves(of: Mapping[str, float]) -> str:
    return f"{of['mean']:+.2f} ± {of['deviation']:.2f}"

"""Plots of the reports as inline SVG; they use the page's colour variables and so follow its light and dark modes.

Error rates are drawn on normal-deviate axes, on which Gaussian score distributions give a straight line (Martin et
al., The DET Curve in Assessment of Detection Task Performance, Eurospeech 1997).
"""

import io
import re
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.stats import norm

from kdfas_jax.metrics import calibration
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.report.html import LIGHT

INK, RULE = LIGHT["ink"], LIGHT["rule"]
COLOURS = [LIGHT[f"c{number}"] for number in range(8)]
RIGHT, WRONG = COLOURS[:2]
DASHES = ("-", "--", ":", "-.")  # colour alone is lost in grey print and on colour-blind readers
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of files and folders may hold a $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
NEAREST = 5e-4  # rates closer to 0 or 1 are drawn here, as the normal deviate of 0 is infinite
POINTS = 400  # largest number of points of a training curve


def scores(videos: pd.DataFrame, threshold: float) -> str:
    """Histograms of the scores of live videos and of each attack species; colours tell right from wrong decisions."""
    species = [metrics.LIVE, *sorted(set(videos["species"]) - {metrics.LIVE})]
    edges = np.unique([*np.linspace(0, 1, 31), np.clip(threshold, 0, 1)])  # no bin spans the threshold
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.5 + 0.72 * len(species)), layout="constrained")
        rows = figure.subplots(len(species), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(rows, species, strict=True):
            values = videos.loc[videos["species"] == name, "score"]
            accepted = values >= threshold
            right = accepted if name == metrics.LIVE else ~accepted
            for chosen, colour in ((right, RIGHT), (~right, WRONG)):
                axes.stairs(np.histogram(values[chosen], edges)[0], edges, fill=True, color=colour)
            axes.axvline(threshold, color=INK, linestyle="--", linewidth=1)
            axes.set(yscale="symlog", xlim=(0, 1), yticks=(1, 10, 100, 1000), yticklabels=("1", "10", "100", "1000"))
            axes.set_ylim(0, max(2, 1.5 * np.histogram(values, edges)[0].max()))
            axes.minorticks_off()
            axes.set_title(f"{name}: {int((~right).sum())} of {len(values)} wrong", loc="left", fontsize=9, pad=2)
        rows[-1].set_xlabel("score = P(live); dashed: threshold")
    return _svg(figure, "score histograms by species")


def det(videos: pd.DataFrame, threshold: float) -> str:
    """Detection error trade-off (DET) of each attack species against live, with a dot at the threshold."""
    with mpl.rc_context(STYLE):
        figure, axes = _square()
        live = videos[videos["label"] == 1]
        for number, (name, attacks) in enumerate(videos[videos["label"] == 0].groupby("species")):
            far, tpr, _ = metrics.roc(pd.concat([live, attacks]))
            line = _curve(axes, number, far, 1 - tpr, name)
            here = (attacks["score"] >= threshold).mean(), (live["score"] < threshold).mean()
            axes.plot(*_deviate(np.array(here)), "o", color=line.get_color(), markersize=5)
        axes.set(xlabel="attacks accepted (APCER)", ylabel="live rejected (BPCER)")
        _legend(figure)
    return _svg(figure, "detection error trade-off by species")


def roc(runs: Mapping[str, pd.DataFrame]) -> str:
    """ROC curves with all attacks pooled; `runs` maps a name for the legend to the scored videos of a model."""
    with mpl.rc_context(STYLE):
        figure, axes = _square()
        for number, (name, videos) in enumerate(runs.items()):
            far, tpr, _ = metrics.roc(videos)
            _curve(axes, number, far, tpr, name)
        axes.set(xlabel="attacks accepted, all species pooled", ylabel="live accepted")
        _legend(figure)
    return _svg(figure, "ROC on normal-deviate axes")


def reliability(videos: pd.DataFrame, temperature: float) -> str:
    """Reliability diagram: the share of live videos over the mean score of a bin, before and after calibration."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=RULE, zorder=0)
        for number, (name, at) in enumerate((("uncalibrated", 1.0), ("calibrated by the temperature", temperature))):
            bins = calibration.reliability(videos, at)
            style = {"color": COLOURS[number], "linestyle": DASHES[number]}
            axes.plot(bins["score"], bins["live"], label=name, **style)
            axes.scatter(bins["score"], bins["live"], 8 + 120 * bins["videos"] / len(videos), color=COLOURS[number])
        axes.set(xlabel="mean score of the videos in a bin", ylabel="share of live videos")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.grid(True)
        _legend(figure)
    return _svg(figure, "reliability diagram")


def curves(journal: pd.DataFrame, wanted: Mapping[str, str], ylabel: str, chosen: int | None) -> str:
    """Training curves: the rows `step, metric, value` of metrics.csv over steps.

    `wanted` maps the metrics to draw to names for the legend; a vertical line marks the step `chosen`.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for number, (metric, name) in enumerate(wanted.items()):
            rows = journal[journal["metric"] == metric]
            rows = rows.iloc[:: -(-len(rows) // POINTS) or 1]
            axes.plot(rows["step"], rows["value"], label=name, **_look(number))
        if chosen is not None:
            axes.axvline(chosen, color=INK, linestyle="--", linewidth=1)
        values = journal.loc[journal["metric"].isin(wanted), "value"]
        if values.min() > 0 and values.max() > 20 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="step", ylabel=ylabel)
        axes.grid(True)
        _legend(figure)
    return _svg(figure, f"{ylabel} over steps")


def _square() -> tuple[Figure, Axes]:
    """A square plot with normal-deviate axes."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    places, labels = norm.ppf(TICKS), [f"{100 * tick:g} %" for tick in TICKS]
    limits = norm.ppf([NEAREST, 1 - NEAREST])
    axes.set(xticks=places, xticklabels=labels, yticks=places, yticklabels=labels, xlim=limits, ylim=limits)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="x", rotation=45)
    axes.grid(True)
    return figure, axes


def _deviate(rates: np.ndarray) -> np.ndarray:
    return norm.ppf(np.clip(rates, NEAREST, 1 - NEAREST))


def _curve(axes: Axes, number: int, x: np.ndarray, y: np.ndarray, name: str):
    return axes.plot(_deviate(x), _deviate(y), label=name, **_look(number))[0]


def _look(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)


def _svg(figure: Figure, words: str) -> str:
    """Renders an <svg> element with the page's colour variables, without external addresses, described by `words`."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": words}):  # ids that differ from the other plots' in the page
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', text)[0]
    text = re.sub(r"<svg[^>]*>", f'<svg {view} role="img" aria-label="{words}">', text, count=1, flags=re.DOTALL)
    for name, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{name})")
    return text

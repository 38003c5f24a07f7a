"""Plots of the reports as inline SVG; they use the page's colour variables and so follow its light and dark modes."""

import io
import re
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from kdfas_jax.metrics import calibration
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.report.render import names
from kdfas_jax.report.render.html import LIGHT

INK, RULE = LIGHT["ink"], LIGHT["rule"]
COLOURS = [LIGHT[f"c{number}"] for number in range(7)]
RIGHT, WRONG = LIGHT["c0"], LIGHT["err"]
MARKERS = "osD^vPX"
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
            axes.set_title(
                f"{names.species(name)}: {int((~right).sum())} of {len(values)} wrong", loc="left", fontsize=9, pad=2
            )
        rows[-1].set_xlabel("score = P(live); dashed: threshold")
    return _svg(figure, "score histograms by species")


def det(curves: Mapping[str, tuple[pd.DataFrame, float]], words: str) -> str:
    """Detection error trade-off (DET) on logarithmic axes, with a dot at the threshold of each curve.

    curves: {name in the legend: (live videos and the attacks of the curve, threshold)}. A curve ends where the counts
    end: of n presentations no rate but 0 is below 1/n. A rate of 0 at the threshold is a hollow dot on the axis.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        axes = figure.subplots()
        least = np.ones(2)
        for videos, _ in curves.values():
            live = int(videos["label"].sum())
            least = np.minimum(least, (1 / (len(videos) - live), 1 / live))
        for number, (name, (videos, threshold)) in enumerate(curves.items()):
            far, tpr, _ = metrics.roc(videos)
            counted = (far > 0) & (tpr < 1)
            axes.plot(far[counted], 1 - tpr[counted], label=name, **_look(number))
            accepted, live = videos["score"] >= threshold, videos["label"] == 1
            here = np.array([accepted[~live].mean(), (~accepted[live]).mean()])
            face = "none" if (here == 0).any() else COLOURS[number % len(COLOURS)]
            axes.plot(
                *np.maximum(here, least), "o", clip_on=False, mec=COLOURS[number % len(COLOURS)], mfc=face, zorder=3
            )
        axes.set(xscale="log", yscale="log", xlim=(least[0], 1), ylim=(least[1], 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
            axis.set_major_formatter(lambda rate, _: f"{100 * rate:.3g} %")
            axis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="x", rotation=45)
        axes.grid(True)
        axes.set(xlabel="attacks accepted (APCER)", ylabel="live rejected (BPCER)")
        _legend(figure)
    return _svg(figure, words)


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


def accuracy_against_cost(runs: Mapping[str, tuple[float, float, tuple[float, float]]]) -> str:
    """Returns ACER over FLOPs of one image; `runs` maps names to (FLOPs, ACER, its interval or twice ACER)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (name, (flops, acer, (low, high))) in enumerate(runs.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot((flops, flops), (100 * low, 100 * high), color=colour, linewidth=1, alpha=0.6)
            axes.plot(flops, 100 * acer, MARKERS[number % len(MARKERS)], color=colour, mfc="none", mew=1.6, label=name)
        axes.set(xscale="log", xlabel="FLOPs of one image", ylabel="ACER on test, %")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(True)
        _legend(figure)
    return _svg(figure, "accuracy against cost")


def flips(shares: Mapping[str, float]) -> str:
    """Bars of the shares of decisions that flip, {view: fraction}, in the order given."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.7 + 0.24 * len(shares)), layout="constrained")
        axes = figure.subplots()
        percent = [100 * share for share in shares.values()]
        axes.bar_label(axes.barh(list(shares), percent, color=COLOURS[0]), fmt="%.1f %%", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlim=(0, max(10, 1.2 * max(percent))), xlabel="decisions that flip, %")
        axes.tick_params(axis="y", length=0)
    return _svg(figure, "share of decisions that flip by view")


def moves(changes: Mapping[str, tuple[float, float, float]]) -> str:
    """Dots of mean changes with their standard deviations, and bars of the decisions that flip, in the order given.

    changes: {name: (mean, deviation, flips)}; flips is a fraction.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.22 * len(changes)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
        means, spreads, flips = zip(*changes.values(), strict=True)
        left.errorbar(means, list(changes), xerr=spreads, fmt="o", markersize=4, color=COLOURS[0], elinewidth=1)
        left.axvline(0, color=INK, linewidth=1)
        left.invert_yaxis()
        left.set(xlabel="change of the logit of P(live)")
        right.barh(list(changes), 100 * np.array(flips), height=0.6, color=WRONG)
        right.set(xlabel="decisions that flip, %")
        for axes in (left, right):
            axes.grid(axis="x")
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
    return _svg(figure, "change of the score by factor")


def gains(differences: Mapping[str, Mapping[float, np.ndarray]]) -> str:
    """AUC of variants minus their control's over the length of training: a dot for each seed, a line through the means.

    differences: {variant: {budget: differences [seeds]}}; a budget is a factor on the length.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for number, (name, by_budget) in enumerate(differences.items()):
            look = _look(number)
            axes.plot(list(by_budget), [values.mean() for values in by_budget.values()], label=name, **look)
            for budget, values in by_budget.items():
                marker = MARKERS[number % len(MARKERS)]
                axes.plot([budget] * len(values), values, marker, color=look["color"], alpha=0.6)
        budgets = sorted({budget for by_budget in differences.values() for budget in by_budget})
        axes.axhline(0, color=INK, linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"x {budget:g}" for budget in budgets])
        axes.minorticks_off()
        axes.set(xlabel="length of training", ylabel="AUC on test, own minus control's")
        axes.grid(True)
        _legend(figure)
    return _svg(figure, "gain over the control by length of training")


def standalone(svg: str) -> str:
    """Returns a plot of this module as the content of a file: in the light colours, on white."""
    for name, colour in LIGHT.items():
        svg = svg.replace(f"var(--{name})", colour)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg ", f'<svg {spaces} style="background: #ffffff" ', 1)


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
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="step", ylabel=ylabel)
        axes.grid(True)
        _legend(figure)
    return _svg(figure, f"{ylabel} over steps")


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

"""What a run's figures look like: the table on screen and the self-contained HTML page."""

import base64
import html
import io

import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

HEADLINE = ("auc", "eer", "apcer_max", "bpcer", "acer", "hter", "bpcer10", "tpr_at_fpr1")


def row(results: dict) -> dict[str, str]:
    """The headline figures of results.json's content, in per cent, the area as a fraction."""
    test = results["test"]
    return {name: f"{test[name]:.4f}" if name == "auc" else f"{100 * test[name]:.2f}" for name in HEADLINE}


def markdown(rows: dict[str, dict[str, str]], corner: str = "") -> str:
    """{row name: {column: text}} -> an aligned Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [[corner, *columns], *([name, *cells.values()] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]

    def joined(line: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def page(results: dict, videos: pd.DataFrame) -> str:
    """One HTML page, no outside resource: headline with its intervals, figures by species, ROC and score histogram."""
    test, intervals = results["test"], results["test"]["ci95"]
    rows = [
        (name, f"{test[name]:.4f}", " to ".join(f"{value:.4f}" for value in intervals.get(name, ())))
        for name in HEADLINE
    ]
    species = [(name, f"{value:.4f}", str(test["counts"][name])) for name, value in sorted(test["apcer"].items())]
    title = f"{results['config']['name']}, protocol {results['protocol']}"
    return _PAGE.format(
        title=html.escape(title),
        threshold=f"{results['threshold']['value']:.6g}",
        source=html.escape(results["threshold"]["source"]),
        step=results["step"],
        silent=test["non_response"],
        headline=_table(("figure", "test", "95 % interval"), rows),
        species=_table(("PAI species", "APCER", "videos"), species),
        plot=_plot(videos, results["threshold"]["value"]),
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def cells(tag: str, values: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    return f"<table>{cells('th', head)}{''.join(cells('td', values) for values in rows)}</table>"


def _plot(videos: pd.DataFrame, threshold: float) -> str:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, group in videos.groupby("species"):
        left.hist(group["score"], bins=30, range=(0, 1), histtype="step", linewidth=1.6, label=name)
    left.axvline(threshold, color="black", linestyle="--", linewidth=1)
    left.set(xlabel="score = P(live)", ylabel="videos", yscale="log", title="scores by species, threshold dashed")
    left.legend()
    far, tpr, _ = roc_curve(videos["label"], videos["score"], drop_intermediate=False)
    right.step(far, tpr, where="post")
    right.set(xlabel="attacks accepted", ylabel="bona fide accepted", title="ROC")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="scores by species and ROC" src="data:image/svg+xml;base64,{encoded}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} td, th {{ padding: .2rem .8rem; text-align: left;
border-bottom: 1px solid #ccc; }} img {{ max-width: 100%; }}
</style></head><body><h1>{title}</h1>
<p>Score = P(live). Threshold {threshold} ({source}), applied unchanged to test. Checkpoint of step {step}, chosen on
that same split. Videos without a face: {silent}.</p>
{headline}{species}{plot}</body></html>
"""

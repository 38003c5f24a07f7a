"""What a run's figures look like: the table on screen and the self-contained HTML page."""

import base64
import html
import io

import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

HEADLINE = ("auc", "eer", "apcer_max", "bpcer", "acer", "hter", "bpcer10", "tpr_at_fpr1")
FIGURES = (*HEADLINE, "accuracy")  # those of recognition and of domain classification, too


def row(results: dict) -> dict[str, str]:
    """The headline figures of results.json's content, in per cent (area: a fraction), over folds mean ± deviation."""
    test, deviation = (_headline(part) for part in (results["test"], results["test"].get("deviation", {})))

    def cell(name: str) -> str:
        values = [figures[name] for figures in (test, deviation) if name in figures]
        return " ± ".join(f"{value:.4f}" if name == "auc" else f"{100 * value:.2f}" for value in values)

    return {name: cell(name) for name in test}


def _headline(figures: dict) -> dict[str, float]:
    rates = {f"tar@far={far}": share for far, share in figures.get("tar_at_far", {}).items()}
    return {name: figures[name] for name in FIGURES if name in figures} | rates


def _detects(results: dict) -> bool:
    """Whether the figures are of presentation attack detection, and not of another target."""
    return "apcer" in results["test"]


def markdown(rows: dict[str, dict[str, str]], corner: str = "") -> str:
    """{row name: {column: text}} -> an aligned Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [[corner, *columns], *([name, *cells.values()] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]

    def joined(line: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def page(results: dict, videos: pd.DataFrame | None = None) -> str:
    """One HTML page, no outside resource: headline with its spread, figures by species, and for one run (with its test
    `videos`) ROC and score histogram, for a protocol over folds the figures of each.

    Of recognition and of domain classification it shows the headline alone.
    """
    title = f"{results['config']['name']}, protocol {results['protocol']}"
    if not _detects(results):
        cells = row(results)
        return _HEAD.format(title=html.escape(title)) + _table(tuple(cells), [tuple(cells.values())]) + _END
    test, folds = results["test"], results["folds"]
    rows = [(name, f"{test[name]:.4f}", _spread(test, name)) for name in HEADLINE]
    species = [(name, f"{value:.4f}", str(test["counts"][name])) for name, value in sorted(test["apcer"].items())]
    return (
        _HEAD.format(title=html.escape(title))
        + _BODY.format(
            how=html.escape(how(results)),
            silent=test["non_response"],
            headline=_table(("figure", "test", "deviation over folds" if folds else "95 % interval"), rows),
            species=_table(("PAI species", "APCER", "videos"), species),
            rest=_by_fold(folds) if folds else _plot(videos, results["threshold"]["value"]),
        )
        + _END
    )


def how(results: dict) -> str:
    """Where threshold and checkpoint of results.json's content come from, in a sentence or two."""
    threshold, step, folds = results["threshold"], results["step"], results["folds"]
    if not _detects(results):
        chosen = "chosen on dev" if results["dev"] else "the last"
        return f"Mean ± deviation over {len(folds)} folds." if folds else f"Checkpoint of step {step}, {chosen}."
    if folds:
        return f"Mean and population standard deviation over {len(folds)} folds. Threshold: {threshold['source']}."
    return (
        f"Threshold {threshold['value']:.6g} ({threshold['source']}), applied unchanged to test. "
        f"Checkpoint of step {step}, chosen on that same split."
    )


def _spread(test: dict, name: str) -> str:
    if "deviation" in test:
        return f"± {test['deviation'][name]:.4f}"
    return " to ".join(f"{value:.4f}" for value in test["ci95"].get(name, ()))


def _by_fold(folds: list[dict]) -> str:
    rows = [
        (
            fold["protocol"],
            str(fold["step"]),
            f"{fold['threshold']['value']:.6g}",
            *(f"{fold['test'][name]:.4f}" for name in HEADLINE),
        )
        for fold in folds
    ]
    return _table(("fold", "step", "threshold", *HEADLINE), rows)


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


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} td, th {{ padding: .2rem .8rem; text-align: left;
border-bottom: 1px solid #ccc; }} img {{ max-width: 100%; }}
</style></head><body><h1>{title}</h1>
"""
_BODY = """<p>Score = P(live). {how} Videos without a face: {silent}.</p>
{headline}{species}{rest}"""
_END = "</body></html>\n"

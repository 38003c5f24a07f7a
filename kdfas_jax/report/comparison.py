"""Comparison of evaluated runs: one table and one page."""

import os
from collections.abc import Mapping, Sequence

from kdfas_jax.report import page, summary
from kdfas_jax.report import plots as report_plots
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report.html import Html, bar, document, escaped, figures, section, table
from kdfas_jax.report.parts import Evaluated
from kdfas_jax.runs import files

SHOWN = ("acer", "apcer_max", "bpcer", "auc", "eer", "hter", "bpcer10", "tpr_at_fpr1")


def compare(folders: Sequence[str], output: str) -> str:
    """Compares the runs in `folders`, writes OUTPUT/index.html and returns the table as text.

    A warning precedes the table where the runs were not tested on the same data.
    Raises FileNotFoundError for a run that is not evaluated, and ValueError for a run that does not detect attacks or
    for fewer than two folders.
    """
    if len(set(folders)) < 2:
        raise ValueError(
            f"--runs={','.join(folders)}: expected two or more folders of evaluated runs, joined by commas"
        )
    found = [report_runs.read(folder) for folder in folders]
    runs = dict(zip(_names(folders), found, strict=True))
    for folder, run in zip(folders, found, strict=True):
        if not summary.detects(run.results):
            raise ValueError(f"{folder} has no APCER; expected runs with config.data.target='label'")
    differing = _differing(runs)
    files.write_atomically(os.path.join(output, "index.html"), _page(runs, differing))
    both = tuple(name for name in summary.TWO_TASKS if all(name in summary.row(run.results) for run in found))
    rows = {name: _row(run.results, SHOWN + both) for name, run in runs.items()}
    shown = summary.markdown(rows, corner="test, % (AUC as a fraction)")
    return f"warning: {differing}\n{shown}" if differing else shown


def _names(folders: Sequence[str]) -> list[str]:
    """Names the runs by the last part of their folders, or by the whole paths where two last parts are equal."""
    last = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    return last if len(set(last)) == len(last) else list(folders)


def _differing(runs: Mapping[str, Evaluated]) -> str:
    """Describes the test data of each run where they differ; '' where all runs have the same."""
    tested = {name: _tested(run.results) for name, run in runs.items()}
    if len(set(tested.values())) == 1:
        return ""
    return "the runs have different test data: " + "; ".join(f"{name} on {on}" for name, on in tested.items())


def _tested(results: dict) -> str:
    counts = results["test"]["counts"]
    species = ", ".join(f"{name} {n}" for name, n in counts.items() if name not in ("videos", "subjects"))
    return f"protocol {results['protocol']} of {', '.join(results['sources']['test'])} ({species})"


def _row(results: dict, names: Sequence[str]) -> dict[str, str]:
    shown = summary.row(results)
    return {name: shown[name] for name in names} | dict(zip(page.COSTS, page.cost(results), strict=True))


def _page(runs: Mapping[str, Evaluated], differing: str) -> str:
    warning = Html(f'<p class="warn">Warning: {escaped(differing)}.</p>') if differing else ""
    figures_of = page.side_by_side({name: run.results for name, run in runs.items()}, SHOWN)
    species = sorted({name for run in runs.values() for name in run.results["test"]["apcer"]})
    by_species = [(kind, *(bar(run.results["test"]["apcer"].get(kind)) for run in runs.values())) for kind in species]
    drawn = {name: run.videos for name, run in runs.items() if run.videos is not None}
    curves = figures(("ROC on test, all attacks pooled, on normal deviates.", report_plots.roc(drawn))) if drawn else ""
    how = [(name, escaped(summary.selection_note(run.results))) for name, run in runs.items()]
    return document(
        "Comparison of runs",
        "\n".join(
            [
                f'<h1>Comparison of {len(runs)} runs</h1><p class="lead">{escaped(_lead(runs))}</p>{warning}',
                "<p>Score = P(live): 1 is a live face, 0 an attack. Each run has the threshold of its dev data.</p>",
                section("Figures on test", "With 95 % intervals, or the deviation (±) over folds.", figures_of),
                section(
                    "APCER by attack species",
                    "Share of attacks that are accepted as live.",
                    table(("species", *runs), by_species),
                ),
                section("ROC", "Curves closer to the upper left are better.", curves),
                section("Thresholds", "The source of each.", table(("run", "threshold and checkpoint"), how)),
            ]
        ),
    )


def _lead(runs: Mapping[str, Evaluated]) -> str:
    acer = {name: run.results["test"]["acer"] for name, run in runs.items()}
    best = min(acer, key=acer.get)
    low, high = runs[best].results["test"].get("ci95", {}).get("acer", (acer[best], acer[best]))
    near = [name for name in runs if name != best and low <= acer[name] <= high]
    others = f" Within its 95 % interval: {', '.join(near)}." if near else ""
    return f"{best} has the lowest ACER, {100 * acer[best]:.2f} %.{others}"

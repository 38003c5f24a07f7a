"""Comparison of evaluated runs: one table and one page."""

import os
from collections.abc import Mapping, Sequence

from kdfas_jax.metrics import detection as metrics
from kdfas_jax.report import hero, page, summary
from kdfas_jax.report import plots as report_plots
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report.parts import Evaluated, Shown
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Cell, Figure, Hero, Named, Plots, Section, Table
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
    runs = dict(zip(names_of_runs(folders), found, strict=True))
    for folder, run in zip(folders, found, strict=True):
        if not summary.detects(run.results):
            raise ValueError(f"{folder} has no APCER; expected runs with config.data.target='label'")
    differing = _differing(runs)
    files.write_atomically(os.path.join(output, "index.html"), _page(runs, differing))
    both = tuple(name for name in summary.TWO_TASKS if all(name in summary.row(run.results) for run in found))
    rows = {name: _row(run.results, SHOWN + both) for name, run in runs.items()}
    shown = summary.markdown(rows, corner="test, % (AUC as a fraction)")
    return f"warning: {differing}\n{shown}" if differing else shown


def names_of_runs(folders: Sequence[str]) -> list[str]:
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


def _row(results: dict, columns: Sequence[str]) -> dict[str, str]:
    shown = summary.row(results)
    return {name: shown[name] for name in columns} | dict(zip(page.COSTS, page.cost(results), strict=True))


def _page(runs: Mapping[str, Evaluated], differing: str) -> str:
    on_test = page.side_by_side({name: run.results for name, run in runs.items()}, SHOWN)
    species = sorted({name for run in runs.values() for name in run.results["test"]["apcer"]})
    by_species = [
        (names.species(kind), *(Figure(run.results["test"]["apcer"].get(kind), bar=True) for run in runs.values()))
        for kind in species
    ]
    how = [(name, summary.selection_note(run.results)) for name, run in runs.items()]
    cautions = [f"Warning: {differing}."] if differing else []
    for name, run in runs.items():
        cautions += [f"{name}: {caution}" for caution in hero.cautions(run.results, Shown(run.videos))]
    words = "Score = P(live): 1 is a live face, 0 an attack. Each run has the threshold of its dev data."
    sections = [
        Section("Figures on test", "With 95 % intervals in per cent, or the deviation (±) over folds.", [on_test]),
        _differences(runs),
        _cost(runs),
        _trade_off(runs),
        Section(
            "APCER by attack species",
            "Share of attacks that are accepted as live.",
            [Table(("species", *runs), by_species)],
        ),
        Section("Thresholds", "The source of each.", [Table(("run", "threshold and checkpoint"), how)]),
    ]
    top = Hero(_lead(runs), words=[words])
    return html.document(f"Comparison of {len(runs)} runs", sections, hero=top, cautions=_merged(cautions, runs))


def _merged(cautions: Sequence[str], runs: Mapping[str, Evaluated]) -> list[str]:
    """Returns the cautions, those that hold for all `runs` once and without the names of the runs."""
    texts = [caution.split(": ", 1)[1] for caution in cautions if caution.split(": ", 1)[0] in runs]
    common = [text for text in dict.fromkeys(texts) if texts.count(text) == len(runs)]
    own = [caution for caution in cautions if caution.split(": ", 1)[1] not in common]
    return own + common


def _differences(runs: Mapping[str, Evaluated]) -> Section:
    """The section on the differences of each run from the first, or why a run has none."""
    (first, base), *others = runs.items()
    rows = [_difference(name, run, first, base) for name, run in others]
    words = (
        f"Each run less {first}, on the same test videos, each at its own threshold: below 0 is better, above 0 for "
        "AUC. In per cent (AUC as a fraction), with 95 % intervals of a bootstrap in which both runs have the same "
        "drawn people: where an interval holds 0, the test does not tell the two apart."
    )
    head = (f"less {first}", *(page.WORDS[name][0] for name in metrics.DIFFERENCES))
    return Section("Paired differences", words, [Table(head, rows)])


def _difference(name: str, run: Evaluated, first: str, base: Evaluated) -> tuple[Cell, ...]:
    found, why = _paired(run, first, base)
    if not found:
        return Named(name, why), *["–"] * len(metrics.DIFFERENCES)
    cells = []
    for figure, (value, low, high) in found.items():
        scale, places = (1, 4) if figure == "auc" else (100, 2)
        numbers = [f"{scale * number:+.{places}f}" for number in (value, low, high)]
        apart = ", apart" if low > 0 or high < 0 else ""
        cells.append(Named(numbers[0], f"{numbers[1]} to {numbers[2]}{apart}"))
    return name, *cells


def _paired(run: Evaluated, first: str, base: Evaluated) -> tuple[dict[str, tuple[float, float, float]], str]:
    """Returns the `paired` differences from `base`, which is called `first`, and '', or {} and why there are none."""
    if run.videos is None or base.videos is None:
        return {}, "no pair: a protocol over folds has no scores of videos"
    key = ["dataset", "video"]
    one, two = (of.videos.sort_values(key, ignore_index=True) for of in (base, run))
    if not one[[*key, "subject", "species", "label"]].equals(two[[*key, "subject", "species", "label"]]):
        return {}, f"no pair: its test videos are not those of {first}"
    thresholds = tuple(of.results["threshold"]["value"] for of in (base, run))
    found = metrics.paired(one, two, thresholds)
    return found, "" if found else "no pair: the test is of one person"


def _cost(runs: Mapping[str, Evaluated]) -> Section:
    points = {}
    for name, run in runs.items():
        test = run.results["test"]
        acer, deviation = test["acer"], test.get("deviation", {}).get("acer", 0.0)
        bounds = tuple(test.get("ci95", {}).get("acer", (acer - deviation, acer + deviation)))
        points[name] = (page.flops(run.results), acer, bounds)
    caption = "The nearer to the lower left, the better and the cheaper. Lines: 95 % interval, or deviation over folds."
    drawn = [(caption, report_plots.accuracy_against_cost(points))]
    return Section("Accuracy against cost", "What a lower error costs in computation.", [Plots(drawn)], half=True)


def _trade_off(runs: Mapping[str, Evaluated]) -> Section:
    curves = {
        name: (run.videos, run.results["threshold"]["value"]) for name, run in runs.items() if run.videos is not None
    }
    caption = "All attacks pooled, logarithmic axes: the nearer to the lower left, the better. Dots: at the threshold."
    drawn = [(caption, report_plots.det(curves, "detection error trade-off of the runs"))] if curves else []
    return Section(
        "Detection error trade-off", "What other thresholds would cost.", [Plots(drawn)] if drawn else [], half=True
    )


def _lead(runs: Mapping[str, Evaluated]) -> str:
    acer = {name: run.results["test"]["acer"] for name, run in runs.items()}
    best = min(acer, key=acer.get)
    low, high = runs[best].results["test"].get("ci95", {}).get("acer", (acer[best], acer[best]))
    near = [name for name in runs if name != best and low <= acer[name] <= high]
    others = f" Within its 95 % interval: {', '.join(near)}." if near else ""
    return f"{best} has the lowest ACER, {100 * acer[best]:.2f} %.{others}"

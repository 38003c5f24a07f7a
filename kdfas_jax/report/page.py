"""The self-contained HTML page of a run: of presentation attack detection, or a table of the headline figures.

`config.data.target` decides which (`Target.page`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import EngFormatter

from kdfas_jax import models
from kdfas_jax.report import made
from kdfas_jax.report import parts as report_parts
from kdfas_jax.report.hero import cautions, hero, spread
from kdfas_jax.report.parts import Evaluated, Shown
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Figure, Hero, Named, Pairs, Part, Section, Table
from kdfas_jax.report.sections import attempts, groups, stability
from kdfas_jax.report.summary import HEADLINE, row, selection_note

WORDS = {
    "acer": ("ACER", "mean of the two error rates below, at the threshold"),
    "apcer_max": ("APCER, worst species", "attacks that are taken for live, of the kind that fares best"),
    "bpcer": ("BPCER", "live faces that are turned away"),
    "hter": ("HTER", "as ACER, but with all attacks pooled"),
    "auc": ("AUC", "how often a live face scores above an attack: 1 always, 0.5 is chance"),
    "eer": ("EER", "error rate where both kinds of error are equal on test itself"),
    "bpcer10": ("BPCER10", "live faces turned away where 1 in 10 attacks passes"),
    "bpcer20": ("BPCER20", "where 1 in 20 passes"),
    "bpcer100": ("BPCER100", "where 1 in 100 passes"),
    "tpr_at_fpr1": ("TPR at FPR 1 %", "live faces accepted where 1 in 100 attacks, all pooled, passes"),
}
POINTS = {
    "eer": "Both errors equal",
    "eer_sets": "Equal error rates, data sets alike",
    "apcer10": "At most 10 % of any species pass",
    "apcer5": "At most 5 % of any species pass",
    "apcer1": "At most 1 % of any species pass",
    "accept90": "At most 10 % of live faces turned away",
    "accept95": "At most 5 % of live faces turned away",
}
COSTS = {"parameters": "that are deployed", "FLOPs": "of one image, two a multiply-accumulate"}
LITERATURE = {
    "apcer_pooled": ("APCER, pooled", "all species together, threshold of dev"),
    "acer_pooled": ("ACER, pooled", "its mean with BPCER"),
    "hter_test_eer": ("HTER at test's own EER", "the threshold taken on the test set"),
}


def headline(results: Mapping[str, Any], shown: Shown, *sections: Section | None) -> str:
    """Returns a page with the headline figures of results.json's content (`summary.row`), and then `sections`."""
    cells = row(results)
    words = "" if cells else "The test has no figure: none of its examples has a right answer."
    figures = Section("Figures on test", words, [Table(tuple(cells), [tuple(cells.values())])])
    found = [figures, *sections, made.taught(results.get("teachers", {}), results.get("init"))]
    if "seed" in results["config"]:
        found.append(made.provenance(results, shown))
    return html.document(_title(results), found, hero=_top(results, cells), cautions=cautions(results, shown))


def _top(results: Mapping[str, Any], cells: Mapping[str, str]) -> Hero:
    """Returns the verdict of a run that detects no attacks, by the accuracy or else by its first figure."""
    name = results["config"]["name"]
    key = next((key for key in ("accuracy", "dev accuracy", *cells) if key in cells), None)
    figure = f"{key} {cells[key]}{'' if key.endswith('auc') else ' %'}" if key else "no figure on test"
    return Hero(f"{name}: {figure}.", words=[selection_note(results)])


def detection(results: Mapping[str, Any], shown: Shown, *sections: Section | None) -> str:
    """Returns the page of presentation attack detection, of a run or of a protocol's folds.

    `results` is results.json's content, of this version or an earlier one; `shown` has what else there is to show.
    `sections` follow the figures by species.
    """
    test, threshold = results["test"], results["threshold"]
    value, points = threshold["value"], threshold.get("operating_points", {})
    videos, teachers = shown.videos, shown.teachers or {}
    errors = report_parts.errors(shown, value) if videos is not None else None
    gallery = errors if shown.seen else None
    found = [
        made.adapted(results.get("adapted")),
        _key_figures(results),
        _by_species(test),
        attempts.supported(test),
        gallery,
    ]
    found += [_operating_points(test, points)]
    found += [_by_fold(results["folds"]), *sections]
    if videos is not None:
        found.append(report_parts.distributions(videos, value))
    found += [
        groups.by_group(results),
        stability.stable(test),
        stability.attacked(test),
        _models(results, teachers),
        _literature(results["literature"]),
    ]
    if "calibration" in test:
        found.append(report_parts.calibration(test["calibration"], threshold.get("temperature"), videos))
    if shown.journal is not None:
        found.append(report_parts.training(shown.journal, results["step"]))
    found += [None if gallery else errors, made.taught(results.get("teachers", {}), results.get("init"))]
    found.append(made.provenance(results, shown))
    return html.document(_title(results), found, hero=hero(results, shown), cautions=cautions(results, shown))


def _title(results: Mapping[str, Any]) -> str:
    return f"{results['config']['name']}, protocol {results['protocol']}"


def _key_figures(results: Mapping[str, Any]) -> Section:
    test = results["test"]
    rows = [
        (Named(*words), Figure(test[name], area=name == "auc"), spread(test, name))
        for name, words in WORDS.items()
        if name in test
    ]
    words = "Attacks count by their worst species, as in ISO/IEC 30107-3."
    words += " Mean and deviation over folds." if results["folds"] else " Intervals are bootstrapped over people."
    if not results["folds"] and 0 in (test["apcer_max"], test["bpcer"]):
        words += " Where there is no error, the interval is the exact one."
    return Section("Key figures on test", words, [Table(("figure", "test", _kind(test)), rows)], half=True)


def _kind(test: Mapping[str, Any]) -> str:
    return "deviation" if "deviation" in test else "95 % interval, %"


def _by_species(test: Mapping[str, Any]) -> Section:
    def accepted(name: str, rate: float) -> str:
        number = test["counts"][name]
        return str(number) if "deviation" in test else f"{round(rate * number)} of {number}"

    rows = [
        (_species(name), Figure(value, bar=True), spread(test, "apcer", name), accepted(name, value))
        for name, value in sorted(test["apcer"].items(), key=lambda item: -item[1])
    ]
    words = "Share of each kind of attack (presentation attack instrument) that passes as live, worst first."
    last = "videos" if "deviation" in test else "accepted"
    return Section("By attack species", words, [Table(("species", "APCER", _kind(test), last), rows)], half=True)


def _species(name: str) -> Named | str:
    """The human name, and below it the name in scores.csv where they differ."""
    human = names.species(name)
    return human if human.lower() == name else Named(human, name)


def _operating_points(test: Mapping[str, Any], thresholds: Mapping[str, float]) -> Section | None:
    groups = [
        (
            POINTS[name],
            f"{f'threshold {thresholds[name]:.6g}' if name in thresholds else 'one threshold per fold'}; "
            f"ACER {100 * point['acer']:.2f} %",
            [("APCER", point["apcer_max"]), ("BPCER", point["bpcer"])],
        )
        for name, point in test.get("operating_points", {}).items()
    ]
    words = (
        "Thresholds chosen for these error rates on dev, and the error rates on test, which may differ: attacks of the "
        "worst species that are accepted (APCER), and live faces that are rejected (BPCER). A full bar is 100 %."
    )
    return Section("Operating points", words, [Pairs(groups)]) if groups else None


def _models(results: Mapping[str, Any], teachers: Mapping[str, Evaluated]) -> Section:
    runs = {"this model": results} | {f"teacher {name}": teacher.results for name, teacher in teachers.items()}
    words = "Next to its teacher, each at the threshold of its dev set." if teachers else "Size and cost."
    shown = ("acer", "apcer_max", "bpcer", "auc", "eer") if teachers else ()
    return Section("The model", words, [side_by_side(runs, shown)], half=True)


def side_by_side(runs: Mapping[str, Mapping[str, Any]], shown: Sequence[str]) -> Part:
    """A table of the figures `shown` of runs, {name: results}, and of what their models cost.

    Under each figure stands its interval, or its deviation over folds.
    """
    rows = [
        (
            Named(*WORDS[name]),
            *(Figure(run["test"][name], spread(run["test"], name), area=name == "auc") for run in runs.values()),
        )
        for name in shown
    ]
    costs = zip(*(cost(run) for run in runs.values()), strict=True)
    rows += [(Named(name, words), *of) for (name, words), of in zip(COSTS.items(), costs, strict=True)]
    return Table(("", *runs), rows)


def cost(results: Mapping[str, Any]) -> tuple[str, str]:
    """`COSTS` of a run's model as text: parameters, and FLOPs of one image."""
    return f"{results['params']['student']:,}", EngFormatter(places=1)(flops(results))


def flops(results: Mapping[str, Any]) -> float:
    """FLOPs of one image in a run's model."""
    config = results["config"]
    return models.flops(models.create(config["model"]), config["data"]["image_size"])


def _by_fold(folds: Sequence[Mapping[str, Any]]) -> Section | None:
    rows = [
        (
            fold["protocol"],
            str(fold["step"]),
            f"{fold['threshold']['value']:.6g}",
            *(Figure(fold["test"][name], area=name == "auc") for name in HEADLINE),
        )
        for fold in folds
    ]
    head = ("fold", "step", "threshold", *(WORDS[name][0] for name in HEADLINE))
    words = "Each fold is a separate run with a separate page."
    return Section("Fold by fold", words, [Table(head, rows)]) if rows else None


def _literature(literature: Mapping[str, Any]) -> Section:
    rows = [(Named(*words), Figure(literature[name])) for name, words in LITERATURE.items() if name in literature]
    words = "For comparison only: what most papers print hides the worst species, or looks at the test set."
    return Section("As papers print it", words, [Table(("figure", "test"), rows)], half=True)

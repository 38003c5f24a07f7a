"""What a run's figures look like: the table on screen and the self-contained HTML page.

Of recognition and of domain classification the page shows the headline alone.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.ticker import EngFormatter

from kdfas_jax import models
from kdfas_jax.report import parts as report_parts
from kdfas_jax.report import system as report_system
from kdfas_jax.report.html import Html, area, bar, beside, document, escaped, named, section, share, table
from kdfas_jax.report.parts import Evaluated, Looked

HEADLINE = ("auc", "eer", "apcer_max", "bpcer", "acer", "hter", "bpcer10", "tpr_at_fpr1")
FIGURES = (*HEADLINE, "accuracy")  # those of recognition and of domain classification, too
BOTH = ("match_accuracy", "match_auc", "match_tar@far=0.01", "frr", "riapar_max")  # of a model of two tasks, beside
SYSTEM = ("frr", "far", "iapar_max", "riapar_max")  # of a model of two tasks, whole
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
    "apcer10": "At most 10 % of any species pass",
    "apcer5": "At most 5 % of any species pass",
    "apcer1": "At most 1 % of any species pass",
}
GROUPS = {"sensor": "phone or camera", "medium": "printer or display", "support": "how it was held"}
COSTS = {"parameters": "that are deployed", "FLOPs": "of one image, two a multiply-accumulate"}
LITERATURE = {
    "apcer_pooled": ("APCER, pooled", "all species together, threshold of dev"),
    "acer_pooled": ("ACER, pooled", "its mean with BPCER"),
    "hter_test_eer": ("HTER at test's own EER", "the threshold taken on the test set"),
}


def row(results: dict) -> dict[str, str]:
    """The headline figures of results.json's content, in per cent (area: a fraction), over folds mean ± deviation.

    Those of dev, named so, where test has no right answer (the domains that a classifier never saw).
    """
    test, deviation = (headline(part) for part in (results["test"], results["test"].get("deviation", {})))
    if not test:
        dev = row({"test": results["dev"]}) if headline(results.get("dev", {})) else {}
        return {f"dev {name}": cell for name, cell in dev.items()}

    def cell(name: str) -> str:
        values = [figures[name] for figures in (test, deviation) if name in figures]
        return " ± ".join(f"{value:.4f}" if is_area(name) else f"{100 * value:.2f}" for value in values)

    return {name: cell(name) for name in test}


def headline(figures: dict) -> dict[str, float]:
    """The figures of a split that tables show; those of verification beside detection as match_auc, ..."""
    rates = {f"tar@far={far}": share for far, share in figures.get("tar_at_far", {}).items()}
    match = headline(figures["verification"]) if "verification" in figures else {}
    system = {name: figures["system"][name] for name in SYSTEM if "system" in figures}
    match = {f"match_{name}": value for name, value in match.items()}
    return {name: figures[name] for name in FIGURES if name in figures} | rates | match | system


def is_area(name: str) -> bool:
    """Whether the figure `name` is an area under a curve, shown as a fraction."""
    return name.endswith("auc")


def markdown(rows: dict[str, dict[str, str]], corner: str = "") -> str:
    """{row name: {column: text}} -> an aligned Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [[corner, *columns], *([name, *cells.values()] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]

    def joined(line: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def presentations(scores: pd.DataFrame) -> pd.DataFrame:
    """The videos among the rows of scores.csv; those of a model of two tasks hold pairs and attempts, too."""
    return scores[scores["kind"] == "presentation"] if "kind" in scores else scores


def detects(results: dict) -> bool:
    """Whether the figures are of presentation attack detection, and not of another target."""
    return "apcer" in results["test"]


def how(results: dict) -> str:
    """Where threshold and checkpoint of results.json's content come from, and what speaks against its figures."""
    return " ".join([_chosen(results), *_reservations(results)])


def _reservations(results: dict) -> list[str]:
    """A sentence for each reason why the figures are not those of a whole and independent run."""
    found = []
    if not results.get("finished", True):
        steps = results.get("steps")
        where = "in one of its folds" if steps is None else f"at step {steps['trained']} of {steps['total']}"
        found.append(f"Training has stopped {where}: this run is not finished.")
    return found + [
        f"Teacher {name} may have seen what this run is judged on, which config.teachers.{name}.allow_overlap allowed: "
        f"{facts['overlap']}."
        for name, facts in results.get("teachers", {}).items()
        if "allowed: " in facts["overlap"]
    ]


def _chosen(results: dict) -> str:
    """Where threshold and checkpoint come from, in a sentence or two."""
    threshold, step, folds = results["threshold"], results["step"], results["folds"]
    chosen = "chosen on dev" if results["dev"] else "the last"
    if not detects(results):
        return f"Mean ± deviation over {len(folds)} folds." if folds else f"Checkpoint of step {step}, {chosen}."
    if folds:
        return f"Mean and population standard deviation over {len(folds)} folds. Threshold: {threshold['source']}."
    return (
        f"Threshold {threshold['value']:.6g} ({threshold['source']}), applied unchanged to test. "
        f"Checkpoint of step {step}, {chosen}."
    )


def page(
    results: dict,
    videos: pd.DataFrame | None = None,
    *,
    journal: pd.DataFrame | None = None,
    teachers: Mapping[str, Evaluated] | None = None,
    seen: Mapping[tuple[str, str], Looked] | None = None,
) -> str:
    """One HTML page of a run, or of a protocol's folds.

    videos: the test rows of scores.csv, with `threshold` and plots; None for folds. journal: the rows of metrics.csv.
    teachers: those that were evaluated on the same protocol. seen: {(dataset, video): Looked} of the worst errors.
    """
    title = f"{results['config']['name']}, protocol {results['protocol']}"
    if not detects(results):
        cells, match = row(results), report_system.verification(results["test"])
        return document(title, f"<h1>{escaped(title)}</h1>{table(tuple(cells), [tuple(cells.values())])}{match}")
    teachers, test = teachers or {}, results["test"]
    threshold, name = results["threshold"], results["config"]["name"]
    species_and_points = _by_species(test) + _operating_points(test, threshold.get("operating_points", {}))
    parts = [_lead(title, results), beside(_key_figures(results), species_and_points), _by_fold(results["folds"])]
    if "system" in test:
        match = report_system.verification(test["verification"])
        parts += [beside(report_system.system(test["system"], threshold.get("match")), match)]
    if videos is not None:
        parts += [report_parts.distributions(name, videos, threshold["value"], teachers)]
    parts += [_breakdown(test), beside(_models(results, teachers), _literature(results["literature"]))]
    parts += [report_parts.taught(results.get("teachers", {}))]
    if "calibration" in test:
        parts += [report_parts.calibration(test["calibration"], threshold.get("temperature"), videos)]
    if journal is not None:
        parts += [report_parts.training(journal, results["step"])]
    if videos is not None:
        parts += [report_parts.errors(videos, threshold["value"], seen or {})]
    return document(title, "\n".join(parts))


def _lead(title: str, results: dict) -> Html:
    test, sources = results["test"], results["sources"]
    worst = "each fold's worst kind" if results["folds"] else f"the worst kind ({_worst_species(test)})"
    extra = f", of them beyond the protocol: {', '.join(sources['extra'])}" if sources["extra"] else ""
    passing = _in_words(test["apcer_max"], f"attacks of {worst}", ("passes", "pass"))
    refused = _in_words(test["bpcer"], "live faces", ("is", "are"))
    data = f"Trained on {', '.join(sources['train'])}{extra}; tested on {', '.join(sources['test'])}"
    return Html(
        f'<h1>{escaped(title)}</h1><p class="lead">{escaped(f"{passing} as live. {refused} turned away.")}</p>'
        "<p>Score = P(live): 1 is a live face, 0 an attack; a video is accepted when its score is at or above the "
        f"threshold. {escaped(how(results))} Videos without a face, which get no score: {test['non_response']}. "
        f"{_missing(test)}</p>"
        f'<p class="dim">{escaped(data)}: {test["counts"]["videos"]} videos of {test["counts"]["subjects"]} people'
        f"{', each counted in every fold' if results['folds'] else ''}.</p>"
    )


def _missing(test: dict) -> str:
    """How many files of the test are missing; results of earlier versions say nothing of them."""
    if not (missing := test.get("missing")):
        return "The records were made by an earlier version: whether files are absent or corrupt is not known."
    return (
        f"Files of the test that are absent: {missing['absent']}, that cannot be read to their end: "
        f"{missing['corrupt']}."
    )


def _worst_species(test: dict) -> str:
    return max(test["apcer"], key=test["apcer"].get)


def _in_words(rate: float, what: str, verbs: tuple[str, str]) -> str:
    """0.034 -> 'Of 100 attacks, 3 pass': of a hundred, or of as many more as it takes to count one."""
    base = next((base for base in (100, 1000) if rate == 0 or round(rate * base) >= 1), 10_000)
    number = round(rate * base)
    return f"Of {base:,} {what}, {number or 'none'} {verbs[number > 1]}"


def _key_figures(results: dict) -> Html:
    test = results["test"]
    rows = [(named(*words), _value(test, name), _spread(test, name)) for name, words in WORDS.items() if name in test]
    words = "Attacks count by their worst species, as in ISO/IEC 30107-3."
    words += " Mean and deviation over folds." if results["folds"] else " Intervals are bootstrapped over people."
    return section("Key figures on test", words, table(("figure", "test", _kind(test)), rows))


def _kind(test: dict) -> str:
    return "deviation" if "deviation" in test else "95 % interval"


def _spread(test: dict, name: str) -> str:
    """The deviation over folds, or the interval, of a figure; '' where there is none."""
    if "deviation" in test:
        deviation = test["deviation"][name]
        return f"± {deviation:.4f}" if name == "auc" else _deviation(deviation)
    return _interval(test["ci95"].get(name, ()), plain=name == "auc")


def _interval(bounds: Sequence[float], plain: bool = False) -> str:
    return " to ".join(f"{bound:.4f}" if plain else f"{100 * bound:.2f}" for bound in bounds)


def _value(test: dict, name: str) -> Html:
    return area(test[name]) if name == "auc" else share(test[name])


def _deviation(value: float) -> str:
    return f"± {100 * value:.2f}"


def _by_species(test: dict) -> Html:
    if "deviation" in test:
        spread = {name: _deviation(value) for name, value in test["deviation"]["apcer"].items()}
    else:
        spread = {name: _interval(bounds) for name, bounds in test["ci95"].get("apcer", {}).items()}
    rows = [
        (name, bar(value), spread.get(name, ""), str(test["counts"][name]))
        for name, value in sorted(test["apcer"].items(), key=lambda item: -item[1])
    ]
    words = "Share of each kind of attack (presentation attack instrument) that passes as live, worst first."
    return section("By attack species", words, table(("species", "APCER", _kind(test), "videos"), rows))


def _breakdown(test: dict) -> Html:
    parts = [_groups(name, of) for name, of in test.get("breakdown", {}).items() if len(of) > 1]  # else as the whole
    words = "At the same threshold: worst species' APCER, and BPCER, of the videos from each."
    return section("Where the errors are", words, Html(f'<div class="grid">{"".join(parts)}</div>') if parts else "")


def _groups(name: str, groups: dict) -> Html:
    rows = [
        (value, bar(group.get("apcer_max")), bar(group.get("bpcer")), str(group["counts"]["videos"]))
        for value, group in groups.items()
    ]
    return table((GROUPS.get(name, name), "APCER", "BPCER", "videos"), rows)


def _operating_points(test: dict, thresholds: Mapping[str, float]) -> Html:
    rows = [
        (
            named(POINTS[name], f"threshold {thresholds[name]:.6g}" if name in thresholds else "each fold its own"),
            *(share(point[figure]) for figure in ("apcer_max", "bpcer", "acer")),
        )
        for name, point in test.get("operating_points", {}).items()
    ]
    words = "Thresholds chosen on dev for what is wanted there, and what they do on test, where it may not hold."
    head = ("wanted on dev", "APCER, worst", "BPCER", "ACER")
    return section("Operating points", words, table(head, rows) if rows else "")


def _models(results: dict, teachers: Mapping[str, Evaluated]) -> Html:
    runs = {"this model": results} | {f"teacher {name}": teacher.results for name, teacher in teachers.items()}
    words = "Beside its teacher, each at its own threshold of dev." if teachers else "What it costs."
    shown = ("acer", "apcer_max", "bpcer", "auc", "eer") if teachers else ()
    return section("The model", words, side_by_side(runs, shown))


def side_by_side(runs: Mapping[str, dict], shown: Sequence[str]) -> Html:
    """A table of the figures `shown` of runs, {name: results}, and of what their models cost.

    Under each figure stands its interval, or its deviation over folds.
    """
    rows = [(named(*WORDS[name]), *(_with_spread(run["test"], name) for run in runs.values())) for name in shown]
    costs = zip(*(cost(run) for run in runs.values()), strict=True)
    rows += [(named(name, words), *of) for (name, words), of in zip(COSTS.items(), costs, strict=True)]
    return table(("", *runs), rows)


def _with_spread(test: dict, name: str) -> Html:
    return Html(f"{_value(test, name)}<small>{_spread(test, name)}</small>")


def cost(results: dict) -> tuple[str, str]:
    """`COSTS` of a run's model: parameters, and FLOPs of one image."""
    config = results["config"]
    flops = models.flops(models.create(config["model"]), config["data"]["image_size"])
    return f"{results['params']['student']:,}", EngFormatter(places=1)(flops)


def _by_fold(folds: list[dict]) -> Html:
    rows = [
        (
            fold["protocol"],
            str(fold["step"]),
            f"{fold['threshold']['value']:.6g}",
            *(_value(fold["test"], name) for name in HEADLINE),
        )
        for fold in folds
    ]
    head = ("fold", "step", "threshold", *(WORDS[name][0] for name in HEADLINE))
    return section(
        "Fold by fold", "Each fold is a run of its own, with a page of its own.", table(head, rows) if rows else ""
    )


def _literature(literature: dict) -> Html:
    rows = [(named(*words), share(literature[name])) for name, words in LITERATURE.items() if name in literature]
    words = "For comparison only: what most papers print hides the worst species, or looks at the test set."
    return section("As papers print it", words, table(("figure", "test"), rows))

"""The self-contained HTML page of a run: of presentation attack detection, or a table of the headline figures.

`config.data.target` decides which (`Target.page`).
"""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import EngFormatter

from kdfas_jax import models
from kdfas_jax.report import parts as report_parts
from kdfas_jax.report.html import Html, area, bar, beside, document, escaped, named, section, share, table
from kdfas_jax.report.parts import Evaluated, Shown
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


def headline(results: dict, *sections: Html) -> str:
    """Returns a page with the headline figures of results.json's content (`summary.row`), and then `sections`."""
    title, cells = _title(results), row(results)
    shown = f"<h1>{escaped(title)}</h1>{table(tuple(cells), [tuple(cells.values())])}"
    return document(title, shown + "".join(sections))


def detection(results: dict, shown: Shown, *sections: Html) -> str:
    """Returns the page of presentation attack detection, of a run or of a protocol's folds.

    `results` is results.json's content, of this version or an earlier one; `shown` has what else there is to show.
    `sections` follow the key figures.
    """
    test, threshold, name = results["test"], results["threshold"], results["config"]["name"]
    videos, teachers = shown.videos, shown.teachers or {}
    species_and_points = _by_species(test) + _operating_points(test, threshold.get("operating_points", {}))
    parts = [
        _lead(_title(results), results),
        beside(_key_figures(results), species_and_points),
        _by_fold(results["folds"]),
        *sections,
    ]
    if videos is not None:
        parts += [report_parts.distributions(name, videos, threshold["value"], teachers)]
    parts += [_breakdown(test), beside(_models(results, teachers), _literature(results["literature"]))]
    parts += [report_parts.taught(results.get("teachers", {}))]
    if "calibration" in test:
        parts += [report_parts.calibration(test["calibration"], threshold.get("temperature"), videos)]
    if shown.journal is not None:
        parts += [report_parts.training(shown.journal, results["step"])]
    if videos is not None:
        parts += [report_parts.errors(videos, threshold["value"], shown.seen or {})]
    return document(_title(results), "\n".join(parts))


def _title(results: dict) -> str:
    return f"{results['config']['name']}, protocol {results['protocol']}"


def _lead(title: str, results: dict) -> Html:
    test, sources, note = results["test"], results["sources"], selection_note(results)
    worst = "each fold's worst kind" if results["folds"] else f"the worst kind ({_worst_species(test)})"
    extra = f", of them beyond the protocol: {', '.join(sources['extra'])}" if sources["extra"] else ""
    passing = _in_words(test["apcer_max"], f"attacks of {worst}", ("passes", "pass"))
    refused = _in_words(test["bpcer"], "live faces", ("is", "are"))
    data = f"Trained on {', '.join(sources['train'])}{extra}; tested on {', '.join(sources['test'])}"
    return Html(
        f'<h1>{escaped(title)}</h1><p class="lead">{escaped(f"{passing} as live. {refused} turned away.")}</p>'
        "<p>Score = P(live): 1 is a live face, 0 an attack; a video is accepted when its score is at or above the "
        f"threshold. {escaped(note)} Videos without a face, which get no score: {test['non_response']}. "
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
            named(POINTS[name], f"threshold {thresholds[name]:.6g}" if name in thresholds else "one per fold"),
            *(share(point[figure]) for figure in ("apcer_max", "bpcer", "acer")),
        )
        for name, point in test.get("operating_points", {}).items()
    ]
    words = "Thresholds chosen on dev for these error rates, and the error rates on test, which may differ."
    head = ("wanted on dev", "APCER, worst", "BPCER", "ACER")
    return section("Operating points", words, table(head, rows) if rows else "")


def _models(results: dict, teachers: Mapping[str, Evaluated]) -> Html:
    runs = {"this model": results} | {f"teacher {name}": teacher.results for name, teacher in teachers.items()}
    words = "Next to its teacher, each at the threshold of its dev set." if teachers else "Size and cost."
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
        "Fold by fold", "Each fold is a separate run with a separate page.", table(head, rows) if rows else ""
    )


def _literature(literature: dict) -> Html:
    rows = [(named(*words), share(literature[name])) for name, words in LITERATURE.items() if name in literature]
    words = "For comparison only: what most papers print hides the worst species, or looks at the test set."
    return section("As papers print it", words, table(("figure", "test"), rows))

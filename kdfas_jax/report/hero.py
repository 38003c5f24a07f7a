"""The top of a run's page: the verdict, two grids of one hundred presentations, examples, and the cautions."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.metrics import exact
from kdfas_jax.report import parts, summary
from kdfas_jax.report.parts import Shown
from kdfas_jax.report.render import names
from kdfas_jax.report.render.content import Grid, Hero
from kdfas_jax.runs import origin


def hero(results: Mapping[str, Any], shown: Shown) -> Hero:
    """Returns the top of the page of presentation attack detection, of a run or of a protocol's folds."""
    test, sources = results["test"], results["sources"]
    folds = len(results["folds"])
    worst = worst_species(test)
    species = "each fold's worst species" if folds else f"the worst species ({names.species(worst)})"
    passing, refused = of_hundred(test["apcer_max"]), of_hundred(test["bpcer"])
    over = f"On the mean of {folds} folds, " if folds else "At its threshold, "
    verdict = (
        f"{over}{results['config']['name']} accepts {passing} attacks of {species} and rejects {refused} live faces."
    )
    attacks = _grid("attack", f"{passing} attacks of the worst species accepted", test, "apcer_max", worst)
    live = _grid("live", f"{refused} live faces rejected", test, "bpcer", "live")
    extra = f", and beyond the protocol on {names.domains(sources['extra'])}" if sources["extra"] else ""
    people = f"{test['counts']['videos']} videos of {test['counts']['subjects']} people"
    words = [
        "Score = P(live): 1 is a live face, 0 an attack; a video is accepted when its score is at or above the "
        f"threshold. {summary.selection_note(results)}",
        f"Trained on {names.domains(sources['train'])}{extra}; tested on {names.domains(sources['test'])}: {people}"
        f"{', each counted in every fold' if folds else ''}. Videos without a face, which get no score: "
        f"{test['non_response']}. {_missing(test)}",
    ]
    return Hero(verdict, [attacks, live], _examples(shown, results["threshold"]["value"]), words)


def cautions(results: Mapping[str, Any], shown: Shown) -> list[str]:
    """Returns a sentence where the model was trained, and one where it was judged, on simulated faces alone.

    The data sets count (`origin`), and the domains where these are data sets, as one of several sets may train alone.
    """
    config, sources = results["config"].get("data", {}), results.get("sources", {})
    datasets = config.get("dataset", "").split("+")
    by_set = config.get("domain_by", "domain") == "domain"
    judged = [results["on"]["dataset"]] if "on" in results else datasets
    if shown.videos is not None and "dataset" in shown.videos and len(shown.videos):
        judged = shown.videos["dataset"].unique()
    found = []
    if origin.simulated(datasets) or (by_set and origin.simulated(sources.get("train", []))):
        found.append(f"Simulated faces: this model was {origin.CAUTION}.")
    if origin.simulated(judged) or (by_set and origin.simulated(sources.get("test", []))):
        found.append("The figures on this page are of simulated faces; they say nothing about real cameras or attacks.")
    return found


def worst_species(test: Mapping[str, Any]) -> str:
    """Returns the species of the largest APCER."""
    return max(test["apcer"], key=test["apcer"].get)


def of_hundred(rate: float) -> str:
    """0.034 -> '3 of 100': of a hundred, or of as many more as it takes to count one."""
    base = next((base for base in (100, 1000) if rate == 0 or round(rate * base) >= 1), 10_000)
    return f"{round(rate * base) or 'none'} of {base:,}"


def spread(test: Mapping[str, Any], name: str, species: str = "") -> str:
    """Returns the deviation over folds ('± 1.20'), or the 95 % interval ('1.20 to 3.40'), of a figure; '' for none.

    In per cent, an area as a fraction. An APCER or BPCER of 0 has the exact interval (`metrics.exact`), as a bootstrap
    of no error is 0 to 0. name: 'apcer' with a `species`, or a figure.
    """
    scale, places = (1, 4) if name == "auc" else (100, 2)
    if "deviation" in test:
        value = test["deviation"][name]
        return f"± {scale * (value[species] if species else value):.{places}f}"
    if bound := _bound(test, name, species):
        return f"0 to {100 * bound:.2f}"
    bounds = test["ci95"].get(name, ())
    bounds = bounds.get(species, ()) if species and bounds else bounds
    return " to ".join(f"{scale * bound:.{places}f}" for bound in bounds)


def _bound(test: Mapping[str, Any], name: str, species: str) -> float | None:
    """Returns the upper end of the exact interval of an APCER or BPCER without an error; None of other figures."""
    of = {"apcer": [species], "apcer_max": list(test["apcer"]), "bpcer": ["live"]}.get(name)
    value = test[name][species] if species else test[name]
    counts = [test["counts"][kind] for kind in of or () if test["counts"].get(kind)]
    return exact.interval(0, min(counts))[1] if counts and value == 0 else None


def _grid(icon: str, title: str, test: Mapping[str, Any], name: str, species: str) -> Grid:
    rate, number = test[name], test["counts"].get(species)
    what = f"{names.species(species)}: " if icon == "attack" and "deviation" not in test else ""
    exact = f"{what}{100 * rate:.2f} %"
    if number and "deviation" not in test:
        exact = f"{what}{round(rate * number)} of {number} on test ({100 * rate:.2f} %)"
    interval = spread(test, name)
    if "deviation" in test and rate == 0:
        within = "No error in any fold; the page of each fold says what its test can support."
    elif "deviation" in test:
        within = f"{interval} percentage points: deviation over folds."
    elif bound := _bound(test, name, ""):
        within = f"No error in so few: the rate is at most {100 * bound:.1f} % (exact 95 % interval)."
    elif interval:
        low, high = test["ci95"][name]
        within = f"With other people: {round(100 * low)} to {round(100 * high)} of 100 (95 % interval)."
    else:
        within = "Without an interval, as the test is of one person."
    rounded = "Rounded to whole icons." if abs(100 * rate - round(100 * rate)) > 1e-9 else ""
    return Grid(
        icon, round(100 * rate), title[0].upper() + title[1:], [line for line in (f"{exact}.", within, rounded) if line]
    )


def _examples(shown: Shown, threshold: float | None) -> list:
    if shown.videos is None or not shown.seen:
        return []
    rows = parts.typical(shown.videos, threshold).itertuples()
    found = [parts.face(row, shown, threshold, decided=True) for row in rows if (row.dataset, row.video) in shown.seen]
    return found


def _missing(test: Mapping[str, Any]) -> str:
    """How many files of the test are missing; results of earlier versions say nothing of them."""
    if not (missing := test.get("missing")):
        return "The records were made by an earlier version: whether files are absent or corrupt is not known."
    return (
        f"Files of the test that are absent: {missing['absent']}, that cannot be read to their end: "
        f"{missing['corrupt']}."
    )

"""The model card of a released model: Markdown, each figure from results.json and bundle.json."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kdfas_jax.runs import files

Results = Mapping[str, Any]
FIGURES = {"auc": "AUC", "eer": "EER", "acer": "ACER", "apcer_max": "APCER, worst species", "bpcer": "BPCER"}
POINTS = {"apcer10": "10 %", "apcer5": "5 %", "apcer1": "1 %"}  # operating points: APCER at most, on dev
MOST_VALUES = 8  # values of a column that are listed one by one; of more, only the worst [C]
LIMITS = (
    "Masks that were not simulated, make-up, and injected video (a virtual camera) are not detected.",
    "Cameras that differ from the simulated ones shift the scores: measure on your own camera "
    "(--mode=eval --on=folder:RAW), or adapt the model to it (--mode=adapt).",
    "The figures below count pictures of simulated people; they say nothing certain about people.",
    "It is not certified by any laboratory.",
)


def text(results: Results, bundle: Mapping[str, Any], splits: Mapping[str, Any], others: Mapping[str, Results]) -> str:
    """Returns the card.

    results: results.json of the run, with its `statement`. bundle: bundle.json, with `records`. splits:
    `amounts.counted` of its data. others: {data set: results.json of --mode=eval --on}.
    """
    parts = [f"# Model card: {results['config']['name']}", _sentence(results["statement"]), "Apache License 2.0."]
    for title, make in SECTIONS.items():
        lines = list(make(results, bundle, splits, others))
        parts += [f"## {title}", "\n".join(lines)] if lines else []
    return "\n\n".join(parts) + "\n"


def elsewhere(run: str) -> dict[str, Results]:
    """Returns {data set: content of results.json} of the evaluations of `run` on other data, in RUN/eval-on-*."""
    found = {}
    for name in sorted(files.names(run)):
        path = os.path.join(run, name, "results.json")
        if name.startswith("eval-on-") and files.exists(path):
            found[name.removeprefix("eval-on-")] = json.loads(files.read_text(path))
    return found


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _files(results: Results, bundle, splits, others) -> Iterator[str]:
    rows = []
    for name, of in bundle["files"].items():
        parity = f"{of['parity']['score']:.1e}" if "parity" in of else ""
        latency = f"{of['latency_ms']:.1f}" if "latency_ms" in of else ""
        rows.append((name, of["format"], f"{of['bytes'] / 1e6:.2f}", parity, latency, f"`{of['sha256'][:16]}`"))
    yield from _table(("file", "format", "MB", "scores differ by", "ms, one thread", "SHA-256"), rows)


def _training(results: Results, bundle, splits, others) -> Iterator[str]:
    rows = []
    for role, of in splits.items():
        species = ", ".join(f"{name} {number:,}" for name, number in of["species"].items())
        people = "unknown" if of["people"] is None else f"{of['people']:,}"
        rows.append((role, f"{of['presentations']:,}", people, len(of["sensor"]), len(of["medium"]), species))
    yield from _table(("split", "pictures", "people", "cameras", "instruments", "species"), rows)
    config, crop = results["config"], bundle["crop"]
    yield ""
    yield (
        f"Data: {config['data']['dataset']}, protocol {results['protocol']}, crops of {crop['image_size']} px, "
        f"{crop['scale']:g} times the box of the face. Digest of the records: `{bundle['records']}`. Seed "
        f"{config['seed']}; checkpoint of step {results['step']} of {results['steps']['total']}, chosen on dev."
    )
    for name, of in results.get("teachers", {}).items():
        yield f"Teacher {name}: {of['parameters'] / 1e6:.2f} M parameters, {of['run']}, step {of['step']}."


def _figures(results: Results, bundle, splits, others) -> Iterator[str]:
    runs = {"test": results, **others}
    rows = [
        (words, *(_figure(of["test"], key, area=key == "auc") for of in runs.values()))
        for key, words in FIGURES.items()
    ]
    for species in results["test"]["apcer"]:
        rows.append((f"APCER, {species}", *(_species(of["test"], species) for of in runs.values())))
    value, source = results["threshold"]["value"], results["threshold"]["source"]
    yield f"At the threshold {value:.6g} ({source}), in per cent but for AUC; in brackets the 95 % interval,"
    yield "bootstrapped over people."
    yield ""
    yield from _table(("", *runs), rows)


def _thresholds(results: Results, bundle, splits, others) -> Iterator[str]:
    points, test = results["threshold"]["operating_points"], results["test"]["operating_points"]
    rows = [
        (f"at most {words}", f"{points[name]:.6g}", f"{100 * test[name]['apcer_max']:.1f}", _rate(test[name]["bpcer"]))
        for name, words in POINTS.items()
    ]
    yield from _table(("APCER on dev", "threshold", "APCER on test, worst species", "BPCER on test"), rows)


def _groups(results: Results, bundle, splits, others) -> Iterator[str]:
    """Error rates by group; a column of many values, such as the camera, is given by its worst value."""
    overall, rows = results["test"], []
    for column, groups in results["test"].get("breakdown", {}).items():
        if len(groups) < 2:
            continue
        chosen = dict(groups)
        if len(groups) > MOST_VALUES:
            worst = max(groups, key=lambda value: groups[value].get("bpcer", 0))
            chosen = {f"{worst}, the highest BPCER of {len(groups)}": groups[worst]}
        for value, of in chosen.items():
            cells = [f"{_rate(of.get(name))}{_ratio(of.get(name), overall[name])}" for name in ("bpcer", "apcer_max")]
            rows.append((column, value, of["counts"]["videos"], *cells))
    if rows:
        yield "In per cent; x is the ratio to all of test."
        yield ""
        yield from _table(("column", "value", "pictures", "BPCER", "APCER, worst species"), rows)


def _stability(results: Results, bundle, splits, others) -> Iterator[str]:
    """Decisions that change in other views of the same pictures, where the evaluation measured them."""
    found = results["test"].get("stability", {})
    rows = [(name, _rate(of["flips"]), f"{of['auc']:.3f}") for name, of in found.get("views", {}).items()]
    if rows:
        yield from _table(("change of the picture", "decisions that flip, %", "AUC"), rows)


def _limits(results: Results, bundle, splits, others) -> Iterator[str]:
    yield from (f"- {line}" for line in LIMITS)


def _again(results: Results, bundle, splits, others) -> Iterator[str]:
    yield "    launch/release.sh"
    yield ""
    yield "renders the records, checks their digest, trains teachers and student, and writes this card."


# Title -> lines of the section; a section without lines is left out. A new section of results.json gets a line here.
SECTIONS: dict[str, Callable[..., Iterator[str]]] = {
    "What it does not do": _limits,
    "Files": _files,
    "Training data": _training,
    "Figures": _figures,
    "Thresholds": _thresholds,
    "Groups": _groups,
    "Stability of decisions": _stability,
    "The same model again": _again,
}


def _figure(test: Mapping[str, Any], name: str, *, area: bool) -> str:
    shown = (lambda x: f"{x:.3f}") if area else _rate
    if name not in test:
        return ""
    bounds = test.get("ci95", {}).get(name)
    return shown(test[name]) + (f" [{shown(bounds[0])}, {shown(bounds[1])}]" if bounds else "")


def _species(test: Mapping[str, Any], species: str) -> str:
    if species not in test["apcer"]:
        return ""
    bounds = test.get("ci95", {}).get("apcer", {}).get(species)
    return _rate(test["apcer"][species]) + (f" [{_rate(bounds[0])}, {_rate(bounds[1])}]" if bounds else "")


def _rate(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _ratio(value: float | None, overall: float) -> str:
    return f" (x {value / overall:.2f})" if value is not None and overall else ""


def _table(head, rows) -> Iterator[str]:
    yield f"| {' | '.join(map(str, head))} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"

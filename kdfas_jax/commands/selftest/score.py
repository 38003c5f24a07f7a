"""Scores the folder that a capture plan led to, and compares the rates with what laboratories and schemes ask.

OUTPUT/results.json, OUTPUT/index.html          the self-test
OUTPUT/captured-DIGEST.csv                      the captured presentations, as a table for the reader `csv`
OUTPUT/evaluation-DIGEST/                       their whole evaluation (`commands.elsewhere`)
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from input_pipeline import schema, tables
from input_pipeline.sources import media
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.selftest import page, plan
from kdfas_jax.metrics import schemes
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report import spreadsheet
from kdfas_jax.runs import files

SUFFIXES = media.IMAGE_SUFFIXES | media.VIDEO_SUFFIXES


def selftest(folder: str, captures: str, output: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Scores the presentations below `captures` with the run in `folder`; returns the content of results.json.

    Args:
      folder: an evaluated run that detects attacks; its threshold is applied unchanged.
      captures: the folder of plan.csv and of the files that it names.
      output: a folder.
      changes: values for keys of place and runtime, as in `evaluate.evaluate_run`.

    The content has `note`; `run`, `threshold` and `seen`, as `on.seen` of `elsewhere.evaluate_on`; `plan`, the numbers
    of presentations that are planned, captured and not captured, and of unplanned files; `presentations`, a row for
    each species and for live faces; `schemes`, the rows of `schemes.compared`; and `test`, the figures of the
    evaluation. Raises as `plan.read` and `elsewhere.evaluate_on` do; ValueError where a presentation has two files, or
    nothing is captured.
    """
    planned = plan.read(captures)
    found, unplanned = find_captured(captures, planned)
    text = tables.to_csv(as_csv_table(found))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    table = os.path.join(output, f"captured-{digest}.csv")
    if not files.exists(table):  # a file written anew would be a change of the raw data
        files.write_atomically(table, text)
    evaluated, place = elsewhere.evaluate_on(
        folder, f"csv:{table}", changes=changes, output=os.path.join(output, f"evaluation-{digest}")
    )
    test = evaluated["test"]
    content = {
        "note": plan.NOTE,
        "run": folder,
        "threshold": {name: evaluated["threshold"][name] for name in ("value", "source")},
        "seen": evaluated["on"]["seen"],
        "plan": {
            "planned": len(planned),
            "captured": len(found),
            "not_captured": len(planned) - len(found),
            "unplanned": unplanned,
        },
        "presentations": _presentations(planned, found, _responses(place), test["exact"]),
        "schemes": schemes.compared({**test["exact"], **system_rates(test)}),
        "test": test,
    }
    shown = page.selftest(content, evaluated, os.path.join(os.path.basename(place), "index.html"))
    files.write_atomically(os.path.join(output, "index.html"), shown)
    files.write_atomically(os.path.join(output, "results.json"), json.dumps(content, indent=2))
    return content


def system_rates(test: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the intervals of IAPAR and FMR of a run that recognises people; {} of another one."""
    exact = test.get("system", {}).get("exact", {})
    return {name: exact[name] for name in ("iapar", "fmr") if exact.get(name)}


def find_captured(captures: str, planned: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Returns the rows of the plan that have a file, with its absolute `path`, and the number of unplanned files."""
    paths: dict[str, list[str]] = {}
    for path in sorted(Path(captures).rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.name[0] != ".":
            paths.setdefault(path.relative_to(captures).with_suffix("").as_posix(), []).append(os.path.abspath(path))
    if twice := [name for name in planned["file"] if len(paths.get(name, ())) > 1]:
        raise ValueError(
            f"{captures}: {twice[0]} has the files {', '.join(paths[twice[0]])}; expected one, remove others"
        )
    captured = planned[planned["file"].isin(paths.keys())]
    if captured.empty:
        raise ValueError(
            f"{captures}: none of the {len(planned)} planned presentations is there, such as {planned['file'][0]}.jpg; "
            "capture them first (plan.html)"
        )
    if missing := {"live", "attack"} - set(captured["label"]):
        raise ValueError(f"{captures}: no presentation of the label {missing.pop()} is there; expected both labels")
    captured = captured.assign(path=[paths[name][0] for name in captured["file"]])
    return captured, len(paths) - len(captured)


def as_csv_table(found: pd.DataFrame) -> pd.DataFrame:
    """Returns captured presentations as the reader `csv` takes them; the distance is an attribute."""
    columns = {"video": "file", "medium": "instrument"}
    kept = {name: found[columns.get(name, name)] for name in ("path", "label", "species", "subject", "video")}
    kept |= {name: found[columns.get(name, name)] for name in ("session", "medium", "light")}
    return pd.DataFrame(kept).assign(
        attributes=[schema.attributes({"Distance": distance}) if distance else "" for distance in found["distance"]]
    )


def _responses(place: str) -> set[str]:
    """Returns the presentations that have a score in the evaluation in the folder `place`."""
    scores = pd.read_csv(os.path.join(place, "scores.csv"), dtype=report_runs.TEXT, keep_default_na=False)
    return set(spreadsheet.exact(scores)["video"])


def _presentations(planned: pd.DataFrame, found: pd.DataFrame, responses: set[str], rates: Mapping) -> list[dict]:
    """Returns a row for each species of the plan, live faces last.

    planned, captured: numbers of presentations. non_response: of the captured ones, those without a score. rate: the
    exact interval (`exact.rate`) of APCER, or of BPCER for live; None without a response.
    """
    rows = []
    for species in sorted(planned["species"].unique(), key=lambda name: (name == schema.LIVE, name)):
        captured = found["file"][found["species"] == species]
        rows.append({
            "species": species,
            "planned": int((planned["species"] == species).sum()),
            "captured": len(captured),
            "non_response": int((~captured.isin(responses)).sum()),
            "rate": rates.get("bpcer") if species == schema.LIVE else rates.get("apcer", {}).get(species),
        })  # fmt: skip
    return rows

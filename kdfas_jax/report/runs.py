"""Reads evaluated runs from their folders: the teachers on a student's page, and runs to compare."""

import os
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdfas_jax.report import spreadsheet, summary
from kdfas_jax.report.parts import Evaluated
from kdfas_jax.runs import files, workdir

# Columns of scores.csv: texts that may look like numbers, and numbers that may be empty.
TEXT = dict.fromkeys(("dataset", "video", "subject", "species"), str)
NUMBERS = ("label", "score")


def read(folder: str) -> Evaluated:
    """Reads eval/results.json and the test rows of eval/scores.csv of a run; a run over folds has no such rows.

    Raises FileNotFoundError, with the command to give, where the run is not evaluated.
    """
    path = os.path.join(folder, "eval", "results.json")
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; make it by: python main.py --mode=eval --workdir={folder}")
    results = workdir.evaluated(folder)
    scores = os.path.join(folder, "eval", "scores.csv")
    if results["folds"] or not files.exists(scores):
        return Evaluated(results)
    with files.local(scores) as path:  # opened as bytes: text mode would turn a carriage return in a name into \n
        rows = pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values={name: [""] for name in NUMBERS})
    rows = spreadsheet.exact(rows)
    return Evaluated(results, summary.presentations(rows[rows["split"] == "test"]))


def made(folder: str) -> dict[str, Any]:
    """Returns config.json of the run in `folder` and the `date` of today (UTC); the date alone where there is none."""
    note = workdir.read(folder) if files.exists(os.path.join(folder, "config.json")) else {}
    return {**note, "date": time.strftime("%Y-%m-%d", time.gmtime())}


def teachers_of(results: Mapping[str, Any]) -> dict[str, Evaluated]:
    """Reads the teachers of a run with these `results` that were evaluated on the same protocol and data set.

    A teacher whose folder no longer exists is left out.
    """
    homes = {name: facts["run"] for name, facts in results.get("teachers", {}).items() if facts["run"]}
    found = {name: read(home) for name, home in homes.items() if workdir.evaluated(home)}
    same = (results["protocol"], results["config"]["data"]["dataset"])
    return {
        name: run
        for name, run in found.items()
        if summary.detects(run.results) and (run.results["protocol"], run.results["config"]["data"]["dataset"]) == same
    }

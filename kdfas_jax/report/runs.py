"""Evaluated runs, read back from their folders: teachers for a student's page, and runs to be compared."""

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdfas_jax.report import spreadsheet, summary
from kdfas_jax.report.parts import Evaluated
from kdfas_jax.runs import workdir

# Columns of scores.csv: those that may look like numbers, and those that are, but empty in rows of other kinds.
TEXT = dict.fromkeys(("dataset", "video", "subject", "species"), str)
NUMBERS = ("label", "score")


def read(folder: str) -> Evaluated:
    """eval/results.json and the test rows of eval/scores.csv of a run (None over folds, which have none of the whole).

    FileNotFoundError, with the command, where the run is not evaluated.
    """
    path = os.path.join(folder, "eval", "results.json")
    if not workdir.exists(path):
        raise FileNotFoundError(f"{path} does not exist; make it by: python main.py --mode=eval --workdir={folder}")
    results = workdir.evaluated(folder)
    scores = os.path.join(folder, "eval", "scores.csv")
    if results["folds"] or not workdir.exists(scores):
        return Evaluated(results)
    with workdir.local(scores) as path:  # not as text, which would turn a carriage return in a name into \n
        rows = pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values={name: [""] for name in NUMBERS})
    rows = spreadsheet.exact(rows)
    return Evaluated(results, summary.presentations(rows[rows["split"] == "test"]))


def teachers_of(results: Mapping[str, Any]) -> dict[str, Evaluated]:
    """The teachers that a run of these `results` was trained with and that were evaluated on its protocol and data set.

    Only those whose folder is still where it was.
    """
    homes = {name: facts["run"] for name, facts in results.get("teachers", {}).items() if facts["run"]}
    found = {name: read(home) for name, home in homes.items() if workdir.evaluated(home)}
    same = (results["protocol"], results["config"]["data"]["dataset"])
    return {
        name: run
        for name, run in found.items()
        if summary.detects(run.results) and (run.results["protocol"], run.results["config"]["data"]["dataset"]) == same
    }

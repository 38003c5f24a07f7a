"""Reads evaluated runs from their folders: the teachers on a student's page, and runs to compare."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.special import expit, logit

from kdfas_jax.metrics import detection
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
    rows = _scores(folder)
    return Evaluated(results) if results["folds"] or rows is None else Evaluated(results, rows[rows["split"] == "test"])


def _scores(folder: str) -> pd.DataFrame | None:
    """The presentations in eval/scores.csv of a run; None where it has none."""
    scores = os.path.join(folder, "eval", "scores.csv")
    if not files.exists(scores):
        return None
    with files.local(scores) as path:  # opened as bytes: text mode would turn a carriage return in a name into \n
        rows = pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values={name: [""] for name in NUMBERS})
    return summary.presentations(spreadsheet.exact(rows))


def together(folders: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of dev and test of an ensemble of evaluated runs: {role: figures with ci95}, {} where there are none.

    Its score is P(live) of the mean of the members' logits, from each video's score; the threshold is dev's EER. For
    one run these are its own figures.
    """
    keys = ["split", "dataset", "video", "subject", "species", "label"]
    found = [_scores(folder) for folder in folders]
    if any(rows is None for rows in found):
        return {}
    members = [rows.set_index(keys)["score"].clip(1e-7, 1 - 1e-7) for rows in found]
    if any(not of.index.equals(members[0].index) for of in members[1:]):
        return {}
    rows = pd.Series(expit(sum(map(logit, members)) / len(members)), members[0].index, name="score").reset_index()
    splits = {role: part for role, part in rows.groupby("split") if part["label"].nunique() == 2}
    threshold = detection.eer_threshold(splits["dev" if "dev" in splits else "test"])[0] if splits else 0.5
    return {
        role: detection.figures(part, threshold) | {"ci95": detection.confidence(part, threshold)}
        for role, part in splits.items()
        if role in ("dev", "test")
    }


def gate(config, teachers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the teacher of the class distribution knows on dev that the student's control does not.

    teachers: the facts of the run's teachers (`commands.provenance`). Returns {teacher: {runs, auc, ci95}, control: the
    same, or None where `config.control` names no finished run, better: whether the teacher's AUC is higher, or None};
    {} where no term of kind kl is read, or the teacher has no scores on dev.
    """
    named = [term.teacher.split("+") for term in config.terms.values() if term.kind == "kl" and term.weight]
    runs = [teachers[name]["run"] for name in named[0]] if named and set(named[0]) <= set(teachers) else []
    teacher = _on_dev(runs)
    if not teacher:
        return {}
    control = _on_dev([config.control] if config.get("control") else [])
    return {
        "teacher": teacher,
        "control": control,
        "better": None if control is None else bool(teacher["auc"] > control["auc"]),
    }


def _on_dev(runs: list[str]) -> dict[str, Any] | None:
    dev = together(runs).get("dev") if runs and all(runs) else None
    return dev and {"runs": runs, "auc": dev["auc"], "ci95": dev["ci95"].get("auc")}


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

"""A protocol of several folds (3 is 3.1 to 3.6): each fold is a run in FOLDER/<fold>, and FOLDER has the mean and the
population standard deviation of every figure over the folds (docs/evaluation.md)."""

import copy
import json
import os
from collections.abc import Mapping, Sequence

import jax
import ml_collections
import numpy as np

from kdfas_jax import targets
from kdfas_jax.metrics.detection import OPERATING_POINTS
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report.parts import Shown
from kdfas_jax.runs import files, identity
from kdfas_jax.runs.results import Results

FIGURES = ("dev", "test", "literature")
OF_A_FOLD = ("protocol", "step", "finished", "threshold", "teachers", *FIGURES)
SUMMED = ("counts", "non_response", "missing")
LEFT_OUT = ("ci95", "exact", "groups")  # of one fold: intervals, and its worst groups; `deviation` has the spread


def home(folder: str, fold: str) -> str:
    """The folder of the run of `fold` ('siw:2.1') below that of all folds: FOLDER/siw-2.1."""
    return os.path.join(folder, fold.replace(":", "-"))


def config_of(config, fold: str) -> ml_collections.ConfigDict:
    """A copy of `config` for one of the folds of its protocol.

    Teachers under the same protocol get the same fold, whether they share `config.data` or, as after JSON, hold a
    copy: else they would have been trained on what the fold tests.
    """
    run = copy.deepcopy(config)
    _replace(run, config.data.protocol, fold)
    return run


def _replace(config, protocol: str, fold: str) -> None:
    if config.data.protocol == protocol:
        config.data.protocol = fold
    for teacher in config.teachers.values():
        _replace(teacher.config, protocol, fold)


def combine(config, results: Sequence[Mapping]) -> Results:
    """Combines the contents of the folds' results.json to one for the `config` of the whole protocol.

    Figures of `dev`, `test` and `literature` are means over folds; a species counts in the folds that have it;
    `deviation` beside them has the population standard deviations; counts and non-responses are sums, so that a
    subject counts once a fold. `folds` has each fold's own.
    """
    role, point = "dev" if results[0]["dev"] else "train", OPERATING_POINTS[config.eval.threshold]
    return {
        "config": identity.plain(config),
        "step": None,
        "finished": all(result["finished"] for result in results),
        "protocol": config.data.protocol,
        "threshold": {"value": None, "source": f"{point} of {role}, each fold its own"},
        **{part: _over_folds([result[part] for result in results]) for part in FIGURES},
        "sources": {
            role: sorted({domain for result in results for domain in result["sources"][role]})
            for role in results[0]["sources"]
        },
        "params": results[0]["params"],
        "teachers": shared_facts([result["teachers"] for result in results]),
        **shared_facts([{key: result[key] for key in ("init",) if key in result} for result in results]),
        "folds": [{key: result[key] for key in OF_A_FOLD} for result in results],
    }


def shared_facts(by_fold: Sequence[Mapping[str, Mapping]]) -> dict[str, dict]:
    """Returns the facts of each teacher that agree in all folds, and None for the others.

    Where each fold has a fold of the teacher, `run` is the folder of all; `overlap` has each fold's that differs.
    """
    found = {}
    for name in by_fold[0]:
        facts = [taught[name] for taught in by_fold]
        same = {key: value if all(other[key] == value for other in facts) else None for key, value in facts[0].items()}
        parents = {os.path.dirname(of["run"]) for of in facts}
        run = same["run"] or (parents.pop() if len(parents) == 1 else None)
        found[name] = {**same, "run": run, "overlap": "; ".join(dict.fromkeys(of["overlap"] for of in facts))}
    return found


def _over_folds(parts: Sequence[Mapping]) -> dict:
    means, deviations = _spread(parts)
    return means | ({"deviation": deviations} if deviations else {})


def _spread(parts: Sequence[Mapping]) -> tuple[dict, dict]:
    """Returns mean and population standard deviation of each figure over the `parts` that have it; sums `SUMMED`."""
    means, deviations = {}, {}
    for name in dict.fromkeys(name for part in parts for name in part if name not in LEFT_OUT):
        values = [part[name] for part in parts if name in part]
        if name in SUMMED:
            means[name] = _total(values)
        elif isinstance(values[0], Mapping):
            means[name], deviations[name] = _spread(values)
        else:
            means[name], deviations[name] = float(np.mean(values)), float(np.std(values))
    return means, deviations


def _total(values: Sequence[int | Mapping[str, int]]) -> int | dict[str, int]:
    if not isinstance(values[0], Mapping):
        return sum(values)
    return {name: sum(value.get(name, 0) for value in values) for name in dict.fromkeys(n for v in values for n in v)}


def write(config, folder: str, results: Sequence[Mapping]) -> Results:
    """Writes the folds' combined results to FOLDER/report/index.html and FOLDER/eval/results.json; returns them."""
    combined = combine(config, results)
    if jax.process_index() == 0:
        shown = Shown(teachers=report_runs.teachers_of(combined), made=report_runs.made(folder))
        page = targets.get(config.data.target).page(combined, shown)
        files.write_atomically(os.path.join(folder, "report", "index.html"), page)
        # Last: where it says so, all folds are finished.
        files.write_atomically(os.path.join(folder, "eval", "results.json"), json.dumps(combined, indent=2))
    return combined

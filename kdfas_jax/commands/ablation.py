"""Named variants of one config over seeds: trains what is missing, writes the mean-and-deviation table.

A variant is a set of config overrides. All variants of one seed share its teacher, its initial parameters and its
order of batches, so that they differ in nothing but the overrides.
"""

import copy
import fnmatch
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline.stream import views
from kdfas_jax import targets
from kdfas_jax.commands import evaluate, train
from kdfas_jax.metrics import paired, stability
from kdfas_jax.report import plots, summary
from kdfas_jax.report import runs as report_runs
from kdfas_jax.runs import files, workdir
from kdfas_jax.training import validate
from kdfas_jax.training.journal import NonFiniteLossError

logger = logging.getLogger(__name__)

ENSEMBLE = "teachers together"  # the row of an ensemble's mean logits
FIGURES = ("auc", "eer", "acer", "apcer_max", "bpcer", "hter")
STABLE = ("flips", "apcer_stop")  # of decisions in other views, where these are measured


def ablate(config, folder: str, *, missing: bool = True) -> str:
    """Runs the study `config` in `folder`; returns the tables, which it also writes.

    config: {base, names, variants, seeds, controls, budgets}, as configs/ablation.py makes it.

    FOLDER/<variant>-seed<n> holds each run; a finished one is not run again. table.{md,csv,tex}, paired.csv, runs.csv
    and with several `budgets` budgets.svg are written after every run, so a cut-off study leaves what it has.
    Deviations are over seeds, n - 1 in the divisor. `controls` names the variant that each variant is compared with,
    seed by seed (`paired`). A run that stops at a non-finite loss has diverged: it is counted, has no figures and is
    not run again either.
    missing: train the runs that are missing; else the finished ones are evaluated again, the table is of them alone,
    and a warning names the others. FileNotFoundError where none is finished.
    """
    validate.check(config)
    for name in config.names:
        validate.check(variant(config.base, config.variants[name], config.seeds[0]), f"config.variants.{name}")
    judged = [name for name, teacher in config.base.teachers.items() if targets.get(teacher.config.data.target).detects]
    figures: paired.Studies = {name: {} for name in config.names}
    taught = Taught({})
    table, left_out = "", []
    for seed in config.seeds:
        for name in config.names:
            run = variant(config.base, config.variants[name], seed)
            home = os.path.join(folder, f"{name}-seed{seed}")
            if (control := config.get("controls", {}).get(name, name)) != name:
                run.control = os.path.join(folder, f"{control}-seed{seed}")
            results = workdir.results(run, home)
            if not missing and results is None and not _diverged(home):
                left_out.append(home)
                continue
            if not missing and results:
                results = evaluate.evaluate_run(home)
            if results is None and not _diverged(home):
                logger.info("variant %s, seed %d, in %s", name, seed, home)
                try:
                    results = train.train(run, home)
                except NonFiniteLossError as error:
                    logger.warning("%s", error)
            if results:
                taught.add(results, name, seed, judged)
            figures[name][seed] = results
            table = _write(folder, taught.figures() | figures, config)
    if left_out and not table:
        raise FileNotFoundError(f"no run of the study is finished, {left_out[0]} nor any other; leave --mode=eval out")
    if left_out:
        logger.warning("%d runs are not finished and not in the table: %s", len(left_out), ", ".join(left_out))
    return table


class Taught(NamedTuple):
    """The teachers of a study: {(teacher, variant of the student): {seed: (runs of the teacher, their results)}}."""

    found: dict[tuple[str, str], dict[int, tuple[list[str], dict]]]

    def add(self, results: dict, student: str, seed: int, judged: Sequence[str]) -> None:
        """Adds the teachers of one run that `judged` names, and the ensemble of its teachers if there is one."""
        for teacher, of in report_runs.teachers_of(results).items():
            if teacher in judged:
                home = results["teachers"][teacher]["run"]
                self.found.setdefault((f"teacher {teacher}", student), {})[seed] = [home], of.results
        members = results.get("gate", {}).get("teacher", {}).get("runs", [])
        if len(members) > 1:
            self.found.setdefault((ENSEMBLE, student), {})[seed] = members, report_runs.together(members)

    def figures(self) -> paired.Studies:
        """Results by row of the table and by seed. Variants with the same teachers share a row.

        The row of the first teachers is named after the teacher alone, each further one after its variant, too.
        """
        rows: paired.Studies = {}
        first: dict[str, list[tuple[str, dict]]] = {}  # row's name -> the rows of different teachers
        for (name, student), by_seed in self.found.items():
            known = first.setdefault(name, [])
            of = {seed: runs for seed, (runs, _) in by_seed.items()}
            row = next((row for row, other in known if any(other.get(seed) == of[seed] for seed in of)), "")
            if not row:
                row = f"{name} of {student}" if known else name
                known.append((row, of))
            rows.setdefault(row, {}).update({seed: results for seed, (_, results) in by_seed.items()})
        return rows


def variant(base, overrides, seed: int) -> ml_collections.ConfigDict:
    """A copy of `base` with nested `overrides` and `seed`; KeyError or TypeError names a key that does not fit."""
    run = copy.deepcopy(base)
    run.lock()
    run.update(overrides)
    run.seed = seed
    return run


def _diverged(home: str) -> bool:
    """Whether the run in `home` has stopped at a non-finite loss (`journal`)."""
    return bool(fnmatch.filter(files.names(home), "nonfinite-step*.json"))


def _write(folder: str, results: paired.Studies, config) -> str:
    controls = config.get("controls", {})
    figures = {name: {seed: of and of["test"] for seed, of in by.items()} for name, by in results.items()}
    shown = _figures(figures)
    rows = {name: _summary(list(by_seed.values()), shown) for name, by_seed in figures.items() if by_seed}
    table = summary.markdown(rows, corner="test, % (AUC as a fraction)")
    taught = {name: next(iter(controls.values()), "") for name in results if name not in controls}
    differences = paired.rows(results, taught | dict(controls))
    if differences:
        table += "\n\n" + summary.markdown(differences, corner="AUC, own minus control's")
    if jax.process_index() == 0:
        runs = [
            {
                "variant": name,
                "seed": seed,
                **{figure: _headline(test or {}).get(figure, np.nan) for figure in shown},
            }
            for name, by_seed in figures.items()
            for seed, test in by_seed.items()
        ]
        cells, compared = ([{"variant": name, **row} for name, row in of.items()] for of in (rows, differences))
        for name, text in (
            ("table.md", f"    python {' '.join(sys.argv)}\n\n{table}\n"),
            ("table.csv", pd.DataFrame(cells).to_csv(index=False)),
            ("table.tex", _latex(cells)),
            ("runs.csv", pd.DataFrame(runs).to_csv(index=False)),
            ("paired.csv", pd.DataFrame(compared).to_csv(index=False)),
        ):
            files.write_atomically(os.path.join(folder, name), text)
        if len(set(config.get("budgets", {}).values())) > 1 and (gains := _gains(results, config)):
            plot = plots.standalone(plots.gains(gains))
            files.write_atomically(os.path.join(folder, "budgets.svg"), plot)
    return table


def _gains(results: paired.Studies, config) -> dict[str, dict[float, np.ndarray]]:
    """{variant: {budget: AUC on test minus the control's [seeds]}} of the variants that have figures by now."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for row, control in config.controls.items():
        difference = paired.differences(results[row], results[control], "test") if row != control else ()
        if len(difference):
            budget = config.budgets[row]
            found.setdefault(row.removesuffix(f"-x{budget:g}"), {})[budget] = difference
    return found


def _figures(figures: dict[str, dict[int, dict | None]]) -> tuple[str, ...]:
    """The table's figures: of detection, and of stability and of the second task where some run has them."""
    tests = [test for by_seed in figures.values() for test in by_seed.values() if test]
    more = (*STABLE, *summary.TWO_TASKS)
    return FIGURES + tuple(name for name in more if any(name in _headline(test) for test in tests))


def _headline(test: dict) -> dict[str, float]:
    """The headline figures of a run's test split, and two of the stability of its decisions.

    flips: the share of decisions that flip with any face box or exposure. apcer_stop: the largest APCER with the light
    one stop up or down, divided by that of the same images as they are; left out where the latter is 0.
    """
    found, stable = summary.headline(test), test.get("stability", {})
    if stable:
        found["flips"] = stable["any_box_or_exposure"]
        before = stable[stability.AS_IS]["apcer_max"]
        after = max(stable["views"][name]["apcer_max"] for name in views.EXPOSURE)
        found |= {"apcer_stop": after / before} if before else {}
    return found


def _summary(tests: list[dict | None], shown: tuple[str, ...]) -> dict[str, str]:
    """A row's cells: how many runs there are, how many diverged, and mean and deviation of each figure `shown`."""
    finished = [_headline(test) for test in tests if test]
    cells = {"seeds": str(len(tests)), "diverged": str(len(tests) - len(finished))}
    for figure in shown:
        values = np.array([test[figure] for test in finished if figure in test])
        values, digits = (values, 4) if summary.is_area(figure) else (100 * values, 2)
        spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
        cells[figure] = f"{values.mean():.{digits}f}{spread}" if len(values) else "-"
    return cells


def _latex(cells: list[dict[str, str]]) -> str:
    lines = [" & ".join(row.values()).replace("±", "$\\pm$").replace("_", r"\_") + r" \\" for row in cells]
    head = " & ".join(cells[0]).replace("_", r"\_") + r" \\"
    body = "\n".join([head, r"\midrule", *lines])
    return (
        f"\\begin{{tabular}}{{{'l' + 'r' * (len(cells[0]) - 1)}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )

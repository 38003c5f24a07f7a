"""Measure a trained run on other labelled data, with the threshold of the run -> RUN/eval-on-NAME/."""

import copy
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import pandas as pd

from input_pipeline import datasets
from input_pipeline.select import roles
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate, provenance
from kdfas_jax.metrics import authentication
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.parallel import sharding
from kdfas_jax.report import page as pages
from kdfas_jax.report import summary, system
from kdfas_jax.runs import files, lock, released, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.targets import label, label_identity
from kdfas_jax.training import step, teachers


def evaluate_on(
    folder: str,
    on: str,
    options: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    output: str = "",
) -> tuple[Results, str]:
    """Evaluates the run in `folder` on other data; returns (results.json's content, the folder that it is in).

    Args:
      folder: an evaluated run that detects attacks; its threshold is applied unchanged.
      on: 'DATASET:RAW', a reader and the raw data, or 'DATASET' where the records exist.
      options: options of the reader, in addition to the run's where it reads the same data set.
      changes: values for keys of place and runtime, as in `evaluate.evaluate_run`.
      output: a folder; FOLDER/eval-on-NAME by default, for the released model runs/released-results/eval-on-NAME.

    The examples are those of the set's test split, or all where it has none. The content is that of the run's
    results.json with the `test` and `literature` of this set, and `on`: the `dataset`, `raw_dir`, `split` ('test' or
    'all'), `seen` ('none', or which of these videos and people the run has seen) and `eer`, the error rates at the
    threshold of the set's own EER, for reference only. A run that recognises people also has `test.system`, at its own
    two thresholds, where two people or more have two bona fide videos. Raises ValueError or FileNotFoundError for a run
    that is not evaluated or does not detect attacks, for data without both classes, and where `output` holds other
    data.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    config.update_from_flattened_dict(changes or {})
    own = _evaluated(folder, config)
    target = targets.get(config.data.target)
    config.data = _data_config(config.data, on, options or {})
    place = {"dataset": config.data.dataset, "raw_dir": config.data.raw_dir and os.path.abspath(config.data.raw_dir)}
    output = output or os.path.join(released.beside(folder), f"eval-on-{_name(**place)}")
    _check_output(output, place)
    with lock.held(released.beside(folder)):
        data, split = _open(config.data)
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_batch(mesh, {"config.eval.batch_size": config.eval.batch_size})
        loaded = teachers.load(folder, mesh)
        score = step.make_score(loaded.module, mesh, target.read)  # P(live) first
        read = evaluate.read_role(score, loaded.variables, data, "test", config, mesh)
        videos = label.score_videos(read, data)
        judged = label.figures_on_test(videos, data, own["threshold"])
        judged["test"] |= _system(read, videos, data, own["threshold"]) if target.recognises else {}
        value = own["threshold"]["value"]
        judged["test"] |= evaluate.robustness(score, loaded, data, config, mesh, value)
        at = metrics.eer_threshold(videos)[0]
        facts = {**place, "split": split, "seen": seen_before(folder, data), "eer": {"threshold": at}}
        facts["eer"] |= metrics.at_threshold(videos, at)
        sources = {**own["sources"], "test": data.sources["test"]}
        results = own | judged | {"protocol": f"{split} of {config.data.dataset}", "sources": sources, "on": facts}
        seen = evaluate.faces_of_errors(config, loaded, data, mesh, videos, value)
        if jax.process_index() == 0:
            shown = evaluate.shown_of(folder, data, videos, seen)
            page = pages.detection(results, shown, system.of_run(results))
            files.write_atomically(os.path.join(output, "scores.csv"), evaluate.scores_csv({"test": videos}))
            files.write_atomically(os.path.join(output, "index.html"), page)
            files.write_atomically(os.path.join(output, "results.json"), json.dumps(results, indent=2))
    return results, output


def _system(read: pd.DataFrame, videos: pd.DataFrame, data: Data, threshold: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {'system': figures of the attempts to be let in}, or {} where too few people have two live videos."""
    tried = label_identity.attempts(read, videos, data)
    if not len(tried):
        return {}
    return {"system": authentication.figures(tried, threshold["match"]["value"], threshold["value"])}


def table(results: Mapping[str, Any]) -> str:
    """Returns the figures of `evaluate_on` as text: at the run's threshold, and the error rates at the set's own."""
    rows = {"threshold of the run": summary.row(results)}
    at_own = summary.row({"test": results["on"]["eer"]})
    rows["threshold of the set's own EER"] = {name: at_own.get(name, "") for name in rows["threshold of the run"]}
    return summary.markdown(rows, corner="test, % (AUC as a fraction)")


def _evaluated(folder: str, config) -> dict[str, Any]:
    """Returns the run's results.json; ValueError or FileNotFoundError where it has no threshold to apply."""
    if not targets.get(config.data.target).detects:
        raise ValueError(f"{folder} has config.data.target={config.data.target!r}; expected a run that detects attacks")
    own = workdir.evaluated(folder)
    if own.get("folds"):
        raise ValueError(f"{folder} has several folds, each with a threshold; give the folder of one as --workdir")
    if "temperature" not in own.get("threshold", {}):
        raise FileNotFoundError(
            f"{folder}/eval/results.json has no threshold of this version; make it by: python main.py --mode=eval "
            f"--workdir={folder}"
        )
    return own


def _data_config(config, on: str, options: Mapping[str, Any]):
    """Returns `config` (config.data) for the data set `on` and target 'label'."""
    dataset, _, raw_dir = on.partition(":")
    known = datasets.options(datasets.get(dataset))
    kept = dataset in config.dataset.split("+")
    own = {name: value for name, value in config.options.items() if kept and name in known}
    other = copy.deepcopy(config)
    other.unlock()
    other.update({"dataset": dataset, "raw_dir": raw_dir, "target": "label"})
    other.options = {**own, **options}
    return other


def _open(config) -> tuple[Data, str]:
    """Returns the examples of `config` (config.data) with role 'test' for those that are measured, and their split."""
    everything = pipeline.gather(config)
    split = "test" if (everything.table["split"] == "test").any() else "all"

    def tested(rows: pd.DataFrame) -> pd.DataFrame:
        chosen = (rows["label"] >= 0) & ((split == "all") | (rows["split"] == "test"))
        return rows.assign(role=chosen.map({True: "test", False: ""}))

    table = tested(everything.table)
    table["domain"] = roles.domains(table, config.domain_by)
    sources = {"test": sorted(table["domain"][table["role"] == "test"].unique())}
    missing = everything.missing if everything.missing is None else tested(everything.missing)
    data = everything._replace(table=table, sources=sources, missing=missing)
    metrics.check(table[data.has_face("test")].assign(score=0.0), f"--on={config.dataset}")
    return data, split


def seen_before(folder: str, data: Data) -> str:
    """Returns in words which tested videos and people of `data` the run in `folder` has seen; 'none' for none."""
    seen = provenance.seen_by(folder)
    if seen is None:
        return provenance.UNKNOWN
    return "; ".join(provenance.meetings(seen, data.table[data.table["role"] == "test"])) or provenance.NONE


def _name(dataset: str, raw_dir: str) -> str:
    """'folder', '/data/my pictures' -> 'folder-my_pictures'."""
    stem = os.path.splitext(os.path.basename(os.path.normpath(raw_dir)))[0] if raw_dir else ""
    return re.sub(r"[^\w.=+-]+", "_", f"{dataset}-{stem}" if stem else dataset)


def _check_output(output: str, place: Mapping[str, str]) -> None:
    path = os.path.join(output, "results.json")
    there = json.loads(files.read_text(path)).get("on", {}) if files.exists(path) else place
    if any(there.get(key) != value for key, value in place.items()):
        raise ValueError(
            f"{output} holds the results on {there.get('raw_dir') or there.get('dataset')}, not on "
            f"{place['raw_dir'] or place['dataset']}; give another folder as --output"
        )

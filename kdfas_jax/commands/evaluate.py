"""Scores dev and test with a run's best checkpoint and writes results.json, scores.csv and the report."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline import tables
from input_pipeline.select import protocols
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import folds, provenance
from kdfas_jax.commands.robustness import stability, whitebox
from kdfas_jax.metrics import amounts
from kdfas_jax.parallel import sharding
from kdfas_jax.report import explain, summary
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report.parts import Looked, Shown, pictured
from kdfas_jax.report.spreadsheet import neutralised
from kdfas_jax.runs import files, identity, lock, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.targets import label
from kdfas_jax.training import journal, optim, step, teachers

ADAPTED = "adapted.json"  # in the folder of a run that --mode=adapt made

logger = logging.getLogger(__name__)


def score_examples(score, variables, batches: Iterable[dict[str, np.ndarray]], mesh) -> pd.DataFrame:
    """What `score` keeps of every example of a test stream [n, d], indexed by the example; the same on every host."""
    found: dict[int, np.ndarray] = {}
    for local in batches:
        values, index, mask = jax.device_get(score(variables, sharding.place_batch(mesh, local)))
        kept = mask > 0
        found.update(zip(index[kept].tolist(), values[kept], strict=True))
    rows = sorted(found)
    return pd.DataFrame(np.array([found[row] for row in rows], float).reshape(len(rows), -1), index=rows)


def read_role(score, variables, data: Data, role: str, config, mesh) -> pd.DataFrame:
    """Returns what `score` keeps of the examples of a role ('train', 'dev', 'test') of `data`, as `score_examples`."""
    hosts = (jax.process_index(), jax.process_count())
    batches = pipeline.test_batches(data, data.rows(role), config.data, batch_size=config.eval.batch_size, shard=hosts)
    return score_examples(score, variables, batches, mesh)


def score_role(score, variables, data: Data, role: str, config, mesh) -> pd.DataFrame:
    """Returns the examples of a role of `data`, scored as the run's target says."""
    return targets.get(config.data.target).scored(read_role(score, variables, data, role, config, mesh), data)


def open_data(config, folder: str) -> Data:
    """The data of the run in `folder`; errors as of `pipeline.open_data` and `check_data`."""
    data = pipeline.open_data(config.data, targets.get(config.data.target))
    check_data(folder, data.fingerprint)
    return data


def check_data(folder: str, fingerprint: str) -> None:
    """Raises ValueError where the run in `folder` was trained on data of another `fingerprint`."""
    made_with = workdir.read(folder)["data_fingerprint"]
    if made_with != fingerprint:
        raise ValueError(
            f"the records have changed since the run was trained (data_fingerprint {made_with[:12]} in "
            f"{folder}/config.json, {fingerprint[:12]} now): expected the same; copy those records to its "
            f"config.data.data_dir, or train anew with another --workdir"
        )


def evaluate(config, folder: str) -> Results:
    """Evaluates the run in `folder`, writes eval/ and report/ there, and returns the content of results.json."""
    target = targets.get(config.data.target)
    data = open_data(config, folder)
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, {"config.eval.batch_size": config.eval.batch_size})
    loaded = teachers.load(folder, mesh)
    score = step.make_score(loaded.module, mesh, target.read)
    scored = {role: score_role(score, loaded.variables, data, role, config, mesh) for role in target.scored_roles(data)}
    total = optim.total_steps(config.train, data.count("train"))
    taught, counted = provenance.taught_by(folder), teachers.parameters(config)
    for name, facts in taught.items():
        if facts["parameters"] is not None:  # of the run that was used, which may differ from the config's
            counted["teachers"][name] = facts["parameters"]
            counted["training_only"]["teachers"][name] = facts["training_only_parameters"]
    begun = provenance.started_from(folder)
    results = Results(
        config=identity.plain(config),
        step=loaded.step,
        finished=loaded.trained == total,
        steps={"trained": loaded.trained, "total": total},
        protocol=config.data.protocol,
        **target.results(scored, data, config.eval.threshold),
        sources=data.sources,
        params=counted,
        teachers=taught,
        folds=[],
        **({"init": begun} if begun else {}),
        **_adapted(folder),
    )
    if gate := report_runs.gate(config, taught) if target.detects else {}:
        results["gate"] = gate
        for sentence in summary.gate_note(gate):
            logger.warning("warning: %s", sentence)
    seen = None
    if target.detects:
        videos, threshold = summary.presentations(scored["test"]), results["threshold"]["value"]
        results["test"] |= robustness(score, loaded, data, config, mesh, threshold)
        seen = faces_of_errors(config, loaded, data, mesh, videos, threshold)
    if jax.process_index() == 0:
        _write(folder, results, scored, seen, data)
    return results


def robustness(score, loaded: teachers.Teacher, data: Data, config, mesh, threshold: float) -> dict[str, Any]:
    """Returns the part of `test` of results.json on what decisions withstand; `score` comes from `step.make_score`."""

    def scored(score, batches: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
        return score_examples(score, loaded.variables, batches, mesh)

    found = {
        "stability": stability.measure(lambda batches: scored(score, batches), data, config, threshold),
        "whitebox": whitebox.measure(scored, loaded.module, data, config, mesh, threshold),
    }
    return {name: of for name, of in found.items() if of}


def _adapted(folder: str) -> dict[str, Any]:
    """Returns {'adapted': what an adaptation changed} of a run that --mode=adapt made (`adapt.measured`), else {}."""
    path = os.path.join(folder, ADAPTED)
    return {"adapted": json.loads(files.read_text(path))} if files.exists(path) else {}


def faces_of_errors(
    config, loaded: teachers.Teacher, data: Data, mesh, videos: pd.DataFrame, threshold: float
) -> dict[tuple[str, str], Looked]:
    """`look` at the `pictured` videos of test; faces of real people, and heat maps, only with `config.report.faces`."""
    faces = config.report.faces
    chosen = pictured(videos, threshold, faces)
    return look(loaded.module, loaded.variables, data, config.data, mesh, chosen, attend=faces)


def look(
    model, variables, data: Data, config, mesh, wrong: pd.DataFrame, *, attend: bool = True
) -> dict[tuple[str, str], Looked]:
    """Returns {(dataset, video): Looked}: the middle frame of each of the videos `wrong`, and the model's attention.

    Grad-CAM asks for what speaks against the video's label, as for the decision where that was wrong. Without
    `attend`, the attention is left out, and the model is not run.
    """
    if wrong.empty:
        return {}
    videos = data.table.iloc[data.rows("test")].groupby(["dataset", "video"]).groups
    keys = {videos[key][len(videos[key]) // 2]: key for key in zip(wrong["dataset"], wrong["video"], strict=True)}
    rows = np.array(sorted(keys))
    batch = next(pipeline.test_batches(data, rows, config, batch_size=len(rows), shard=(0, 1)))
    if not attend:
        return {keys[row]: Looked(image) for row, image in zip(batch["index"].tolist(), batch["image"], strict=True)}
    labels = data.table["label"].to_numpy()[batch["index"]]

    def attention(variables, image, towards):
        return explain.attention(model, variables, step.images_of({"image": image}), towards)

    heat = jax.jit(attention, out_shardings=sharding.replicated(mesh))(variables, batch["image"], 1 - labels)
    found = zip(batch["index"].tolist(), batch["image"], jax.device_get(heat), strict=True)
    return {keys[row]: Looked(image, where) for row, image, where in found}


def evaluate_run(folder: str, changes: Mapping[str, Any] | None = None) -> Results:
    """`evaluate` with the config that the run itself was made by, each fold of a protocol of several.

    changes: {'report.faces': True}, values for keys of place and runtime in place of the run's own (`overrides`).
    FileNotFoundError where there is no run, or a fold of it is missing; `lock.LockedError` where it is being trained.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    config.update_from_flattened_dict(changes or {})
    names = protocols.folds(config.data.protocol)
    with lock.held(folder):
        if len(names) == 1:
            return evaluate(config, folder)
        homes = [folds.home(folder, name) for name in names]
        if missing := [home for home in homes if not files.exists(os.path.join(home, "config.json"))]:
            raise FileNotFoundError(
                f"{missing[0]} does not exist; train all folds first, with the command in config.json"
            )
        return folds.write(config, folder, [evaluate_run(home, changes) for home in homes])


def scores_csv(scored: dict[str, pd.DataFrame]) -> str:
    """Returns the text of eval/scores.csv, which `report_runs.read` reads: the rows of {role: scored rows}.

    Texts that a spreadsheet would run are neutralised.
    """
    rows = pd.concat([rows.assign(split=role) for role, rows in scored.items()])
    return tables.to_csv(neutralised(rows[["split", *rows.columns.drop("split")]]))


def shown_of(folder: str, data: Data, videos: pd.DataFrame, seen: dict) -> Shown:
    """Returns what the page shows of the run in `folder`, the test `videos` and the `data` that they are from."""
    return Shown(
        videos=videos,
        seen=seen,
        groups=None if seen is None else label.groups(videos, data),
        splits=amounts.counted(data.table),
        made=report_runs.made(folder),
    )


def _write(folder: str, results: dict, scored: dict[str, pd.DataFrame], seen: dict, data: Data) -> None:
    files.write_atomically(os.path.join(folder, "eval", "scores.csv"), scores_csv(scored))
    shown = shown_of(folder, data, summary.presentations(scored["test"]), seen)
    shown = shown._replace(journal=journal.read(folder), teachers=report_runs.teachers_of(results))
    page = targets.get(results["config"]["data"]["target"]).page(results, shown)
    files.write_atomically(os.path.join(folder, "report", "index.html"), page)
    # Last: where it says so, the run is finished.
    files.write_atomically(os.path.join(folder, "eval", "results.json"), json.dumps(results, indent=2))

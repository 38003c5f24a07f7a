"""Score every video of dev and test with a run's best checkpoint -> results.json, scores.csv, the report."""

import json
import os
from collections.abc import Iterable

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline import pipeline, protocols
from kdfas_jax import checkpoint, folds, metrics, models, report, sharding, step, teachers, workdir

SCORE_COLUMNS = ["split", "dataset", "video", "subject", "species", "label", "score", "frames"]


def score_frames(score, variables, batches: Iterable[dict[str, np.ndarray]], mesh) -> pd.Series:
    """P(live) of every example of a test stream, indexed by the example's index; the same on every host."""
    found: dict[int, float] = {}
    for local in batches:
        values, index, mask = jax.device_get(score(variables, sharding.place_batch(mesh, local)))
        kept = mask > 0
        found.update(zip(index[kept].tolist(), values[kept].tolist(), strict=True))
    return pd.Series(found, name="score", dtype=float).sort_index()


def score_videos(frames: pd.Series, table: pd.DataFrame) -> pd.DataFrame:
    """Frame scores -> one row a video with the mean of its frames, columns `SCORE_COLUMNS` (without split)."""
    rows = table.loc[frames.index, ["dataset", "video", "subject", "species", "label"]].assign(score=frames)
    keys = ["dataset", "video", "subject", "species", "label"]
    return rows.groupby(keys, as_index=False).agg(score=("score", "mean"), frames=("score", "size"))


def score_role(score, variables, data: pipeline.Data, role: str, config, mesh) -> pd.DataFrame:
    """The videos of one role ('train', 'dev', 'test') of `data`, scored."""
    hosts = (jax.process_index(), jax.process_count())
    batches = pipeline.test_batches(data, role, config.data, batch_size=config.eval.batch_size, shard=hosts)
    return score_videos(score_frames(score, variables, batches, mesh), data.table)


def selection(videos: pd.DataFrame) -> dict[str, float]:
    """The dev figures of one checkpoint; checkpoints are ranked by `selection` = AUC - EER [C], higher is better."""
    _, eer = metrics.eer_threshold(videos)
    auc = metrics.figures(videos, 0.5)["auc"]
    return {"eer": eer, "auc": auc, "selection": auc - eer}


def evaluate(config, folder: str) -> dict:
    """Evaluates the run in `folder` and writes eval/ and report/ there; -> what results.json holds.

    The threshold is the EER's of dev, applied unchanged to test; a protocol without dev takes it from train, and
    says so in `threshold.source`.
    """
    data = pipeline.open_data(config.data)
    mesh = sharding.make_mesh(config.mesh)
    module = models.create(config.model)
    with checkpoint.open_finished(folder) as checkpoints:
        chosen = checkpoints.best()
        abstract = teachers.abstract_variables(module, config.data.image_size, mesh)
        variables = checkpoints.restore_variables(chosen, abstract)
    score = step.make_score(module, mesh)
    videos = {role: score_role(score, variables, data, role, config, mesh) for role in (data.threshold_role, "test")}
    for role, rows in videos.items():
        metrics.check(rows, f"{config.data.dataset}, protocol {config.data.protocol}, {role}")
    results = _results(config, folder, chosen, data, videos)
    if jax.process_index() == 0:
        _write(folder, results, videos)
    return results


def evaluate_run(folder: str) -> dict:
    """`evaluate` with the config that the run itself was made by, each fold of a protocol of several.

    FileNotFoundError where there is no run, or a fold of it is missing.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    names = protocols.folds(config.data.protocol)
    if len(names) == 1:
        return evaluate(config, folder)
    homes = [folds.home(folder, name) for name in names]
    if missing := [home for home in homes if not os.path.exists(os.path.join(home, "config.json"))]:
        raise FileNotFoundError(f"{missing[0]} does not exist; train all folds first, with the command in config.json")
    return folds.write(config, folder, [evaluate_run(home) for home in homes])


def _results(config, folder: str, chosen: int, data: pipeline.Data, videos: dict[str, pd.DataFrame]) -> dict:
    threshold, _ = metrics.eer_threshold(videos[data.threshold_role])
    test = videos["test"]
    dev = videos.get("dev")
    sources = data.sources
    return {
        "config": workdir.plain(config),
        "step": chosen,
        "protocol": config.data.protocol,
        "threshold": {
            "value": threshold,
            "source": f"EER of {data.threshold_role} of {', '.join(sources[data.threshold_role])}",
        },
        "dev": {} if dev is None else metrics.figures(dev, threshold) | {"non_response": data.non_responses("dev")},
        "test": metrics.figures(test, threshold)
        | {"ci95": metrics.confidence(test, threshold), "non_response": data.non_responses("test")},
        "literature": metrics.literature(test, threshold),
        "sources": sources,
        "params": {
            "student": models.count(config.model, config.data.image_size),
            "teachers": {
                name: models.count(teacher.config.model, config.data.image_size)
                for name, teacher in config.teachers.items()
            },
        },
        "folds": [],
    }


def _write(folder: str, results: dict, videos: dict[str, pd.DataFrame]) -> None:
    scores = pd.concat([rows.assign(split=role) for role, rows in videos.items()])[SCORE_COLUMNS]
    workdir.write_atomically(os.path.join(folder, "eval", "scores.csv"), scores.to_csv(index=False))
    workdir.write_atomically(os.path.join(folder, "report", "index.html"), report.page(results, videos["test"]))
    # Last: its presence says that the run is finished.
    workdir.write_atomically(os.path.join(folder, "eval", "results.json"), json.dumps(results, indent=2))

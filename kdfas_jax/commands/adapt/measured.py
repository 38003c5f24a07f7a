"""What an adaptation changed: the old run, its weights at a new threshold, and the new run on the same pictures."""

from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate
from kdfas_jax.metrics import detection, exact
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.runs import workdir
from kdfas_jax.training import step, teachers

REHEARSED = 512  # most dev pictures of the old data that are scored again [C]


def facts(folder: str, output: str, config, rehearsed=None) -> dict[str, Any]:
    """Returns `adapted` of results.json of the run `config` in `output`, which was adapted from the run in `folder`.

    rehearsed: config.data of the old run's data, on whose dev both runs are scored; None for no such figures.

    rows: {row: figures} on the camera's test pictures, of 'before', the old run at its threshold; 'new threshold', the
    same weights at the threshold that the new run's dev gives them; and 'after', the new run, where it was trained.
    rehearsal: {auc_before, auc_after, pictures} on the old data, where it was asked for.
    """
    mesh = sharding.make_mesh(config.mesh)
    data = pipeline.open_data(config.data, targets.LABEL)
    old, new = (_Scorer(of, config, mesh) for of in (folder, output))
    at = workdir.evaluated(folder)["threshold"]["value"]
    rows = {"before": _figures(old(data, "test"), at)}
    named = {"new threshold": old, **({"after": new} if config.train.epochs else {})}
    for name, model in named.items():
        points = detection.operating_points(model(data, "dev"))
        rows[name] = _figures(model(data, "test"), detection.threshold_at(points, config.eval.threshold))
    found = {"from": config.init, "rows": rows}
    if rehearsed is not None:
        found["rehearsal"] = _rehearsal(old, new, rehearsed)
    return found


def table(results: Mapping[str, Any]) -> str:
    """Returns the rows of `adapted` in results.json as Markdown, and a sentence on the rehearsal."""
    adapted = results["adapted"]
    shown = {name: cells(row) for name, row in adapted["rows"].items()}
    lines = [summary.markdown(shown, corner="held-out pictures")]
    if kept := adapted.get("rehearsal"):
        lines.append(
            f"AUC on dev of the old data ({kept['pictures']} pictures): {kept['auc_before']:.4f} before, "
            f"{kept['auc_after']:.4f} after"
        )
    return "\n".join(lines)


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the figures of a row of `adapted` as text, error rates with their exact 95 % intervals."""
    worst = max(row["apcer"], key=lambda name: row["apcer"][name]["errors"] / row["apcer"][name]["of"])
    return {
        "threshold": f"{row['threshold']:.4f}",
        "BPCER": _counted(row["bpcer"]),
        "APCER, worst species": f"{_counted(row['apcer'][worst])} ({worst})",
        "AUC": f"{row['auc']:.4f}",
        "BPCER at APCER 1 %": f"{100 * row['bpcer100']:.1f} %",
    }


def _counted(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['errors']} of {rate['of']} ({100 * low:.1f} to {100 * high:.1f} %)"


def _figures(videos: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Returns the figures of a row: errors at `threshold` with exact intervals, and what needs no threshold."""
    live, accepted = videos["label"] == 1, videos["score"] >= threshold
    attacks = accepted[~live].groupby(videos.loc[~live, "species"])
    return {
        "threshold": float(threshold),
        "bpcer": _rate(~accepted[live]),
        "apcer": {name: _rate(of) for name, of in attacks},
        "auc": float(roc_auc_score(videos["label"], videos["score"])),
        "bpcer100": detection.bpcer_at_apcer(videos, 0.01),
    }


def _rate(errors: pd.Series) -> dict[str, Any]:
    number, of = int(errors.sum()), len(errors)
    return {"errors": number, "of": of, "interval": list(exact.interval(number, of))}


def _rehearsal(old: "_Scorer", new: "_Scorer", config) -> dict[str, Any]:
    data = pipeline.open_data(config, targets.LABEL)
    role = "dev" if data.count("dev") else "test"
    before, after = (model(data, role, REHEARSED, config) for model in (old, new))
    area = {name: float(roc_auc_score(of["label"], of["score"])) for name, of in (("before", before), ("after", after))}
    return {"auc_before": area["before"], "auc_after": area["after"], "pictures": len(before), "split": role}


class _Scorer:
    """scorer(data, role) -> the scored videos (`label.score_videos`) of a role by the run in `folder`."""

    def __init__(self, folder: str, config, mesh):
        self._config, self._mesh = config, mesh
        self._loaded = teachers.load(folder, mesh)
        self._score = step.make_score(self._loaded.module, mesh, targets.LABEL.read)

    def __call__(self, data: Data, role: str, most: int | None = None, of: ml_collections.ConfigDict | None = None):
        """most: evenly spaced rows. of: config.data of `data`, by default the new run's."""
        rows = data.rows(role, presentations=True)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most or len(rows))).astype(int)]
        size, of = self._config.eval.batch_size, self._config.data if of is None else of
        batches = pipeline.test_batches(data, rows, of, batch_size=size, shard=(0, 1))
        scored = evaluate.score_examples(self._score, self._loaded.variables, batches, self._mesh)
        return targets.LABEL.scored(scored, data)

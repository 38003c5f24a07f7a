"""What an adaptation changed: the old run, its weights at a new threshold, and the new run on the same pictures."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.metrics import roc_auc_score

from input_pipeline.datasets import camera
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate
from kdfas_jax.metrics import detection, exact
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.runs import workdir
from kdfas_jax.training import step, teachers


def facts(folder: str, output: str, config) -> dict[str, Any]:
    """Returns `adapted` of results.json of the run `config` in `output`, which was adapted from the run in `folder`.

    rows: {row: figures} on the camera's test pictures, of 'before', the old run at its threshold; 'new threshold', the
    same weights at the threshold that the new run's dev gives them; and 'after', the new run, where it was trained.
    rehearsal: {auc_before, auc_after, pictures} on dev of the old data, where the new run was trained beside it.
    """
    mesh = sharding.make_mesh(config.mesh)
    data = pipeline.open_data(config.data, targets.LABEL)
    models = {"new threshold": _Scorer(folder, config, mesh)}
    if config.train.epochs:
        models["after"] = _Scorer(output, config, mesh)
    dev, test = ({name: model(data, role) for name, model in models.items()} for role in ("dev", "test"))
    rows = {"before": _figures(test["new threshold"], workdir.evaluated(folder)["threshold"]["value"])}
    for name in models:
        points = detection.operating_points(dev[name])
        rows[name] = _figures(test[name], detection.threshold_at(points, config.eval.threshold))
    found = {"from": config.init, "rows": rows}
    old = {name: videos[videos["dataset"] != camera.NAME] for name, videos in dev.items()}
    if "after" in old and len(old["after"]):
        before, after = (roc_auc_score(old[name]["label"], old[name]["score"]) for name in ("new threshold", "after"))
        found["rehearsal"] = {"auc_before": before, "auc_after": after, "pictures": len(old["after"])}
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


class _Scorer:
    """scorer(data, role) -> the scored videos (`label.score_videos`) of a role by the run in `folder`."""

    def __init__(self, folder: str, config, mesh):
        self._config, self._mesh = config, mesh
        self._loaded = teachers.load(folder, mesh)
        self._score = step.make_score(self._loaded.module, mesh, targets.LABEL.read)

    def __call__(self, data: Data, role: str) -> pd.DataFrame:
        rows, size = data.rows(role, presentations=True), self._config.eval.batch_size
        batches = pipeline.test_batches(data, rows, self._config.data, batch_size=size, shard=(0, 1))
        scored = evaluate.score_examples(self._score, self._loaded.variables, batches, self._mesh)
        return targets.LABEL.scored(scored, data)

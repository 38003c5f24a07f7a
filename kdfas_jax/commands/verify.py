"""A trained recogniser on another set of people, all of them, beside raw pixels.

    python main.py --mode=verify --workdir=RUN --raw_dir=RAW [--dataset=identity] [--options='{"name": "lfw"}']
                               [--pairs=pairs.txt] [--output=FILE.json]

Crops follow the run's training data (detection, scale, alignment, size). The pairs come from a list in
LFW's format, else drawn. Raw pixels: cosine of grey crops less their mean, what a recogniser has to beat.
"""

import copy
from pathlib import Path

import ml_collections
import numpy as np
import pandas as pd

from input_pipeline import datasets
from input_pipeline.select import pairs
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands.evaluate import score_examples
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.runs import workdir
from kdfas_jax.targets import identity
from kdfas_jax.training import step, teachers


def verify(
    folder: str, *, dataset: str = "identity", raw_dir: str = "", options: dict | None = None, listed: str = ""
) -> dict[str, dict]:
    """Returns {"embedding": figures, "raw pixels": figures}: verification by the run in `folder` on another data set.

    `listed` is the path of a list of pairs, '' to draw them. ValueError where the run learned no recognition.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    if not targets.get(config.data.target).recognises:
        known = " or ".join(repr(name) for name, target in targets.TARGETS.items() if target.recognises)
        raise ValueError(f"{folder} has config.data.target={config.data.target!r}; expected a run of {known}")
    data = _everyone(config.data, dataset, raw_dir, options or {})
    found = np.flatnonzero(data.table["found"])
    wanted = pairs.read(listed) if listed else None
    mesh = sharding.make_mesh(config.mesh)
    recogniser = teachers.load(folder, mesh)
    score = step.make_score(recogniser.module, mesh, identity.embedding)

    def batches():
        return pipeline.test_batches(data, found, config.data, batch_size=config.eval.batch_size, shard=(0, 1))

    vectors = {
        "embedding": score_examples(score, recogniser.variables, batches(), mesh),
        "raw pixels": grey_rows(batches()),
    }
    scored = {name: identity.score_pairs(of, data.table, wanted) for name, of in vectors.items()}
    return {name: identity.pair_figures(rows) | {"counts": pair_counts(rows, wanted)} for name, rows in scored.items()}


def pair_counts(scored: pd.DataFrame, listed: list[pairs.Pair] | None) -> dict[str, int]:
    """Returns {'scores': pairs with a score, 'left_out': listed pairs without one}; 0 left out without a list.

    A pair has no score where an image is absent or shows no face.
    """
    return {"scores": len(scored), "left_out": len(listed) - len(scored) if listed else 0}


def _everyone(config, dataset: str, raw_dir: str, options: dict) -> Data:
    """Returns all of another data set, cropped as `config` (the run's data) says; ValueError where no face is found.

    A set of one's own gets the name of its folder where it is given none, so that two of them are not taken for one.
    """
    other = copy.deepcopy(config)
    if raw_dir and "name" in datasets.options(datasets.get(dataset)):
        options = {"name": Path(raw_dir).resolve().name.lower(), **options}
    other.update({"dataset": dataset, "raw_dir": raw_dir})
    other.options = ml_collections.ConfigDict(options)
    data = pipeline.gather(other)
    if not data.table["found"].any():
        raise ValueError(f"{dataset} of {raw_dir}: a face was found in none of the {len(data.table)} images")
    return data


def grey_rows(batches) -> pd.DataFrame:
    """Returns the grey pixels of the images of test batches, less each image's mean: rows [n, h w] by index."""
    rows = {}
    for batch in batches:
        grey = batch["image"].mean(-1).reshape(len(batch["image"]), -1)
        grey -= grey.mean(1, keepdims=True)
        rows.update({index: row for index, row, mask in zip(batch["index"], grey, batch["mask"], strict=True) if mask})
    return pd.DataFrame(np.stack(list(rows.values())), index=list(rows))


def table(figures: dict[str, dict]) -> str:
    """Returns `verify`'s result as a table: a row for embeddings, a row for raw pixels, and the number of pairs."""
    rows = {name: summary.row({"test": of}) for name, of in figures.items()}
    counts = figures["embedding"]["counts"]
    return (
        summary.markdown(rows, corner="% (AUC as a fraction)")
        + f"\n{counts['scores']} pairs scored, {counts['left_out']} left out: an image is absent or shows no face"
    )

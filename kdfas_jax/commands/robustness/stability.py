"""Scores the same test faces in several views (`input_pipeline.stream.views`) and counts the decisions that change."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline, views
from kdfas_jax.metrics import stability

Scored = Callable[[Iterable[dict[str, np.ndarray]]], pd.DataFrame]


def measure(scored: Scored, data: Data, config, threshold: float) -> dict[str, Any]:
    """Returns `test.stability` of results.json; {} where `config.eval.stability` is 0.

    scored: maps batches of `pipeline.test_batches` to what is kept of each example, P(live) first, indexed by the row.
    At most `config.eval.stability` test images are drawn, always the same ones (`stability.chosen`), so the cost is
    that of scoring so many images once for each view and once as they are.
    """
    if not config.eval.stability:
        return {}
    rows = data.rows("test", presentations=True)
    rows = stability.chosen(data.table.iloc[rows], config.eval.stability)
    hosts = (jax.process_index(), jax.process_count())

    def score(view) -> pd.Series:
        options = {"batch_size": config.eval.batch_size, "shard": hosts}
        seen = view and pipeline.moved(data, config.data, view)
        return scored(pipeline.test_batches(data, rows, config.data, seen=seen, **options))[0]

    scores = pd.DataFrame({name: score(view) for name, view in {stability.AS_IS: None, **views.VIEWS}.items()})
    return stability.figures(scores, data.table.loc[scores.index], threshold, views.TOGETHER)

"""Attacks test faces with knowledge of the model: the projected gradient method on the pixels of the input.

Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018 (arXiv 1706.06083). [C] marks our
own choices.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax.metrics import stability
from kdfas_jax.objective import perturb
from kdfas_jax.parallel import sharding
from kdfas_jax.targets import label
from kdfas_jax.training import step

EPS = (2, 8)  # largest change of a pixel, of 255
STEPS = 10
REACH = 2.5  # of all steps together, in eps, as Madry et al. do for CIFAR-10

Scored = Callable[[Callable, Iterable[dict[str, np.ndarray]]], pd.DataFrame]


def measure(scored: Scored, model, data: Data, config, mesh, threshold: float) -> dict[str, Any]:
    """Returns `test.whitebox` of results.json; {} where `config.eval.whitebox` is 0.

    scored: maps (score(variables, batch) -> (P(live), index, mask), batches) to P(live) of each example, indexed by the
    row. model: the Flax module. At most `config.eval.whitebox` test images are drawn, as in `stability.chosen`. Each
    step is a forward and a backward pass.
    """
    if not config.eval.whitebox:
        return {}
    rows = data.rows("test", presentations=True)
    rows = stability.chosen(data.table.iloc[rows], config.eval.whitebox)
    labels = data.table["label"].to_numpy(np.int32)
    hosts = (jax.process_index(), jax.process_count())

    def batches(eps: float) -> Iterator[dict[str, np.ndarray]]:
        for batch in pipeline.test_batches(data, rows, config.data, batch_size=config.eval.batch_size, shard=hosts):
            changes = np.full(len(batch["index"]), eps, np.float32)
            yield {**batch, "label": np.maximum(labels[batch["index"]], 0), "eps": changes}

    score = attacker(model, mesh)
    names = {stability.AS_IS: 0.0, **{f"eps_{eps}": eps / 255 for eps in EPS}}
    scores = pd.DataFrame({name: scored(score, batches(eps))[0] for name, eps in names.items()})
    return stability.figures(scores, data.table.loc[scores.index], threshold, {})


def attacker(model, mesh) -> Callable:
    """Returns score(variables, batch) -> (P(live) of the attacked images [b], index [b], mask [b]).

    The batch has image, index and mask, and label int32 [b] and eps float32 [b], equal for all rows: the largest change
    of a pixel in units of the image. Each image is moved so as to raise its cross-entropy, by `STEPS` equal steps that
    together reach `REACH` eps [C: without a random start].
    """

    def score(variables, batch):
        def classify(images):
            return model.apply(variables, images)[0]

        eps = batch["eps"][0]
        options = {"eps": eps, "step_size": REACH * eps / STEPS, "decay": 1.0, "steps": STEPS, "target": "confuse"}
        attacked = perturb.daa(classify, step.images_of(batch), batch["label"], **options)
        return label.live_probability(*model.apply(variables, attacked)), batch["index"], batch["mask"]

    return jax.jit(
        sharding.on(mesh, score), in_shardings=(None, sharding.batch(mesh)), out_shardings=sharding.replicated(mesh)
    )

"""How far the domain adversarial attack fools a domain classifier: its accuracy on clean and on attacked images.

    python main.py --mode=confuse --workdir=RUN [--steps=1,3,5] [--eps=2,4,8] [--output=FILE.csv]

RUN has config.data.target=domain (configs/teachers/domains.py). Images come from its test role, or from dev where the
protocol's test domain is none that it knows. Accuracies are means over the domains, so that chance is 1 / their number.
"""

import logging
from collections.abc import Iterator, Sequence

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data, domain_classes
from input_pipeline.stream import pipeline
from kdfas_jax.commands import evaluate
from kdfas_jax.objective import perturb
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.runs import workdir
from kdfas_jax.training import step, teachers

logger = logging.getLogger(__name__)


def confuse(folder: str, *, steps: Sequence[int] = (1, 3, 5), eps: Sequence[float] = (2, 4, 8)) -> pd.DataFrame:
    """Rows target, steps, eps, accuracy, changed (the largest change of a pixel), images; the first is of clean images.

    `eps` is in 255ths, as is `changed`; the first step is three quarters of it, as by default; accuracy is a fraction.
    ValueError where the run in `folder` is not one of target 'domain' or has no image of a domain that it
    knows.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    if config.data.target != "domain":
        raise ValueError(f"{folder} has config.data.target={config.data.target!r}; expected a run of 'domain'")
    data = evaluate.open_data(config, folder)
    mesh = sharding.make_mesh(config.mesh)
    judge = teachers.load(folder, mesh)
    read = judge.frozen.read

    def fooled(target: str, steps: int):
        def predicted(variables, batch, eps):
            def classify(images):
                return read(variables, images)[0]

            images = step.images_of(batch)
            options = {"eps": eps, "step_size": 0.75 * eps, "steps": steps, "target": target}
            attacked = perturb.daa(classify, images, batch["domain"], **options)
            return classify(attacked).argmax(axis=-1), abs(attacked - images).max(axis=(1, 2, 3))

        return jax.jit(sharding.on(mesh, predicted), out_shardings=sharding.replicated(mesh))

    rows = []
    for target, count in [("none", 0), *((target, count) for target in perturb.TARGETS for count in steps)]:
        predicted = fooled(target if count else "uniform", count)
        for bound in eps if count else (0.0,):
            found = pd.DataFrame(
                [
                    row
                    for batch in _batches(data, config)
                    for row in _judged(predicted, judge, batch, bound / 255, mesh)
                ],
                columns=["domain", "right", "changed"],
            )
            accuracy = found.groupby("domain")["right"].mean().mean()
            rows.append((target, count, bound, accuracy, 255 * found["changed"].max(), len(found)))
            logger.info("%s, %d steps, eps %g/255: accuracy %.3f", *rows[-1][:4])
    return pd.DataFrame(rows, columns=["target", "steps", "eps", "accuracy", "changed", "images"])


def _batches(data: Data, config) -> Iterator[dict[str, np.ndarray]]:
    """Test batches with the `domain` of each image, -1 where the classifier knows no such domain."""
    own = domain_classes(data)[1]
    known = {role: (own[data.rows(role)] >= 0).any() for role in ("test", "dev")}
    if not any(known.values()):
        raise ValueError(f"config.data.protocol={config.data.protocol!r} has no dev or test image of a source domain")
    rows = data.rows("test" if known["test"] else "dev")
    for batch in pipeline.test_batches(data, rows, config.data, batch_size=config.eval.batch_size, shard=(0, 1)):
        yield {**batch, "domain": np.where(batch["mask"] > 0, own[batch["index"]], -1)}


def _judged(predicted, judge, batch, eps: float, mesh) -> list[tuple[int, bool, float]]:
    """(domain, whether it was recognised, largest change) of each image of a domain that the classifier knows."""
    classes, changed = jax.device_get(predicted(judge.variables, sharding.place_batch(mesh, batch), eps))
    rows = zip(batch["domain"], classes == batch["domain"], changed, strict=True)
    return [row for row in rows if row[0] >= 0]


def table(found: pd.DataFrame) -> str:
    """Returns `confuse`'s result as a table: a row for each target and number of steps, a column for each eps.

    The accuracy on clean images stands in its corner.
    """
    clean, attacked = found.iloc[0], found.iloc[1:]
    rows = {
        f"{target}, {steps} step{'s' * (steps > 1)}": {
            f"eps {eps:g}/255": f"{100 * value:.1f}" for eps, value in zip(of.eps, of.accuracy, strict=True)
        }
        for (target, steps), of in attacked.groupby(["target", "steps"], sort=False)
    }
    return summary.markdown(rows, corner=f"accuracy, %, on clean images {100 * clean.accuracy:.1f} (of {clean.images})")

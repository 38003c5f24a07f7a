"""The counterfactual card of a run: the same rendered people with one factor changed -> RUN/counterfactual/."""

import json
import os
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from input_pipeline.prepare import faces
from input_pipeline.simulate.wild import counterfactual as renderer
from kdfas_jax import targets
from kdfas_jax.commands import evaluate
from kdfas_jax.metrics import counterfactual
from kdfas_jax.parallel import sharding
from kdfas_jax.report import plots
from kdfas_jax.report.render import html
from kdfas_jax.report.sections import counterfactual as section
from kdfas_jax.runs import files, workdir
from kdfas_jax.targets import label
from kdfas_jax.training import step, teachers

PEOPLE = 40
Change = tuple[str, str]  # (factor, value)


def card(folder: str, output: str, people: int = PEOPLE) -> dict[str, Any]:
    """Scores `people` rendered people with each value of each factor; returns results.json's content.

    Writes OUTPUT/results.json, OUTPUT/index.html and OUTPUT/card.svg. The content has `run`, `threshold`, `bpcer` of
    the people as drawn, and `rows` (`metrics.counterfactual.figures`).
    ValueError for a run that does not detect attacks, FileNotFoundError for one that is not evaluated.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    own = workdir.evaluated(folder)
    if not targets.get(config.data.target).detects:
        raise ValueError(f"{folder}: config.data.target={config.data.target!r}; expected a run that detects attacks")
    if not own:
        raise FileNotFoundError(f"{folder} is not evaluated; run: python main.py --mode=eval --workdir={folder}")
    threshold = own["threshold"]["value"]
    scores, pictures = scores_of_changes(folder, config, people)
    base = (renderer.AS_IS, renderer.AS_IS)
    content = {
        "run": folder,
        "threshold": threshold,
        "bpcer": float((scores[base] < threshold).mean()),
        "people": people,
        "rows": counterfactual.figures(scores, base, threshold),
    }
    drawn = section.plot(content["rows"])
    title = f"Counterfactual card of {config.name}"
    nearest = int(np.abs(scores[base] - threshold).argmin())  # whose decision a change is most likely to flip
    shown = {_name(*key): (seen[nearest], float(scores[key][nearest])) for key, seen in pictures.items()}
    page = html.document(title, [section.moved(content, drawn, shown)])
    files.write_atomically(os.path.join(output, "card.svg"), plots.standalone(drawn))
    files.write_atomically(os.path.join(output, "index.html"), page)
    files.write_atomically(os.path.join(output, "results.json"), json.dumps(content, indent=2))
    return content


def _name(factor: str, value: str) -> str:
    return value if factor == value else f"{factor}: {value}"


def scores_of_changes(folder: str, config, people: int) -> tuple[dict[Change, np.ndarray], dict[Change, np.ndarray]]:
    """Returns P(live) [people] of the run for each (factor, value), and its pictures uint8 [people, s, s, 3]."""
    mesh = sharding.make_mesh(config.mesh)
    loaded = teachers.load(folder, mesh)
    score = step.make_score(loaded.module, mesh, label.live_probability)
    found, pictures, size = {}, {}, config.data.image_size
    for factor, value, images in renderer.rendered(people, size=config.data.record_size, scale=config.data.scale):
        stored = np.stack([faces.decode(faces.encode(image), size) for image in images])
        batches = padded_batches(stored, config.eval.batch_size)
        pictures[factor, value] = images
        found[factor, value] = evaluate.score_examples(score, loaded.variables, batches, mesh)[0].to_numpy()
    return found, pictures


def padded_batches(images: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields the images uint8 [n, h, w, 3] in order, `size` a batch: image, mask and index as of `test_batches`."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        padding = size - len(part)
        yield {
            "image": np.pad(part, ((0, padding), (0, 0), (0, 0), (0, 0))),
            "mask": np.pad(np.ones(len(part), np.float32), (0, padding)),
            "index": np.pad(np.arange(start, start + len(part)), (0, padding)),
        }

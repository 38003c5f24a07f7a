"""Teachers' outputs that are computed once for each view of an image, and read by every later run.

With `config.data.views` n, epoch e shows view e mod n of every image, whatever the seed. A teacher with
`config.teachers.NAME.cache = ("logits",)` then runs once over the images of a view, and its outputs of these names lie
in the data folder. They take 4 bytes a number: two logits 8 bytes an image and view, the class tokens of twelve blocks
of width 768 some 37,000. The values are those that a step would compute, to the rounding of another program.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from input_pipeline.select.examples import Data
from kdfas_jax.models import records
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files
from kdfas_jax.training import step
from kdfas_jax.training.experiment import Frozen


class Shown(NamedTuple):
    """The images that a teacher is shown: `rows`, in ascending order, of `data`, and view -> their batches in order."""

    data: Data
    rows: np.ndarray
    batches: Callable[[int], Iterator[dict[str, np.ndarray]]]


class Stored:
    """The outputs of teacher `name` for the images `shown`, view by view."""

    def __init__(self, name: str, teacher: Frozen, variables: Any, shown: Shown, config, mesh):
        """config: of the run that reads them; its `teachers.NAME.cache` names the outputs."""
        self._name, self._teacher, self._variables = name, teacher, variables
        self._shown, self._config, self._mesh = shown, config, mesh
        self._names = tuple(config.teachers[name].cache)
        self._folder = os.path.join(self._config.data.data_dir, "outputs", f"{name}-{self._digest()}")
        self._view: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def of(self, index: np.ndarray, view: int) -> dict[str, np.ndarray]:
        """The outputs of the examples `index` [b] in a view, {name or name/stage: [b, ...]}."""
        if self._view[0] != view:
            self._view = view, self._read(view)
        places = np.searchsorted(self._shown.rows, index)
        return {name: values[places] for name, values in self._view[1].items()}

    def _read(self, view: int) -> dict[str, np.ndarray]:
        path = os.path.join(self._folder, f"view-{view:04d}.npz")
        if not files.exists(path):
            found = self._computed(view)
            if jax.process_index() == 0:
                content = io.BytesIO()
                np.savez(content, **found)
                files.write_atomically(path, content.getvalue())
            return found
        with files.local(path) as local, np.load(local) as stored:
            return dict(stored)

    def _computed(self, view: int) -> dict[str, np.ndarray]:
        config, mesh = self._config, self._mesh
        read = jax.jit(self._chosen, out_shardings=sharding.replicated(mesh))
        rows, parts = len(self._shown.rows), []
        batches = -(-rows // config.eval.batch_size)
        for local in tqdm.tqdm(self._shown.batches(view), f"teacher {self._name}, view {view}", batches):
            images = sharding.place_batch(mesh, {"image": local["image"]})
            parts.append(jax.device_get(read(self._variables, images)))
        whole = jax.tree.map(lambda *of: np.concatenate(of)[:rows], *parts)
        return {name: np.asarray(values, np.float32) for name, values in whole.items()}

    def _chosen(self, variables, batch) -> dict[str, jax.Array]:
        return records.flat(self._teacher.read(variables, step.images_of(batch))[1], self._names)

    def _digest(self) -> str:
        """Of all that the outputs depend on: network and variables, the images and their views, the outputs' names."""
        found, data, shown = hashlib.sha256(), self._config.data, self._shown
        for leaf in jax.tree.leaves(self._variables):
            found.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
        table = shown.data.table.iloc[shown.rows]
        said = (shown.data.fingerprint, table["video"].tolist(), data.image_size, data.augment.to_json(), self._names)
        found.update(repr(self._teacher.module).encode())
        found.update(repr(said).encode())
        return found.hexdigest()[:16]


def added(
    batches: Iterator[dict[str, np.ndarray]], stored: Mapping[str, Stored], start: int, per_epoch: int, views: int
) -> Iterator[dict[str, np.ndarray]]:
    """`batches` from step `start` on, with the stored outputs of their images: column `taught`, {teacher: outputs}.

    Without stored outputs the batches stay as they are.
    """
    if not stored:
        yield from batches
    for number, batch in enumerate(batches, start):
        view = number // per_epoch % views
        yield batch | {"taught": {name: of.of(batch["index"], view) for name, of in stored.items()}}

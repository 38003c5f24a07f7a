"""What a trained editor of attributes (StarGAN) makes of faces of its run's test data: a contact sheet.

    python main.py --mode=edit --workdir=RUN [--output=edits.jpg] [--faces=8]

A column a face: itself, then with one attribute turned round in each row; + was given, − taken away.
"""

import os
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from matplotlib.figure import Figure

from input_pipeline.prepare.faces import decode
from input_pipeline.prepare.records import Reader
from input_pipeline.select.examples import Data, attributes
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import workdir
from kdfas_jax.training import checkpoint, teachers

HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # exclude each other [S, StarGAN's implementation]
TILE = 1.0  # inches of a picture on the sheet


class Edits(NamedTuple):
    """Faces [n, s, s, 3] with attributes `has` [n, k] named `names`; `asked` [k, n, k] and the `edited` [k, n, s, s, 3]
    faces in [0, 1], of which [j] has attribute j turned round."""

    names: tuple[str, ...]
    faces: np.ndarray
    has: np.ndarray
    asked: np.ndarray
    edited: np.ndarray


def edit(folder: str, faces: int = 8) -> Edits:
    """Test faces of the run in `folder`, evenly spaced, and their edits by its last checkpoint.

    The last, as dev chooses by the discriminator. Each image is normalised by its statistics, as in the published
    implementation, which never leaves training mode [S]. ValueError where the run is none of a StarGAN.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    if config.model.name != "stargan":
        raise ValueError(f"{folder} has config.model.name={config.model.name!r}; expected a run of 'stargan'")
    data = evaluate.open_data(config, folder)
    target, rows = targets.get(config.data.target), _spread(data, faces)
    names, has = target.classes(data), target.labels(data)(rows)
    encoded = Reader(data.files, data.table).images(rows)
    images = np.stack([decode(image, config.data.image_size) for image in encoded]).astype(np.float32) / 255
    model = models.create(config.model)
    abstract = teachers.abstract_variables(model, config.data.image_size, sharding.make_mesh(config.mesh))
    with checkpoint.open_finished(folder) as checkpoints:
        variables = checkpoints.restore_variables(checkpoints.latest(), abstract)
    apply = jax.jit(lambda asked: model.apply(variables, images, asked, train=True, method="edit"))
    asked = np.stack([turned(has, names, number) for number in range(len(names))])
    return Edits(tuple(names), images, has, asked, np.stack([apply(wanted) for wanted in asked]))


def turned(has: np.ndarray, names: list[str], number: int) -> np.ndarray:
    """Attributes [n, k] with that of `number` turned round; who gets a colour of hair loses the others.

    Where the hair's own colour is turned round, it has none of the colours named [C].
    """
    asked = has.copy()
    asked[:, number] = 1 - has[:, number]
    if names[number] in HAIR:
        others = [place for place, name in enumerate(names) if name in HAIR and place != number]
        asked[np.ix_(asked[:, number] == 1, others)] = 0
    return asked


def _spread(data: Data, faces: int) -> np.ndarray:
    """`faces` rows of the test examples whose attributes are known, evenly spaced; ValueError where there are fewer."""
    known = ~np.isnan(attributes(data)).any(axis=1)
    rows = np.flatnonzero(data.has_face("test") & known)
    if not 1 <= faces <= len(rows):
        raise ValueError(f"--faces={faces}: expected 1 to {len(rows)}, as many test faces as there are")
    return rows[np.arange(faces) * len(rows) // faces]


def sheet(edits: Edits) -> Figure:
    """The contact sheet: a row of faces, then one of edits for each attribute, with its name at the left."""
    rows, columns = 1 + len(edits.names), len(edits.faces)
    figure = Figure(figsize=(TILE * (columns + 1.2), 1.12 * TILE * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    axes = figure.subplots(rows, columns, squeeze=False)
    pictures = [edits.faces, *edits.edited]
    for row, name in enumerate(("face", *edits.names)):
        axes[row, 0].set_ylabel(name.replace("_", " "), rotation="horizontal", ha="right", va="center", fontsize=10)
        for column, axis in enumerate(axes[row]):
            axis.imshow(pictures[row][column].clip(0, 1), interpolation="bilinear")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row:
                given = edits.asked[row - 1, column, row - 1] > 0.5
                axis.set_title("+" if given else "−", fontsize=8, pad=1)
    return figure


def write(folder: str, output: str, faces: int = 8) -> str:
    """Writes the contact sheet of the run in `folder` to `output`, which ends in .jpg or .png, and returns `output`.

    ValueError for another ending, and as in `edit`.
    """
    kind = os.path.splitext(output)[1].lstrip(".")
    if kind not in ("jpg", "png"):
        raise ValueError(f"--output={output}: expected a name that ends in .jpg or .png")
    figure = sheet(edit(folder, faces))
    temporary = f"{output}.tmp{os.getpid()}"
    figure.savefig(temporary, format=kind, dpi=100)
    os.replace(temporary, output)
    return output

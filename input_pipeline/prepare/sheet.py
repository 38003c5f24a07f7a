"""A contact sheet of prepared crops: what a model will see, live faces on the left and attacks on the right."""

import cv2
import numpy as np
import pandas as pd

from input_pipeline.prepare import faces, records
from input_pipeline.schema import LIVE

SIDE, TILE, GAP, QUALITY = 8, 96, 12, 85  # tiles along a side of a block; pixels; of JPEG
ENDINGS = (".jpg", ".png")


def write(path: str, prepared: records.Prepared) -> str:
    """Writes the sheet of `prepared` to `path`, which `check` accepts; returns what it shows.

    A block has up to 64 crops, spread evenly over the people; attacks have equal shares of their species, one species
    after another. Crops may show real people. ValueError for records without live faces or without attacks, OSError
    where `path` cannot be written.
    """
    blocks = chosen(prepared.table)
    if not all(map(len, blocks)):
        raise ValueError(f"--sheet={path}: {prepared.builder_dir} has no live faces and attacks to show")
    reader = records.Reader(prepared.files, prepared.table)
    drawn = [_block([faces.decode(image, TILE) for image in reader.images(rows)]) for rows in blocks]
    picture = np.concatenate([drawn[0], np.full((SIDE * TILE, GAP, 3), 255, np.uint8), drawn[1]], axis=1)
    options = [] if path.lower().endswith(".png") else [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    if not cv2.imwrite(path, picture[..., ::-1], options):
        raise OSError(f"--sheet={path} cannot be written; give another place")
    counts = [prepared.table["species"].iloc[rows].value_counts(sort=False) for rows in blocks]
    return ", ".join(f"{number} {species}" for count in counts for species, number in count.items())


def check(path: str) -> None:
    """Raises ValueError where `path` has neither of the two endings that a sheet may have."""
    if not path.lower().endswith(ENDINGS):
        raise ValueError(f"--sheet={path}: expected a name that ends in {' or '.join(ENDINGS)}")


def chosen(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows [n], [m] of `table` that the blocks of live faces and of attacks show, at most 64 each."""
    order = table[table["found"]].assign(row=np.flatnonzero(table["found"])).sort_values(["subject", "video"])
    of = {species: rows["row"].to_numpy() for species, rows in order.groupby("species")}
    live, room = of.pop(LIVE, np.zeros(0, int)), SIDE * SIDE
    shares = np.diff(np.linspace(0, room, len(of) + 1).round().astype(int)) if of else ()
    attacks = [_spread(rows, share) for rows, share in zip(of.values(), shares, strict=True)]
    return _spread(live, room), np.concatenate([np.zeros(0, int), *attacks])


def _spread(rows: np.ndarray, number: int) -> np.ndarray:
    """At most `number` of `rows`, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int)]


def _block(tiles: list[np.ndarray]) -> np.ndarray:
    block = np.full((SIDE * SIDE, TILE, TILE, 3), 255, np.uint8)
    block[: len(tiles)] = tiles
    return block.reshape(SIDE, SIDE, TILE, TILE, 3).swapaxes(1, 2).reshape(SIDE * TILE, SIDE * TILE, 3)

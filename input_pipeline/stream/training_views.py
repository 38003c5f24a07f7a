"""The part of the training stream that worker processes do. Imports no TensorFlow, so that they start in a second."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.prepare import faces, records
from input_pipeline.stream import ops


def of_rows(
    reader: records.Reader,
    augmentation: ops.Augmentation,
    size: int,
    with_truth: bool,
    rows: np.ndarray,
    seeds: Sequence[tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Reads, decodes and augments the images of `rows`, with a seed each.

    Returns `image`, uint8 [n, size, size, 3], and with `with_truth` also `truth`, the views of the truth maps, uint8
    [n, m, m, 3]. Raises as `reader.examples`.
    """
    names = ("image", "truth") if with_truth else ("image",)
    seen = [
        augmentation.views(faces.decode(image, size), faces.decode_map(*truth) if truth else None, ops.generator(*seed))
        for seed, (image, *truth) in zip(seeds, reader.examples(rows, *names), strict=True)
    ]
    return {name: np.stack(views) for name, views in zip(names, zip(*seen, strict=True), strict=False)}

"""A network that judges several crops of a face and their mirror images, and answers with the mean."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdfas_jax.models.together import resized


class Crops(nn.Module):
    """Averages the logits of `network` over the central crops of an image; in training it sees the whole image.

    A crop that is too narrow hides the edge of an instrument, one that is too wide its texture. Training does not need
    the crops where its images differ in scale anyway.

    Fields:
      network: the network; its parameters lie below this name.
      size: side of the images, in pixels, to which each crop is resized.
      zooms: sides of the crops / side of the image, in (0, 1].
      mirrored: whether each crop is judged in a mirror, too.
    """

    network: nn.Module
    size: int
    zooms: tuple[float, ...] = (1.0, 0.82, 0.68)
    mirrored: bool = True

    @nn.compact
    def __call__(self, images, *, train=False):
        """Maps images [b, s, s, 3] in [0, 1] to the mean logits [b, k] and the network's named outputs.

        logits and pre_logits are means over the crops, the other outputs those of the first crop.
        """
        if train:
            return self.network(resized(images, self.size), train=True)
        views = self.views(images)
        logits, out = self.network(jnp.concatenate(views), train=False)

        def mean(values):
            return values.reshape(len(views), len(images), *values.shape[1:]).mean(0)

        logits = mean(logits)
        averaged = {"logits": logits, "pre_logits": mean(out["pre_logits"])}
        return logits, {name: _first(name, value, len(images)) for name, value in out.items()} | averaged

    def views(self, images: jax.Array) -> list[jax.Array]:
        """The crops [b, size, size, 3] of images [b, s, s, 3], in the order of `zooms`, then their mirror images."""
        side, found = images.shape[1], []
        for zoom in self.zooms:
            kept = round(zoom * side)
            start = (side - kept) // 2
            found.append(resized(images[:, start : start + kept, start : start + kept], self.size))
        return found + [view[:, :, ::-1] for view in found] if self.mirrored else found

    @property
    def classes(self) -> int:
        """The number of logits."""
        return self.network.classes

    @property
    def dtype(self) -> str:
        """The dtype of the network's computation."""
        return self.network.dtype


def _first(name: str, value, number: int):
    """The part of an output that belongs to the first `number` images; class tokens have stages before images."""
    return value[:, :number] if name == "class_tokens" else jax.tree.map(lambda of: of[:number], value)


def check(zooms: tuple[float, ...], size: int) -> None:
    """ValueError for no crop, or one that is no part of the image."""
    if not zooms or not all(0 < zoom <= 1 for zoom in zooms) or size < 1:
        raise ValueError(f"crops zooms={tuple(zooms)}, size={size}: expected shares in (0, 1], and a side of 1 or more")

"""A spoof model and a recogniser as one model: the baseline that MTAKD's two-task student replaces."""

import jax
from flax import linen as nn


class Together(nn.Module):
    """Returns the logits of a spoof model and the embedding of a recogniser for the same images.

    Fields:
      spoof, recognition: the networks; their parameters lie below these names.
      spoof_size, recognition_size: sides of the images, in pixels, to which the input of each network is resized.
      dtype: dtype to which a training step may round the parameters; fp32, as either network may compute in fp32.
    """

    spoof: nn.Module
    recognition: nn.Module
    spoof_size: int
    recognition_size: int
    dtype: str = "float32"

    def __call__(self, images, *, train=False):
        """Maps images [b, s, s, 3] in [0, 1] to (logits [b, 2], {'logits', 'embedding' [b, d]}), as a two-task model.

        `train` is passed to both networks.
        """
        logits, _ = self.spoof(resized(images, self.spoof_size), train=train)
        _, out = self.recognition(resized(images, self.recognition_size), train=train)
        return logits, {"logits": logits, "embedding": out["embedding"]}


def resized(images: jax.Array, size: int) -> jax.Array:
    """Images [b, h, w, c] at `size` x `size`."""
    shape = (len(images), size, size, images.shape[-1])
    return images if images.shape == shape else jax.image.resize(images, shape, "linear")

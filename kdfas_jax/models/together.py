"""Two networks side by side, one that rejects attacks and one that recognises: what MTAKD's student stands in for."""

import jax
from flax import linen as nn


class Together(nn.Module):
    """A spoof model's logits and a recogniser's embedding of the same images, each read at its own size.

    `spoof` and `recognition` are the networks, `spoof_size` and `recognition_size` the sides of the images, in pixels,
    that they read. Their parameters lie below the names of these two fields. `dtype` is the dtype to which a training
    step may round the parameters of both: fp32, which rounds none, as either network may compute in fp32.
    """

    spoof: nn.Module
    recognition: nn.Module
    spoof_size: int
    recognition_size: int
    dtype: str = "float32"

    def __call__(self, images, *, train=False):
        """Maps images [b, s, s, 3] in [0, 1] to (logits [b, 2], {'logits', 'embedding' [b, d]}), as a two-task model.

        `train` as of the networks themselves.
        """
        logits, _ = self.spoof(_resized(images, self.spoof_size), train=train)
        _, out = self.recognition(_resized(images, self.recognition_size), train=train)
        return logits, {"logits": logits, "embedding": out["embedding"]}


def _resized(images: jax.Array, size: int) -> jax.Array:
    shape = (len(images), size, size, images.shape[-1])
    return images if images.shape == shape else jax.image.resize(images, shape, "linear")

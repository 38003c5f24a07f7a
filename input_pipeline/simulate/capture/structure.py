"""The fine structure of instruments as a function of coordinates on their plane: halftone screens and sub-pixels.

Both are evaluated where the second camera samples the plane, so that moire arises from sampling. A sample is a small
square: a wave of `cells` periods per sample is damped to its mean over the sample. [C] marks our own choices.
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import value_noise

SCREEN_ANGLES = (0.26, 1.31, 0.0, 0.79)  # cyan, magenta, yellow, black: 15, 75, 0 and 45 degrees
# Transmission of a solid layer of each ink in red, green and blue; real inks are impure (after SWOP solids) [C].
INKS = np.array([[0.06, 0.42, 0.66], [0.58, 0.08, 0.26], [0.93, 0.80, 0.10], [0.03, 0.03, 0.03]])
UNMIX = 0.3 * np.eye(3) + 0.7 * np.linalg.inv(1.0 - INKS[:3])  # corrects most of the inks' side absorptions
REPLACED = 0.5  # share of the grey component of cyan, magenta and yellow that black ink prints in light tones [C]


def mean_over_sample(cells):
    """Returns the amplitude of a wave of `cells` periods per sample after averaging over the sample; 0 from one on."""
    return jnp.sinc(jnp.minimum(jnp.abs(cells), 1.0))


def wave(turns):
    """cos(2 pi turns), to 0.5 %: far cheaper than jnp.cos, which dominated the renderer."""
    rest = turns - jnp.round(turns)
    square = rest * rest
    return 1.0 - square * (19.63 - square * (61.9 - 61.9 * square))


def separate(linear):
    """Returns the coverage [h, w, 4] in [0, 1] by cyan, magenta, yellow and black ink for linear colours [h, w, 3].

    Most of the inks' side absorptions are corrected, as printer drivers trade hue against gamut [C].
    """
    wanted = 1.0 - linear
    grey = wanted.min(-1, keepdims=True)
    black = grey * (REPLACED + (0.95 - REPLACED) * grey**4)  # more in dark tones, where the other inks are too weak
    colour = (wanted - black) / (1.0 - black + 1e-3)
    pure = colour @ UNMIX
    return jnp.clip(jnp.concatenate([pure, black], axis=-1), 0.0, 1.0)


def halftone(coverage, u, v, tool, frequency, step):
    """Returns the reflectance [n, n, 3] of dots of four inks on white paper, relative to the paper.

    coverage: [n, n, 4] from `separate`. u, v: plane coordinates [n, n]. frequency: dots per unit of u. step: distance
    of the samples in u. tool: `screen` in [0, 1] is the share of ink in clustered dots; the rest is spread evenly.
    """
    light = jnp.ones_like(coverage[..., :3])
    hard = tool["screen"] * mean_over_sample(frequency * step)
    for ink, angle in enumerate(SCREEN_ANGLES):
        c, s = np.cos(angle), np.sin(angle)
        threshold = 0.5 + 0.25 * (wave(frequency * (c * u + s * v)) + wave(frequency * (c * v - s * u)))
        dot = jnp.clip((coverage[..., ink] - threshold) * 8.0 + 0.5, 0.0, 1.0)
        area = coverage[..., ink] + hard * (dot - coverage[..., ink])
        light = light * (1.0 - area[..., None] * (1.0 - INKS[ink]))
    return light


def bands(tool, v):
    """Returns factors around 1 for the lines of a print head or fuser along v; v has any shape."""
    return 1.0 + tool["bands"] * value_noise(tool["seed"] + jnp.uint32(7), 0.0 * v, tool["band_lines"] * v)


def subpixels(u, v, tool, frequency, step):
    """Returns factors [n, n, 3] of mean 1 for the red, green and blue stripes of a display's pixels in a black matrix.

    They have the first two harmonics of a stripe across and the first of the gap down; arguments as in `halftone`.
    """
    x, y = frequency * u, frequency * v
    first, second = (tool["screen"] * mean_over_sample(k * frequency * step) for k in (1.0, 2.0))
    stripes = [
        1.0 + 1.6 * first * wave(x - phase) + 0.7 * second * wave(2.0 * (x - phase)) for phase in (-1 / 3, 0, 1 / 3)
    ]
    return jnp.stack(stripes, axis=-1) * (1.0 + 0.6 * first * wave(y))[..., None]

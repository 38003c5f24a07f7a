"""Simulated domains: families of people, cameras, lights and instruments for cross-domain protocols.

Domain 0 is the default set. Domains 1 to 4 imitate OULU-NPU (phones, three sessions), CASIA-FASD (old and new USB
cameras, daylight, paper with cut-out eyes as the second print), Replay-Attack (a laptop's camera, a controlled lamp or
a window behind the head) and MSU-MFSD (laptop and phone, indoor light). They share no people, and each has one room per
session. The numbers follow the direction in which the real sets differ, but are not measured from them [C: our own
choice].
"""

import jax.numpy as jnp
import numpy as np

DOMAINS = ("simulated", "simulated-oulu", "simulated-casia", "simulated-replay", "simulated-msu")
CUT = ("simulated-casia", 3)  # domain and access whose print has holes for the eyes

LIGHTS = np.array([[1, 2, 3], [1, 2, 3], [4, 2, 1], [6, 5, 1], [3, 1, 4]])  # kind of light by session: light.LIGHT
ZOOM = np.array([0.0, 0.0, -0.05, -0.08, 0.05], np.float32)  # added to the zoom of the framing
# Factors on the drawn parameters of cameras and instruments, by domain.
CAMERA = {
    "blur": (1.0, 0.8, 1.7, 2.2, 1.1),
    "noise": (1.0, 0.8, 1.5, 2.0, 1.1),
    "sharpen": (1.0, 1.0, 0.7, 0.4, 1.4),
    "saturation": (1.0, 1.0, 0.90, 0.80, 1.15),
    "contrast": (1.0, 1.0, 0.7, 0.9, 1.4),
    "red": (1.0, 1.0, 1.04, 0.95, 1.0),
    "blue": (1.0, 1.0, 0.94, 1.06, 1.0),
    "coarseness": (1.0, 1.0, 1.5, 1.8, 0.8),
    "brightness": (1.0, 1.0, 1.05, 0.85, 1.1),
}
TOOL = {
    "lines": (1.0, 1.0, 0.85, 1.2, 0.95),
    "white": (1.0, 1.0, 0.95, 0.85, 1.0),
    "gamut": (1.0, 1.0, 0.85, 0.95, 1.1),
    "soft": (1.0, 1.0, 1.2, 1.5, 0.9),
    "sheen": (1.0, 1.0, 1.3, 0.6, 1.2),
    "bend": (1.0, 1.0, 1.5, 0.6, 1.0),
    "texture": (1.0, 1.0, 1.4, 0.8, 1.0),
}


def number(name: str) -> int:
    """Returns the position of `name` in DOMAINS; ValueError for an unknown name."""
    if name not in DOMAINS:
        raise ValueError(f"simulated: unknown domain '{name}'; known: {', '.join(DOMAINS)}")
    return DOMAINS.index(name)


def adapted(figures: dict, factors: dict, domain) -> dict:
    """Applies the factors of `domain` (0 to 4, traced or not) to the drawn parameters `figures`."""
    own = {name: value * jnp.array(factors[name])[domain] for name, value in figures.items() if name in factors}
    return figures | own

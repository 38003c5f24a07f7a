"""Attribute labels of rendered faces, under CelebA's names.

Liu et al.: Deep Learning Face Attributes in the Wild, ICCV 2015.
"""

import jax.numpy as jnp

from input_pipeline.simulate.people import hair


def attributes(who: dict, now: dict) -> dict:
    """Returns {attribute: 0 or 1, int32} of a person (`person.person`) at a moment (`person.moment`).

    The labels are thresholds on the renderer's parameters; the thresholds are our own choice [C]. Nobody wears a hat.
    """
    beard = hair.style(who)
    bald = who["hair_style"] < 0.10
    grey = who["grey"] > 0.5
    tone = who["hair_tone"]
    labels = {
        "Bald": bald,
        "Bangs": (who["fringe"] > 0.7) & ~bald,
        "Black_Hair": ~bald & ~grey & (tone < 1.2),
        "Brown_Hair": ~bald & ~grey & (tone >= 1.2) & (tone < 3.2),
        "Blond_Hair": ~bald & ~grey & (tone >= 3.2),
        "Gray_Hair": ~bald & grey,
        "Eyeglasses": who["glasses"] > 0.75,
        "Goatee": beard["goatee"] > 0,
        "Mustache": (beard["moustache"] + beard["goatee"] + beard["full"]) > 0,
        "No_Beard": (beard["goatee"] + beard["full"] + beard["moustache"]) == 0,
        "Heavy_Makeup": who["make_up"] > 0.7,
        "Male": who["masculine"] > 0.5,
        "Mouth_Slightly_Open": now["open_mouth"] > 0.1,
        "Pale_Skin": who["tone"] < 0.6,
        "Smiling": now["smile"] > 0.35,
        "Wearing_Hat": jnp.zeros_like(bald),
        "Young": who["age"] < 0.5,
    }
    return {name: jnp.asarray(value, jnp.int32) for name, value in labels.items()}

"""Hair on the skull, behind the neck and beside the face, brows and beard. Strands are stretched noise.

At its borders hair thins out: strands are drawn where their noise is below a density that falls across the border, so
that hairlines, beards and outlines consist of single hairs instead of an edge. Styles and colours are our own choice
[C]; the sheen is the band of Kajiya and Kay (Rendering Fur with Three Dimensional Textures, SIGGRAPH 1989),
perpendicular to the strands.
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import bell, fold, ramp, value_noise
from input_pipeline.simulate.people.albedo import EYE, look_up, stream, table

HAIR = table((12, 11, 11), (30, 22, 18), (62, 42, 29), (104, 73, 46), (165, 132, 88))
GREY = table((158, 154, 150))[0]


def colour(who):
    """Returns a person's hair colour [3]."""
    own = look_up(HAIR, who["hair_tone"])
    return own + who["grey"] * (GREY - own)


def thinned(density, strand, soft=0.5):
    """Opacity [h, w] of strands (noise in about [-1, 1]) where hair grows with `density` (0 none to 1 full)."""
    return ramp(2.2 * density - 1.1 - strand, soft)


def strands(who, across, along, number=20):
    """Returns the strand noise [h, w] in about [-1, 1] and the reflectance [h, w, 3] of hair combed along `along`."""
    seed = stream(who, number)
    lock = value_noise(seed, 9.0 * across, 1.2 * along)
    across = across + 0.02 * lock
    fine, middle, broad = (
        value_noise(fold(seed, i), knots * across, length * along)
        for i, (knots, length) in enumerate(((150.0, 3.5), (70.0, 2.6), (26.0, 1.6)), 1)
    )
    thin = 0.45 * fine + 0.35 * middle + 0.25 * broad
    tint = 1.0 + 0.42 * thin + 0.14 * lock
    return thin, colour(who) * jnp.maximum(tint, 0.15)[..., None], lock


def hairline(who, x, y, tufts=0.0):
    """Height [h, w] of the hairline on the mean head, perturbed by the noise `tufts`; hair grows above (y is down)."""
    side = jnp.abs(x)
    fringe = who["fringe"] > 0.7
    hang = fringe * (0.30 + 0.06 * tufts) * bell((x - 0.5 * who["parting"]) / 0.45)
    peak = 0.05 * bell((x - who["parting"]) / 0.25) * who["fringe"]
    receding = 0.14 * who["age"] * who["masculine"] * (bell((side - 0.36) / 0.16) + 0.4)
    temples = 0.30 * jnp.maximum(side - 0.30, 0.0)
    return who["hairline"] + hang + peak - receding + temples + 0.035 * tufts


def within(who, x, y, z, tufts=0.0):
    """Distance of points of the mean head inside the hairline: above the forehead, behind the temples."""
    long = who["hair_style"] > 0.55
    low = jnp.where(
        z < -0.36, 0.40, jnp.where(long, 0.5, 0.06 + 0.10 * who["masculine"])
    )  # at the nape; in front of the ear
    temple = 0.16 + 0.10 * bell((y + 0.55) / 0.12) - 0.10 * ramp(y + 0.15, 0.5)
    return jnp.maximum(hairline(who, x, y, tufts) - y, jnp.minimum(temple - z, low - y))


def thickness(who, x, y, z):
    """Thickness of the hair above points of the mean head."""
    d = within(who, x, y, z)
    grown = jnp.where(who["hair_style"] < 0.10, 0.0, 1.0)
    return grown * (0.03 * ramp(d - 0.06, 0.1) + 1.15 * who["hair_volume"] * ramp(d - 0.16, 0.36))


def crop(who, layer, skin, cover):
    """Returns opacity [h, w], reflectance [h, w, 3] and strand noise [h, w] of the hair on the skull.

    `layer` [h, w, 8] is the surface of the hair (place on the mean head, normal, depth, cover); `skin` and `cover`
    [h, w] are the depth of the skin and the share of a pixel that it covers.
    """
    x, y, z, depth, hit = (layer[..., i] for i in (0, 1, 2, 6, 7))
    across = jnp.arctan2(x - 0.35 * who["parting"], -(y - 0.6)) * 1.2
    along = jnp.hypot(y + 1.3, z)
    across += 0.025 * who["wave"] * jnp.sin(9.0 * along + 4.0 * x)
    thin, paint, lock = strands(who, across, along)
    tufts = value_noise(stream(who, 21), 7.0 * x, 1.5 * y) + 0.5 * value_noise(stream(who, 23), 22.0 * x, 2.0 * y)
    d = within(who, x, y, z, tufts)
    feather = 0.14 - 0.06 * (who["fringe"] > 0.7)
    density = ramp(d, feather) * (1.0 - 0.4 * who["age"] * who["masculine"] * bell((y + 1.0) / 0.25))
    density = jnp.maximum(1.25 * density, (1.0 - cover) * ramp(d - 0.02, 0.08))
    outline = ramp(hit - 0.30 + 0.22 * thin + 0.2 * lock, 0.5) * ramp(hit - 0.15, 0.2) * (depth > skin - 0.06)
    grown = jnp.where(who["hair_style"] < 0.10, 0.12 * (who["beard"] > 0.2), 1.0)
    paint *= (1.0 - 0.35 * ramp(0.10 - d, 0.12))[..., None]  # roots are shaded by the hair above them
    return grown * outline * thinned(density, thin + 0.3 * lock, 0.7), paint, thin


def forehead_shade(who, x, y, z):
    """Strength [h, w] in [0, 1] of the hair's shadow on the skin just below the hairline."""
    falls = 0.25 + 0.30 * (who["fringe"] > 0.7)
    return falls * (who["hair_style"] > 0.10) * ramp(within(who, x, y, z) + 0.13, 0.26)


def curtain(who, u, v, edge, pixel):
    """Returns opacity [h, w], reflectance [h, w, 3] and strand noise of long hair beside and behind the face."""
    wave = (0.02 + 0.06 * who["wave"]) * jnp.sin(5.0 * v + 3.0 * jnp.sign(u)) * ramp(v, 0.8)
    thin, paint, lock = strands(who, u + wave, v, 24)
    long = who["hair_style"] > 0.55
    return long * ramp(edge + 0.05 * lock + 0.04 * thin, pixel + 0.07), paint, thin


def beside(who, u, v, pixel):
    """Mask [h, w] of long hair in front of the cheeks, in image coordinates, with a border of single strands."""
    side = jnp.abs(u)
    tufts = value_noise(stream(who, 26), 9.0 * u, 1.3 * v) + 0.6 * value_noise(stream(who, 27), 45.0 * u, 2.0 * v)
    inner = 0.63 - 0.10 * who["parting"] * u + 0.05 * jnp.sin(2.3 * v + 9.0 * who["wave"] + 1.0 * jnp.sign(u))
    inner += 0.25 * (1.0 - ramp(v + 0.20, 0.5))  # it comes down from behind the temples
    return ramp(side - inner + 0.07 * tufts, pixel + 0.05)


def sheen(normal, strand, lamp):
    """Highlight [h, w] of strands that run down the head: a band perpendicular to the half vector."""
    half = lamp + jnp.array([0.0, 0.0, 1.0])
    half /= jnp.linalg.norm(half)
    tilt = normal[..., 1] * half[2] - normal[..., 2] * half[1] + 0.08 * strand
    facing = jnp.clip((normal * half).sum(-1), 0.0)
    band = 0.75 * bell(tilt / 0.16) + 0.35 * bell((tilt - 0.22) / 0.30)
    return band * facing * (0.6 + 0.8 * jnp.clip(strand, -0.6, 1.0))


def brows(who, x, y, below):
    """Draws eyebrows over `below` [h, w, 3]: an arched, tapering band of hairs."""
    side, eye = jnp.abs(x), EYE
    along = (side - eye[0]) / 0.21  # -1 inner end, 1 outer end
    middle = -0.375 - who["brow_arch"] * (1.0 - 0.8 * (along - 0.15) ** 2) + 0.03
    half = (0.028 + 0.014 * who["masculine"]) * who["brow_weight"] * (1.0 - 0.25 * along - 0.3 * along**2)
    seed = stream(who, 6)
    lean = side + (0.9 - 0.5 * along) * (y - middle)  # hairs lean outwards
    hairs = 0.7 * value_noise(seed, 75.0 * lean, 12.0 * y) + 0.3 * value_noise(fold(seed, 1), 20.0 * x, 30.0 * y)
    density = ramp(half - jnp.abs(y - middle), half + 0.03) * ramp(1.08 - jnp.abs(along), 0.35)
    tone = 0.75 * look_up(HAIR, jnp.minimum(who["hair_tone"], 2.8)) + 0.25 * who["grey"] * GREY
    mask = 0.85 * thinned(1.1 * density, 0.9 * hairs, 1.3)
    return below + mask[..., None] * (tone - below)


def beard(who, x, y, lips, below):
    """Draws shaved shadow, stubble, moustache, goatee or full beard over `below` [h, w, 3]; see `style`."""
    side = jnp.abs(x)
    grown = style(who)
    seed = stream(who, 9)
    hairs = 0.6 * value_noise(seed, 60.0 * x, 26.0 * y) + 0.4 * value_noise(fold(seed, 1), 24.0 * x, 9.0 * y)
    ragged = 0.035 * value_noise(stream(who, 10), 9.0 * x, 9.0 * y)
    jaw = ramp(y + ragged - 0.67 + 0.5 * jnp.maximum(side - 0.16, 0.0), 0.22)
    jaw = jnp.maximum(jaw, ramp(side + 2.0 * ragged - 0.52, 0.30) * ramp(y - 0.20, 0.5)) * ramp(1.13 - y + ragged, 0.14)
    point = ramp(y + ragged - 0.68, 0.16) * ramp(0.21 - side + ragged, 0.12)
    lip = ramp(0.060 - jnp.abs(y + 0.5 * ragged - 0.425 - 0.25 * side * side), 0.06) * ramp(0.32 - side, 0.06)
    clear = 1.0 - lips
    place = {"moustache": lip, "goatee": jnp.maximum(point, lip), "full": jnp.maximum(jaw, lip)}
    density = sum(grown[name] * where for name, where in place.items())
    stubble = grown["shadow"] * place["full"] * clear
    below = below * jnp.exp(-0.55 * stubble[..., None] * jnp.array([1.0, 0.80, 0.65]) * (1.0 + 0.5 * hairs)[..., None])
    mask = 0.88 * thinned(density, 0.8 * hairs, 1.3) * clear * ramp(density - 0.05, 0.1)
    tone = 0.9 * colour(who) * (1.0 + 0.5 * hairs)[..., None]
    return below + mask[..., None] * (tone - below)


def style(who) -> dict:
    """Amount in [0, 1] of each kind of beard: `shadow` (shaved to stubble), `moustache`, `goatee`, `full`."""
    b = who["beard"]
    return {
        "shadow": jnp.where(b > 0.0, jnp.minimum(0.15 + 1.3 * b, 1.0), 0.0),
        "moustache": ((b > 0.60) & (b <= 0.70)).astype(jnp.float32),
        "goatee": ((b > 0.70) & (b <= 0.82)).astype(jnp.float32),
        "full": (b > 0.82).astype(jnp.float32),
    }

"""A head in front of a room, as light reaches a camera: linear RGB, one image at a time (use `jax.vmap`).

The head is a smooth union of ellipsoids met by parallel rays, with Gaussian relief (`person.RELIEF`) on top. Shape,
shadows and occlusion are smooth, so they are found on a coarse grid; silhouettes and paint (`albedo`) at every pixel.
Light: a soft lamp with a wrapped Lambert term that reaches further in red, the cheap look of light under skin [C],
shadows and ambient occlusion from the depth map, a Blinn highlight, and an ambient half-sphere.
"""

import jax
import jax.numpy as jnp

from input_pipeline.simulate import albedo
from input_pipeline.simulate.noise import bell, fold, ramp, uniform, value_noise
from input_pipeline.simulate.person import ROW, landmarks

COARSE = 64  # side of the grid for shape and light
HALF = 1.17  # half the picture's side in head units: 1.3 x a face box of 1.8
CENTRE_Y = 0.12  # of the face box, in head units
WRAP = jnp.array([0.40, 0.22, 0.14])  # how far light reaches round the terminator, by channel
HEAD = jnp.array(  # centre and radii of the ellipsoids that blend into a head: skull, face, jaw
    [[0.0, -0.36, -0.30, 0.77, 0.92, 0.98], [0.0, 0.02, -0.06, 0.73, 0.84, 0.72], [0.0, 0.50, 0.02, 0.57, 0.50, 0.57]]
)
NECK = jnp.array([0.0, 1.35, -0.42, 0.47, 1.3, 0.42])
EAR = jnp.array([0.755, 0.0, -0.28, 0.10, 0.22, 0.16])
SHOULDERS = jnp.array([0.0, 2.2, -0.55, 1.9, 1.0, 0.7])


def rotation(now):
    """Head to picture, [3, 3]: yaw, then pitch, then roll."""
    (sy, sp, sr), (cy, cp, cr) = ([f(now[a]) for a in ("yaw", "pitch", "roll")] for f in (jnp.sin, jnp.cos))
    yaw = jnp.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    pitch = jnp.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
    roll = jnp.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return roll @ pitch @ yaw


def picture_grid(now, size):
    """u, v [size, size] in head units for the pixels of a picture, and the side of a pixel."""
    step = 2.0 * HALF / (size * now["zoom"])
    line = (jnp.arange(size) - 0.5 * (size - 1)) * step
    u, v = jnp.meshgrid(line + now["shift_x"], line + CENTRE_Y + now["shift_y"])
    return u, v, step


def meet(turn, shape, u, v):
    """Where rays meet an ellipsoid: depth [h, w] towards the viewer, and signed distance inside its outline [h, w]."""
    centre, radii = shape[:3], shape[3:]
    along = turn[2] / radii  # the viewing direction in head coordinates is the last row of the rotation
    start = [(turn[0, i] * u + turn[1, i] * v - centre[i]) / radii[i] for i in range(3)]
    a = along @ along
    b = sum(start[i] * along[i] for i in range(3))
    c = sum(s * s for s in start) - 1.0
    inside = (b * b - a * c) / a  # 1 in the middle, 0 on the outline
    depth = (-b + jnp.sqrt(jnp.maximum(a * inside, 1e-4))) / a
    return depth, 0.5 * inside * jnp.minimum(radii[0], radii[1])


def head_shapes(who, now):
    """The three ellipsoids of a person's head [3, 6]; the jaw drops as the mouth opens."""
    jaw = 0.06 * jnp.maximum(now["open_mouth"], 0.0)
    shapes = HEAD.at[:, 3].multiply(who["width"]).at[2, 3].multiply(who["jaw"]).at[2, 1].add(jaw)
    return shapes.at[0, 4].multiply(who["crown"])


def bare_head(turn, shapes, u, v):
    """The blended head without relief: depth, outline distance, and the blend's weights [3, h, w]."""
    depths, inside = zip(*(meet(turn, shape, u, v) for shape in shapes), strict=True)
    depths = jnp.stack([d - 6.0 * jnp.maximum(-i, 0.0) for d, i in zip(depths, inside, strict=True)])
    scaled = depths / 0.07
    weights = jax.nn.softmax(scaled, axis=0)
    outline = 0.03 * jax.nn.logsumexp(jnp.stack(inside) / 0.03, axis=0)
    return 0.07 * jax.nn.logsumexp(scaled, axis=0), outline, weights


def to_head(turn, u, v, w):
    """Picture coordinates to head coordinates, each [h, w]."""
    return tuple(turn[0, i] * u + turn[1, i] * v + turn[2, i] * w for i in range(3))


def relief_at(relief, x, y):
    """Height of the relief and its slopes along x and y, each [h, w]."""
    side = jnp.abs(x)[..., None]
    du, dv = (side - relief[:, 0]) / relief[:, 2], (y[..., None] - relief[:, 1]) / relief[:, 3]
    bumps = relief[:, 4] * jnp.exp(-0.5 * (du * du + dv * dv))
    slope_x = -(bumps * du / relief[:, 2]).sum(-1) * jnp.sign(x)
    return bumps.sum(-1), slope_x, -(bumps * dv / relief[:, 3]).sum(-1)


def shift(depth, du, dv):
    """A picture [h, w] moved by a fraction of a pixel, edges repeated: two products with hat matrices."""
    rows = jnp.arange(depth.shape[0])

    def hat(d):
        at = jnp.clip(rows + d, 0.0, depth.shape[0] - 1.0)
        return jnp.maximum(1.0 - jnp.abs(at[:, None] - rows), 0.0)

    return hat(dv) @ depth @ hat(du).T


def smooth_shape(who, now, turn, shapes, relief, lamp):
    """Relief height, normal, shadow and occlusion, [COARSE, COARSE, 6], on the coarse grid."""
    u, v, step = picture_grid(now, COARSE)
    base, outline, weights = bare_head(turn, shapes, u, v)
    x, y, z = to_head(turn, u, v, base)
    height, slope_x, slope_y = relief_at(relief, x, y)
    x, y, z = to_head(turn, u, v, base + 0.8 * height)
    height, slope_x, slope_y = relief_at(relief, x, y)
    # The normal in head coordinates: the ellipsoids' gradients, blended, then tilted by the relief.
    gradient = [
        sum(weights[k] * (p - s[i]) / s[i + 3] ** 2 for k, s in enumerate(shapes)) for i, p in enumerate((x, y, z))
    ]
    length = jnp.sqrt(sum(g * g for g in gradient))
    front = jnp.maximum(gradient[2] / length, 0.0)
    tilted = [gradient[0] / length - front * slope_x, gradient[1] / length - front * slope_y, gradient[2] / length]
    length = jnp.sqrt(sum(t * t for t in tilted))
    normal = [sum(turn[j, i] * tilted[i] for i in range(3)) / length for j in range(3)]
    neck, _ = meet(turn, NECK, u, v)
    depth = jnp.maximum(-1.2 + ramp(outline, 2.0 * step) * (base + height + 1.2), neck)
    reach = jnp.array([0.04, 0.09, 0.16, 0.25, 0.36, 0.5])
    rise = [shift(depth, r * lamp[0] / step, r * lamp[1] / step) - depth - r * lamp[2] for r in reach]
    blocked = jnp.stack([jnp.clip(h / (0.02 + 0.12 * r), 0.0, 1.0) for h, r in zip(rise, reach, strict=True)]).max(0)
    around = (
        sum(shift(depth, a / step, b / step) for a, b in ((0.12, 0.0), (-0.12, 0.0), (0.0, 0.12), (0.0, -0.12))) / 4
    )
    occlusion = jnp.clip(1.0 - 4.0 * jnp.maximum(around - depth, 0.0), 0.35, 1.0)
    return jnp.stack([height, *normal, 1.0 - blocked, occlusion], axis=-1)


def backdrop(key, size, ambient):
    """An out-of-focus room [size, size, 3] in the ambient light: a soft gradient, patches and a few upright edges."""
    level = uniform(fold(key, 0), (6, 6, 1), 0.05, 0.8)
    hue = uniform(fold(key, 1), (6, 6, 3), 0.87, 1.13)
    soft = jax.image.resize(level * hue, (size, size, 3), "cubic").clip(0.02)
    at = uniform(fold(key, 2), (4,))
    line = (jnp.arange(size) + 0.5) / size
    step = 0.5 * ramp(line - at[0], 0.02 + 0.08 * at[1]) - 0.3 * ramp(line - at[2], 0.02 + 0.08 * at[3])
    return soft * (0.8 + step)[None, :, None] * ambient


def render(who: dict, now: dict, clothes: dict, light: dict, room, size: int):
    """One picture [size, size, 3] of linear light, a white wall in full light being about 1.

    `who` and `now` come from `person.person` and `person.moment`, `clothes` holds the values of `person.CLOTHES`,
    `light` those of `scene.draw_light`; `room` is the picture behind the head (`backdrop`).
    """
    turn, relief, shapes, lamp = rotation(now), landmarks(who, now), head_shapes(who, now), light["direction"]
    coarse = smooth_shape(who, now, turn, shapes, relief, lamp)
    fine = jax.image.resize(coarse, (size, size, 6), "linear")
    height, normal, lit, open_sky = fine[..., 0], fine[..., 1:4], fine[..., 4].clip(0, 1), fine[..., 5].clip(0, 1)
    u, v, pixel = picture_grid(now, size)
    base, outline, _ = bare_head(turn, shapes, u, v)
    x, y, _ = to_head(turn, u, v, base + height)
    paint, gloss, wet, texture = albedo.face(who, relief, now, x, y, pixel)

    def shade(colour, n, shadow, sky, shine=None):
        toward = (n * lamp).sum(-1)
        lamp_part = jnp.clip((toward[..., None] + WRAP) / (1.0 + WRAP), 0.0) * shadow[..., None] * light["key"]
        sky_part = (0.65 - 0.35 * n[..., 1] + 0.2 * n[..., 2])[..., None] * sky[..., None] * light["ambient"]
        out = colour * (lamp_part + sky_part)
        if shine is not None:
            half = lamp + jnp.array([0.0, 0.0, 1.0])
            facing = jnp.clip((n * (half / jnp.linalg.norm(half))).sum(-1), 0.0) ** 14
            out += (shine * facing * shadow)[..., None] * light["key"]
        return out

    bump = normal + 0.05 * jnp.stack([texture, -texture, jnp.zeros_like(texture)], -1)
    head = shade(paint, bump, lit, open_sky, gloss)
    pupil = relief[ROW["eye"]]
    spot = jnp.hypot(jnp.abs(x) - pupil[0] - 0.03 * jnp.sign(x * lamp[0]), y - pupil[1] + 0.035 + 0.01 * lamp[1])
    head += (wet * ramp(0.013 - spot, 0.010 + pixel))[..., None] * light["key"]

    picture = room
    picture = _long_hair(who, turn, u, v, pixel, light, shade, picture)
    skin_tone = albedo.look_up(albedo.SKIN, who["tone"])
    _, neck_edge = meet(turn, NECK, u, v)
    across = jnp.stack([u / 0.48, 0.2 * jnp.ones_like(u), jnp.sqrt(jnp.maximum(1.0 - (u / 0.48) ** 2, 0.05))], -1)
    neck = shade(0.92 * skin_tone * (1.0 + 0.06 * texture)[..., None], across, lit, 0.7 * open_sky)
    picture = albedo.over(neck, ramp(neck_edge, pixel), picture)
    picture = _clothes(who, clothes, u, v, pixel, shade, picture)
    for side in (-1.0, 1.0):
        _, edge = meet(turn, EAR.at[0].multiply(side * who["width"]), u, v)
        inner = 0.75 + 0.25 * bell((edge - 0.02) / 0.02)
        ear = shade(
            skin_tone * jnp.array([0.95, 0.80, 0.78]) * inner[..., None],
            normal,
            jnp.ones_like(u),
            0.8 * jnp.ones_like(u),
        )
        picture = albedo.over(ear, ramp(edge, pixel), picture)
    picture = albedo.over(head, ramp(outline, pixel), picture)
    return _hair(who, turn, shapes, u, v, pixel, shade, picture)


def _clothes(who, clothes, u, v, pixel, shade, below):
    """A garment with a round collar over `below`."""
    collar = clothes["collar"] + 0.16 * bell(u / 0.3) - 0.05
    edge = jnp.minimum(v - collar, 0.3 * (v - 0.95 - 0.33 * jnp.abs(u) ** 1.5))
    weave = value_noise(albedo.stream(who, 22), 40.0 * u, 40.0 * v) + value_noise(who["seed"], 3.0 * u, 3.0 * v)
    dye = clothes["lightness"] * (
        1.0 + jnp.stack([clothes["red"], -0.3 * (clothes["red"] + clothes["blue"]), clothes["blue"]])
    )
    colour = dye * (1.0 + 0.12 * weave)[..., None]
    n = jnp.stack([0.4 * u, -0.4 * jnp.ones_like(u), 0.8 * jnp.ones_like(u)], -1)
    return albedo.over(shade(colour, n, jnp.ones_like(u), 0.8 * jnp.ones_like(u)), ramp(edge, pixel), below)


def _strands(who, along, across):
    """Hair [h, w, 3] and its sheen: long thin noise."""
    seed = albedo.stream(who, 20)
    thin = value_noise(seed, 55.0 * across, 3.0 * along) + 0.7 * value_noise(fold(seed, 1), 16.0 * across, 1.5 * along)
    return albedo.look_up(albedo.HAIR, who["hair_tone"]) * (1.0 + 0.35 * thin)[..., None], thin


def _long_hair(who, turn, u, v, pixel, light, shade, below):
    """Hair that falls behind the face and neck, for half-long and long styles, over `below`."""
    long = ramp(who["hair_style"] - 0.55, 0.02)
    length = jnp.where(who["hair_style"] > 0.75, 1.75, 0.95)
    _, edge = meet(
        turn,
        jnp.array([0.0, -0.1, -0.5, 0.0, 0.0, 0.5]).at[3].set(0.80 + 1.2 * who["hair_volume"]).at[4].set(length),
        u,
        v,
    )
    colour, thin = _strands(who, v, u + 0.05 * jnp.sin(4.0 * v))
    n = jnp.stack([u, -0.1 * jnp.ones_like(u), 0.6 * jnp.ones_like(u)], -1)
    dim = 0.6 * jnp.ones_like(u)
    return albedo.over(shade(colour, n, dim, dim), long * ramp(edge + 0.015 * thin, pixel + 0.02), below)


def _hair(who, turn, shapes, u, v, pixel, shade, below):
    """The hair on the skull over `below`: a shell with a hairline, side-burns and perhaps a fringe."""
    grown = ramp(who["hair_style"] - 0.10, 0.02)
    shell = shapes[0].at[3:].add(who["hair_volume"] * jnp.array([0.55, 1.0, 0.5]))
    depth, edge = meet(turn, shell, u, v)
    x, y, z = to_head(turn, u, v, depth)
    side = jnp.abs(x)
    colour, thin = _strands(who, jnp.hypot(y + 1.3, z), jnp.arctan2(x - 0.3 * who["parting"], -(y - 0.6)) * 1.2)
    tufts = value_noise(albedo.stream(who, 21), 9.0 * x, 2.0 * y)
    hang = jnp.where(who["fringe"] > 0.7, 0.26, 0.0) * bell((x - who["parting"] * 0.5) / 0.5)
    line = who["hairline"] + hang + 0.10 * bell((x - who["parting"]) / 0.25) * who["fringe"]
    line += 0.45 * jnp.maximum(side - 0.38, 0.0) + 1.6 * jnp.maximum(side - 0.62, 0.0) + 0.05 * tufts + 0.03 * thin
    sideburn = jnp.where(who["hair_style"] > 0.55, 0.9, -0.02 + 0.3 * (z < 0.0))
    line = jnp.minimum(line, sideburn) + ramp(z - 0.05, 0.3) * jnp.minimum(0.0, -0.15 - line)
    mask = grown * ramp(jnp.minimum(edge + 0.010 * thin, line - y), pixel + 0.035)
    n = jnp.stack([turn[j, 0] * x + turn[j, 1] * (y + 0.42) + turn[j, 2] * z for j in range(3)], -1)
    n /= jnp.linalg.norm(n, axis=-1, keepdims=True) + 1e-6
    full = jnp.ones_like(u)
    return albedo.over(shade(colour, n, full, 0.8 * full, (0.05 + 0.04 * thin)), mask, below)

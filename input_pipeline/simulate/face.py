"""A head in front of a room, as light reaches a camera: linear RGB, one image at a time (use `jax.vmap`).

The head is a smooth union of ellipsoids met by parallel rays, with Gaussian relief (`person.RELIEF`) on top. Shape,
shadows, occlusion and the light under the skin are smooth, so they are found on a coarse grid (`light`); silhouettes,
paint (`albedo`, `hair`), pores and gloss at every pixel.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from input_pipeline.simulate import albedo, hair
from input_pipeline.simulate import light as lighting
from input_pipeline.simulate.noise import bell, ramp, value_noise
from input_pipeline.simulate.person import ROW, landmarks

COARSE = 96  # largest side of the grid for shape and light
HALF = 1.17  # half the picture's side in head units: 1.3 x a face box of 1.8
CENTRE_Y = 0.12  # of the face box, in head units
HEAD = np.array(  # centre and radii of the ellipsoids that blend into a head: skull, face, jaw, chin
    [
        [0.0, -0.36, -0.30, 0.76, 0.92, 0.98],
        [0.0, 0.00, -0.06, 0.71, 0.80, 0.72],
        [0.0, 0.36, -0.02, 0.59, 0.48, 0.60],
        [0.0, 0.70, 0.10, 0.33, 0.31, 0.45],
    ],
    np.float32,
)
NECK = np.array([0.0, 1.45, -0.45, 0.44, 1.3, 0.42], np.float32)
EAR = np.array([0.735, 0.02, -0.28, 0.10, 0.21, 0.16], np.float32)
CURTAIN = np.array([0.0, -0.1, -0.5, 0.80, 0.95, 0.5], np.float32)  # long hair


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
    """The ellipsoids of a person's head [4, 6]; jaw and chin drop as the mouth opens."""
    jaw = 0.06 * jnp.maximum(now["open_mouth"], 0.0)
    shapes = jnp.asarray(HEAD).at[:, 3].multiply(who["width"]).at[2:, 3].multiply(who["jaw"])
    shapes = shapes.at[2:, 1].add(jaw * jnp.array([0.5, 1.5]))
    return shapes.at[0, 4].multiply(who["crown"])


def bare_head(turn, shapes, u, v):
    """The blended head without relief: depth, outline distance, and the blend's weights [4, h, w]."""
    depths, inside = zip(*(meet(turn, shape, u, v) for shape in shapes), strict=True)
    depths = jnp.stack([d - 6.0 * jnp.maximum(-i, 0.0) for d, i in zip(depths, inside, strict=True)])
    scaled = depths / 0.07
    weights = jax.nn.softmax(scaled, axis=0)
    outline = 0.03 * jax.nn.logsumexp(jnp.stack(inside) / 0.03, axis=0)
    return 0.07 * jax.nn.logsumexp(scaled, axis=0), outline, weights


def to_head(turn, u, v, w):
    """Picture coordinates to head coordinates, each [h, w]."""
    return tuple(turn[0, i] * u + turn[1, i] * v + turn[2, i] * w for i in range(3))


def uneven(who, x, y):
    """Head coordinates under a person's warp: the halves of no face are alike."""
    lean, sway = who["warp"]
    across = x + (lean[0] * y + lean[1] * jnp.sin(3.0 * y + lean[3])) * bell(x / 0.5)
    return across, y + sway[0] * x + sway[1] * jnp.sin(4.0 * x + sway[3])


def relief_at(relief, x, y):
    """Height of the relief and its slopes along x and y, each [h, w]."""
    side = jnp.abs(x)[..., None]
    du, dv = (side - relief[:, 0]) / relief[:, 2], (y[..., None] - relief[:, 1]) / relief[:, 3]
    bumps = relief[:, 4] * jnp.exp(-0.5 * (du * du + dv * dv))
    slope_x = -(bumps * du / relief[:, 2]).sum(-1) * jnp.sign(x)
    return bumps.sum(-1), slope_x, -(bumps * dv / relief[:, 3]).sum(-1)


def smooth_shape(who, now, turn, shapes, relief, light, size):
    """Relief height, normal [3], light on skin [3] and openness to the sky, [size, size, 8], on the coarse grid."""
    u, v, step = picture_grid(now, size)
    base, outline, weights = bare_head(turn, shapes, u, v)
    x, y, z = to_head(turn, u, v, base)
    height, slope_x, slope_y = relief_at(relief, *uneven(who, x, y))
    x, y, z = to_head(turn, u, v, base + 0.8 * height)
    height, slope_x, slope_y = relief_at(relief, *uneven(who, x, y))
    # The normal in head coordinates: the ellipsoids' gradients, blended, then tilted by the relief.
    gradient = [
        sum(weights[k] * (p - s[i]) / s[i + 3] ** 2 for k, s in enumerate(shapes)) for i, p in enumerate((x, y, z))
    ]
    length = jnp.sqrt(sum(g * g for g in gradient))
    front = jnp.maximum(gradient[2] / length, 0.0)
    tilted = [gradient[0] / length - front * slope_x, gradient[1] / length - front * slope_y, gradient[2] / length]
    length = jnp.sqrt(sum(t * t for t in tilted))
    normal = jnp.stack([sum(turn[j, i] * tilted[i] for i in range(3)) / length for j in range(3)], -1)
    on_head = ramp(outline, 2.0 * step)
    neck, inside = meet(turn, NECK, u, v)
    depth = jnp.maximum(-1.2 + on_head * (base + height + 1.2), jnp.where(inside > 0.0, neck, -1.2))
    across = jnp.clip(u / 0.48, -0.9, 0.9)
    throat = jnp.stack([across, 0.15 * jnp.ones_like(u), jnp.sqrt(1.0 - across**2)], -1)
    normal = throat + on_head[..., None] * (normal - throat)
    arrived, open_sky = lighting.irradiance(normal, depth, light, step)
    flesh = jnp.maximum(on_head, ramp(inside, 2.0 * step))
    return jnp.concatenate([height[..., None], normal, lighting.scatter(arrived, flesh, step), open_sky[..., None]], -1)


def render(who: dict, now: dict, clothes: dict, light: dict, room, size: int):
    """One picture [size, size, 3] of linear light, a white wall in full light being about 1.

    `who` and `now` come from `person.person` and `person.moment`, `clothes` holds the values of `person.CLOTHES`,
    `light` comes from `light.draw_light`; `room` is the picture behind the head (`room.backdrop`).
    """
    turn, relief, shapes = rotation(now), landmarks(who, now), head_shapes(who, now)
    coarse = smooth_shape(who, now, turn, shapes, relief, light, min(COARSE, size))
    fine = lax.optimization_barrier(jax.image.resize(coarse, (size, size, 8), "linear"))
    height, normal, arrived, open_sky = fine[..., 0], fine[..., 1:4], fine[..., 4:7], fine[..., 7]
    u, v, pixel = picture_grid(now, size)
    base, outline = lax.optimization_barrier(bare_head(turn, shapes, u, v)[:2])
    head = _skin(who, now, turn, relief, light, (u, v, base + height), normal, arrived, open_sky, pixel)

    picture, locks, where = _curtain(who, turn, u, v, pixel, light, room)
    bare = albedo.look_up(albedo.SKIN, who["tone"]) * jnp.array([0.96, 0.90, 0.88])
    _, neck_edge = meet(turn, NECK, u, v)
    folds = 1.0 + 0.10 * value_noise(albedo.stream(who, 25), 2.0 * u, 9.0 * v)
    picture = albedo.over(bare * folds[..., None] * arrived, ramp(neck_edge, pixel + 0.02), picture)
    picture = _clothes(who, clothes, u, v, pixel, light, picture)
    picture = albedo.over(locks, where * ramp(jnp.abs(u) - 0.50 - 0.1 * who["parting"] * u, 0.15), picture)
    picture = _ears(who, turn, u, v, pixel, light, picture)
    picture = albedo.over(head, ramp(outline, pixel + 0.01), picture)
    return _crop(who, turn, shapes, u, v, pixel, light, picture)


def eye_holes(who: dict, now: dict, size: int):
    """Where holes for the eyes would be cut into a picture of a face: [size, size, 1], 1 inside, soft-edged."""
    turn, relief = rotation(now), landmarks(who, now)
    u, v, pixel = picture_grid(now, size)
    x, y = uneven(who, *to_head(turn, u, v, bare_head(turn, head_shapes(who, now), u, v)[0])[:2])
    eye = relief[ROW["eye"]]
    reach = jnp.hypot((jnp.abs(x) - eye[0]) / 0.19, (y - eye[1]) / 0.10)
    return ramp(1.0 - reach, 0.1 + pixel / 0.10)[..., None]


def _skin(who, now, turn, relief, light, point, normal, arrived, open_sky, pixel):
    """The face [h, w, 3]: paint under the light that arrives, pores and gloss on it, wet eyes, glass."""
    x, y, _ = to_head(turn, *point)
    hung = hair.forehead_shade(who, x, y)
    x, y = lax.optimization_barrier(uneven(who, x, y))  # else every texture finds them again
    paint, rough = albedo.skin(who, relief, now, x, y)
    paint, lips = albedo.mouth(who, relief, now, x, y, pixel, paint)
    paint = albedo.nostrils(relief, x, y, pixel, paint)
    paint = hair.beard(who, relief, x, y, lips, paint)
    paint, wet = albedo.eyes(who, relief, now, x, y, pixel, paint)
    paint = hair.brows(who, relief, now, x, y, pixel, paint)
    paint, lens = albedo.glasses(who, relief, x, y, pixel, paint)
    depth = 0.0011 * rough * (1.0 - wet) * jnp.minimum(1.0, 0.012 / pixel)  # below a pixel pores average out
    slope = [0.5 * (jnp.roll(depth, -1, axis) - jnp.roll(depth, 1, axis)) / pixel for axis in (1, 0)]
    bumped = normal - jnp.stack([*slope, jnp.zeros_like(depth)], -1)
    main = light["direction"] * light["key"].mean() + jnp.array([0.0, -0.4, 0.3]) * light["ambient"].mean()
    arrived = arrived * jnp.clip(1.0 - 1.3 * (slope[0] * main[0] + slope[1] * main[1]) / main[2], 0.4, 1.6)[..., None]
    arrived *= (1.0 - hung)[..., None]
    oily = who["shine"] * (0.5 + 0.7 * bell(x / 0.22) * bell((y + 0.15) / 0.5)) * (1.0 + 0.25 * rough) + 0.6 * lips
    shine = lighting.gloss(bumped, light, 1.0 - 0.6 * lips, open_sky, arrived)
    head = paint * arrived + jnp.clip(oily * (1.0 - wet), 0.0)[..., None] * shine
    return _glass(who, relief, light, x, y, lens, pixel, head + _catchlight(relief, light, x, y, wet, pixel))


def _catchlight(relief, light, x, y, wet, pixel):
    """The lamps mirrored by the wet eyes [h, w, 3]: a small bright window off the pupil, towards each lamp."""
    eye, total = relief[ROW["eye"]], 0.0
    for direction, colour in lighting.lamps(light):
        du = jnp.abs(x) - eye[0] - 0.045 * direction[0] * jnp.sign(x)
        dv = y - eye[1] - 0.045 * direction[1] + 0.005
        spot = ramp(0.006 - jnp.maximum(jnp.abs(du), 0.8 * jnp.abs(dv)), 0.012 + pixel)
        total += (wet * spot * jnp.clip(direction[2] + 0.2, 0.0, 1.0))[..., None] * colour
    return 0.8 * total + 0.02 * wet[..., None] * light["ambient"]


def _glass(who, relief, light, x, y, lens, pixel, below):
    """Lenses over `below`: they dim a little and mirror the lamp as a slanted patch."""
    eye, lamp = relief[ROW["eye"]], light["direction"]
    u, v = jnp.abs(x) - eye[0] - 0.10 * jnp.sign(x) * lamp[0], y - eye[1] - 0.10 * lamp[1] - 0.03
    patch = ramp(0.065 - jnp.abs(u + 0.5 * v), 0.02 + pixel) * ramp(0.07 - jnp.abs(v), 0.03 + pixel)
    veil = (0.22 * patch + 0.015) * jnp.clip(who["shine"] + 0.1, 0.0, 1.0)
    return below * (1.0 - 0.10 * lens)[..., None] + (lens * veil)[..., None] * (light["key"] + light["ambient"])


def _lit(colour, normal, light, open_sky):
    """Cloth or hair [h, w, 3] of reflectance `colour` under the lamps and the sky, without cast shadows."""
    dome = (0.60 - 0.40 * normal[..., 1]) * open_sky
    total = dome[..., None] * light["ambient"]
    for direction, lamp in lighting.lamps(light):
        total += jnp.clip(0.85 * (normal @ direction) + 0.15, 0.0)[..., None] * lamp * (0.3 + 0.7 * open_sky)[..., None]
    return colour * total


def _ears(who, turn, u, v, pixel, light, below):
    """Both ears over `below`: a rim, a hollow and a lobe, redder than the cheek."""
    bare = albedo.look_up(albedo.SKIN, who["tone"]) * jnp.array([0.95, 0.76, 0.74])
    for side in (-1.0, 1.0):
        shape = jnp.asarray(EAR).at[0].multiply(side * who["width"])
        _, edge = meet(turn, shape, u, v)
        y = to_head(turn, u, v, -0.28)[1]
        hollow = bell((edge - 0.030) / 0.010) * bell((y + 0.02) / 0.13)
        rim = 1.0 - 0.55 * hollow - 0.25 * ramp(edge - 0.035, 0.03)
        n = jnp.stack([side * 0.6 + 0.0 * u, -0.2 + 0.5 * (y - 0.02), 0.7 + 0.0 * u], -1)
        ear = _lit(bare * rim[..., None], n, light, jnp.full(u.shape, 0.75))
        below = albedo.over(ear, ramp(edge, pixel + 0.012), below)
    return below


def _clothes(who, clothes, u, v, pixel, light, below):
    """A garment with folds over `below`: round-necked or an open shirt collar, plain or striped."""
    opening = jnp.where(clothes["open"] > 0.6, 0.55 * jnp.maximum(0.40 - jnp.abs(u), 0.0), 0.16 * bell(u / 0.3))
    collar = clothes["collar"] + opening - 0.05
    edge = jnp.minimum(v - collar, 0.3 * (v - 0.98 - 0.30 * jnp.abs(u) ** 1.6))
    seed = albedo.stream(who, 22)
    crumple = value_noise(seed, 2.5 * u + 1.5 * v, 5.0 * v) + 0.5 * value_noise(seed + 1, 7.0 * u + 4.0 * v, 9.0 * v)
    crumple *= clothes["folds"]
    slope = [jnp.roll(crumple, -1, axis) - crumple for axis in (1, 0)]
    n = jnp.stack([0.5 * u - 0.02 * slope[0] / pixel, -0.45 - 0.02 * slope[1] / pixel, 0.8 + 0.0 * u], -1)
    weave = value_noise(seed + 2, 70.0 * u, 70.0 * v)
    dye = clothes["lightness"] * (
        1.0 + jnp.stack([clothes["red"], -0.3 * (clothes["red"] + clothes["blue"]), clothes["blue"]])
    )
    stripe = (clothes["stripes"] > 0.7) * ramp(jnp.sin(60.0 * clothes["stripes"] * (u + 0.02 * crumple)), 0.6)
    colour = dye * ((1.0 + 0.08 * weave) * (1.0 - 0.45 * stripe))[..., None]
    under_chin = 0.9 - 0.5 * bell(u / 0.45) * ramp(1.3 - v, 0.5)
    hem = 1.0 - 0.35 * bell((edge - 0.035) / 0.010)
    cast = ramp(edge + 0.06, 0.10)  # the collar's shade on the neck
    below = below * (1.0 - 0.35 * cast * ramp(0.02 - edge, 0.04))[..., None]
    return albedo.over(_lit(colour * hem[..., None], n, light, under_chin), ramp(edge, pixel + 0.008), below)


def _curtain(who, turn, u, v, pixel, light, below):
    """Long hair behind the face over `below`; also its light [h, w, 3] and opacity [h, w], for the locks in front."""
    shape = (
        jnp.asarray(CURTAIN)
        .at[3]
        .add(1.2 * who["hair_volume"])
        .at[4]
        .set(jnp.where(who["hair_style"] > 0.75, 1.75, 0.95))
    )
    _, edge = meet(turn, shape, u, v)
    where, paint, thin = hair.curtain(who, u, v, edge, pixel)
    n = jnp.stack([u, -0.25 - 0.1 * thin, 0.6 + 0.0 * u], -1)
    deep = 0.30 + 0.45 * ramp(jnp.abs(u) - 0.55, 0.35)
    locks = _lit(paint, n, light, deep)
    return albedo.over(locks, where, below), locks, where


def _crop(who, turn, shapes, u, v, pixel, light, below):
    """The hair on the skull over `below`."""
    shell = shapes[0].at[3:].add(who["hair_volume"] * jnp.array([0.55, 1.0, 0.5]))
    depth, edge = meet(turn, shell, u, v)
    x, y, z = lax.optimization_barrier(to_head(turn, u, v, depth))
    mask, paint, thin = hair.crop(who, x, y, z, edge, pixel)
    n = jnp.stack([turn[j, 0] * x + turn[j, 1] * (y + 0.36) + turn[j, 2] * (z + 0.3) for j in range(3)], -1)
    n /= jnp.linalg.norm(n, axis=-1, keepdims=True) + 1e-6
    locks = _lit(paint, n, light, jnp.full(u.shape, 0.85))
    for direction, lamp in lighting.lamps(light):
        shine = hair.sheen(n, thin, direction)[..., None] * lamp
        locks += (0.10 * paint / (paint.mean(-1, keepdims=True) + 0.05) + 0.035) * shine
    return albedo.over(locks, mask, below)

"""Rendering of a head in front of a room to linear RGB light; one image at a time (use `jax.vmap`).

The head is a mesh (`head`), its hair a second surface above the scalp (`hair`). Shadows, occlusion and subsurface
scattering are smooth and computed on a coarse grid (`light`); outlines, normals, reflectance (`albedo`), pores and
gloss are computed at every pixel. Eyes are spheres behind the lids. `dress` adds clothes and hair around the head.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from input_pipeline.simulate.capture import light as lighting
from input_pipeline.simulate.noise import bell, ramp
from input_pipeline.simulate.people import albedo, dress, hair, head, worn
from input_pipeline.simulate.people.person import expression

COARSE = 96  # largest side of the grid for light
HALF = 1.17  # half the side of the image in head units: 1.3 x a face box of 1.8
CENTRE_Y = 0.12  # centre of the face box, in head units
PLANE = 0.4  # depth at which head units equal units of the image
BEHIND = -1.2  # depth of the background
GLASSES = 0.86  # depth of the plane of the lenses, before the head is turned
KEPT = np.array([0.45, 0.65, 0.80], np.float32)  # share of unscattered light on skin, by channel


def _scalp():
    """Returns the quads [q, 4] of the mean head on which hair may grow."""
    _, y, z = head.MEAN.T
    grows = ((y < -0.48) | ((z < 0.32) & (y < 0.3)) | ((z < -0.3) & (y < 0.45))) & (head.REGION[:, 2] < 0.3)
    grows &= (head.OPEN > 0.25) & ~((y > -0.05) & (z > -0.45))  # not at the throat and around the ears
    rows = grows[head.QUADS].all(1) & (head.REGION[head.QUADS, 3].max(1) == 0)
    return head.QUADS[rows]


SCALP_VERTICES, SCALP_QUADS = np.unique(_scalp(), return_inverse=True)
SCALP_QUADS = SCALP_QUADS.reshape(-1, 4)


def rotation(now):
    """Rotation matrix [3, 3] from head to image coordinates: yaw, then pitch, then roll."""
    (sy, sp, sr), (cy, cp, cr) = ([f(now[a]) for a in ("yaw", "pitch", "roll")] for f in (jnp.sin, jnp.cos))
    yaw = jnp.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    pitch = jnp.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
    roll = jnp.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return roll @ pitch @ yaw


def picture_grid(now, size):
    """Returns u, v [size, size] in head units for the pixels of an image, and the side of a pixel."""
    step = 2.0 * HALF / (size * now["zoom"])
    line = (jnp.arange(size) - 0.5 * (size - 1)) * step
    u, v = jnp.meshgrid(line + now["shift_x"], line + CENTRE_Y + now["shift_y"])
    return u, v, step


def to_head(turn, u, v, w):
    """Converts image coordinates to head coordinates, each [h, w]."""
    return tuple(turn[0, i] * u + turn[1, i] * v + turn[2, i] * w for i in range(3))


def placed(who, now):
    """Returns the vertices [v, 3] of the rotated head in image directions, and the rotation [3, 3]."""
    turn = rotation(now)
    return head.vertices(who["build"], expression(now)) @ turn.T, turn


def to_cells(points, now, size):
    """Projects points [v, 3] to pixels of an image of `size`: [v, 2]."""
    step = 2.0 * HALF / (size * now["zoom"])
    origin = jnp.stack([now["shift_x"], now["shift_y"] + CENTRE_Y])
    return (head.project(points, now["distance"], PLANE) - origin) / step + 0.5 * (size - 1)


def soften(mask):
    """Antialiases a mask [h, w, c] of zeros and ones by a binomial blur (1 2 1) along both axes."""
    for axis in (0, 1):
        edge = [(1, 1) if i == axis else (0, 0) for i in range(3)]
        wide = jnp.pad(mask, edge, mode="edge")
        low, mid, high = (lax.slice_in_dim(wide, i, i + mask.shape[axis], axis=axis) for i in range(3))
        mask = 0.25 * low + 0.5 * mid + 0.25 * high
    return mask


def skin_layer(points, now, size):
    """Rasterises the head: returns the keys [size, size] of the rasteriser, and a dict of values at every pixel.

    `normal` [3], `place` [3] on the mean head, `lips`, `lids`, `ears`, `teeth`, `open` and `cover` (antialiased).
    """
    cells = to_cells(points, now, size)
    groups = head.windows(head.QUADS, 2.0 * HALF / size)
    keys = lax.optimization_barrier(head.rasterise(cells, points[:, 2], head.QUADS, groups, size))
    values = jnp.concatenate([head.normals(points), head.MEAN, head.REGION, head.OPEN[:, None]], 1)
    hit = soften((keys > 0)[..., None].astype(jnp.float32))[..., 0]
    widened = lax.reduce_window(keys, jnp.uint32(0), lax.max, (3, 3), (1, 1), "SAME")  # under the soft outline
    number = head.quad_of(jnp.where(keys > 0, keys, widened))
    y, x = (a.astype(jnp.float32) for a in jnp.mgrid[:size, :size])
    found = lax.optimization_barrier(head.interpolate(values, cells, head.QUADS, number, x, y))
    normal = found[..., :3] / (jnp.linalg.norm(found[..., :3], axis=-1, keepdims=True) + 1e-6)
    layer = {"normal": normal, "place": found[..., 3:6], "open": found[..., 10], "cover": hit}
    layer |= {name: found[..., 6 + i] for i, name in enumerate(head.WEIGHTS)}
    bared = 0.04 + 0.5 * jnp.maximum(now["open_mouth"], 0.0) + 0.35 * jnp.maximum(now["smile"], 0.0)
    return keys, layer | {"open": jnp.where(layer["teeth"] > 0.3, jnp.minimum(bared, 0.7), layer["open"])}


def hair_layer(who, points, now, size):
    """Rasterises the hair at half the resolution: place on the mean head, normal, depth and cover [h, w, 8]."""
    half = size // 2
    mean, out = head.MEAN[SCALP_VERTICES], head.normals(points)[SCALP_VERTICES]
    shell = points[SCALP_VERTICES] + hair.thickness(who, *mean.T)[:, None] * out
    cells = (to_cells(shell, now, size) + 0.5) * (half / size) - 0.5
    groups = head.windows(SCALP_QUADS, 2.0 * HALF / half, SCALP_VERTICES)
    keys = lax.optimization_barrier(head.rasterise(cells, shell[:, 2], SCALP_QUADS, groups, half))
    values = jnp.concatenate([jnp.asarray(mean), head.normals(shell, SCALP_QUADS), shell[:, 2:]], 1)
    y, x = (a.astype(jnp.float32) for a in jnp.mgrid[:half, :half])
    found = head.interpolate(values, cells, SCALP_QUADS, head.quad_of(keys), x, y)
    hit = (keys > 0)[..., None].astype(jnp.float32)
    both = jnp.concatenate([found * hit, hit], -1)
    both = jax.image.resize(soften(both), (size, size, 8), "linear")
    return lax.optimization_barrier(jnp.concatenate([both[..., :7] / (both[..., 7:] + 1e-4), both[..., 7:]], -1))


def eye_layer(points, turn, now, keys, size):
    """Returns visibility [h, w], normal [h, w, 3], depth and sines u, v off the pupil of each pixel's nearer eye."""
    u, v, _ = picture_grid(now, size)
    eyes = points[jnp.array(head.EYES)]
    near = (now["distance"] - PLANE) / (now["distance"] - eyes[:, 2] - 0.1)
    reach = [
        ((u - f * e[0]) / (f * head.RADIUS), (v - f * e[1]) / (f * head.RADIUS))
        for e, f in zip(eyes, near, strict=True)
    ]
    right = jnp.hypot(*reach[0]) < jnp.hypot(*reach[1])
    across, down = (jnp.where(right, a, b) for a, b in zip(*reach, strict=True))
    out = jnp.sqrt(jnp.maximum(1.0 - across**2 - down**2, 0.0))
    depth = jnp.where(right, eyes[0, 2], eyes[1, 2]) + head.RADIUS * out
    shows = ((out > 0.1) & (depth > head.depth_of(keys))).astype(jnp.float32)
    normal = jnp.stack([across, down, out], -1)
    inward = jnp.where(right, -0.05, 0.05)  # eyes that look at a camera converge slightly
    x, y, _ = to_head(turn, across, down, out)
    return shows, normal, depth, x - inward - 4.0 * now["gaze_x"], y - 4.0 * now["gaze_y"] - 0.03


def lighted(normal, depth, opened, cover, light, step):
    """Returns the irradiance [h, w, 3] of skin and its openness [h, w]; shadows and scattering on the coarse grid."""
    size = depth.shape[0]
    low = min(COARSE, size)

    def shrunk(a):
        return jax.image.resize(a, (low, low, *a.shape[2:]), "linear")

    coarse_step, flesh = step * size / low, shrunk(cover)
    clear = [lighting.visible(shrunk(depth), lamp, light["size"], coarse_step) for lamp, _ in lighting.lamps(light)]
    clear = jnp.stack([*clear, lighting.openness(shrunk(depth), coarse_step)], -1)
    clear = lax.optimization_barrier(jax.image.resize(clear, (size, size, 3), "linear"))
    open_sky = clear[..., 2] * opened
    total = lighting.dome(normal, open_sky, light)
    for i, (direction, colour) in enumerate(lighting.lamps(light)):
        total += (
            lighting.toward(normal, direction)
            * (clear[..., i] * jnp.clip(2.0 * opened, 0.0, 1.0) * (0.5 + 0.5 * open_sky))[..., None]
            * colour
        )
    total = lax.optimization_barrier(total)
    spread = lighting.scatter(shrunk(total), flesh, coarse_step)
    return KEPT * total + (1.0 - KEPT) * jax.image.resize(spread, total.shape, "linear"), open_sky


def render(who: dict, now: dict, clothes: dict, light: dict, room, size: int):
    """Renders one image [size, size, 3] of linear light, in which a white wall in full light is about 1.

    `who` and `now` come from `person.person` and `person.moment`; with the key `mask`, values of `devices.masks`, `who`
    is worn as a mask, in the expression `worn.STILL`. `clothes` holds the values of `person.CLOTHES`,
    `light` comes from `light.draw_light`, and `room` is the background (`room.backdrop`).
    """
    points, turn = placed(who, now)
    u, v, pixel = picture_grid(now, size)
    keys, skin = skin_layer(points, now, size)
    crop = hair_layer(who, points, now, size)
    locks = hair.crop(who, crop, head.depth_of(keys), skin["cover"])
    shows, ball, eye_depth, *gaze = eye_layer(points, turn, now, keys, size)
    solid = jnp.maximum(head.depth_of(keys), jnp.where(shows > 0, eye_depth, BEHIND))
    solid = jnp.maximum(solid, jnp.where(locks[0] > 0.4, crop[..., 6], BEHIND))
    solid_here = jnp.maximum((keys > 0).astype(jnp.float32), shows)
    cover, opened = soften(solid_here[..., None])[..., 0], jnp.maximum(skin["open"], 0.8 * shows)
    normal = jnp.where(shows[..., None] > 0, ball, skin["normal"])
    arrived, open_sky = lighted(normal, solid, opened, cover, light, pixel)
    flesh = _skin(who, now, skin, light, arrived, open_sky=open_sky, pixel=pixel)
    eye = _eye(who, light, ball, shows, gaze, arrived=arrived, pixel=pixel)
    wet = soften(shows[..., None])[..., 0]
    face = albedo.over(eye, wet, _lashes(who, wet, pixel, flesh))
    face = _glasses(who, points, turn, now, light, at=(u, v), pixel=pixel, below=face)

    picture, curtain, where = dress.curtain(who, turn, u, v, pixel, light=light, below=room)
    picture = albedo.over(face, cover, picture)
    beside = hair.beside(who, u - points[:, 0].mean(), v, pixel)
    picture = albedo.over(curtain, where * beside, picture)
    shoulder = jnp.minimum(skin["place"][..., 1] - 1.15, jnp.abs(skin["place"][..., 0]) - 0.62)
    shoulder = jnp.where(keys > 0, shoulder, -1.0)
    dressed = dress.clothes(who, clothes, u, v, pixel, light=light, below=picture, shoulder=shoulder)
    chin = ramp(1.12 - skin["place"][..., 1], 0.04) * cover
    picture = albedo.over(picture, chin, dressed)
    return dress.crop(locks, crop, light, picture)


def eye_holes(who: dict, now: dict, size: int):
    """Returns the mask [size, size, 1] of eye holes in a photograph of a face: 1 inside, with soft edges."""
    points, turn = placed(who, now)
    u, v, pixel = picture_grid(now, size)
    centres = head.project(points[jnp.array(head.EYES)], now["distance"], PLANE)
    reach = []
    for centre in centres:
        x, y, _ = to_head(turn, u - centre[0], v - centre[1], 0.0)
        reach.append(jnp.hypot(x / 0.19, y / 0.10))
    return ramp(1.0 - jnp.minimum(*reach), 0.1 + pixel / 0.10)[..., None]


def _skin(who, now, layer, light, arrived, *, open_sky, pixel):
    """Shades face, neck and ears [h, w, 3]: reflectance under the irradiance `arrived`, with pores and gloss."""
    x, y, z = (layer["place"][..., i] for i in range(3))
    lips = layer["lips"]
    paint, rough = albedo.skin(who, now, x, y, z)
    rough = rough * (1.0 - layer["teeth"])
    paint = albedo.lids(who, x, y, layer["lids"], paint)
    paint = paint * jnp.exp(-0.35 * layer["ears"][..., None] * albedo.BLOOD)
    paint = albedo.mouth(who, x, y, lips, layer["teeth"], paint)
    paint = hair.beard(who, x, y, ramp(lips - 0.3, 0.4), paint)
    paint = hair.brows(who, x, y, paint)
    if "mask" in who:
        share, gap = worn.coverage(who["mask"], x, y, z)
        paint, rough = worn.painted(who["mask"], share, gap, paint), rough * (1.0 - share)
    arrived = arrived * (1.0 - layer["teeth"] * (1.0 - jnp.clip(2.0 * layer["open"], 0.0, 1.0)))[..., None]
    arrived *= jnp.clip(7.0 * layer["open"], 0.08, 1.0)[..., None]
    bounced = paint ** (0.25 * (1.0 - layer["open"]))[..., None]  # light in folds was reflected by skin before
    depth = 0.0006 * rough * jnp.minimum(1.0, 0.012 / pixel)  # pores smaller than a pixel average out
    slope = [0.5 * (jnp.roll(depth, -1, axis) - jnp.roll(depth, 1, axis)) / pixel for axis in (1, 0)]
    bumped = layer["normal"] - jnp.stack([*slope, jnp.zeros_like(depth)], -1)
    main = light["direction"] * light["key"].mean() + jnp.array([0.0, -0.4, 0.3]) * light["ambient"].mean()
    facing = jnp.maximum(main[2], 0.1 * jnp.abs(main).sum())  # light from behind does not reach what the camera sees
    arrived = arrived * jnp.clip(1.0 - 1.3 * (slope[0] * main[0] + slope[1] * main[1]) / facing, 0.4, 1.6)[..., None]
    arrived *= bounced * (1.0 - hair.forehead_shade(who, x, y, z))[..., None]
    oily = who["shine"] * (0.5 + 0.7 * bell(x / 0.22) * bell((y + 0.15) / 0.5)) * (1.0 + 0.25 * rough) + 0.6 * lips
    dull = 1.0 - 0.6 * lips
    if "mask" in who:
        oily, dull = oily + share * (who["mask"]["gloss"] - oily), dull + share * (who["mask"]["rough"] - dull)
    shine = lighting.gloss(bumped, light, dull, open_sky, arrived)
    return paint * arrived + (jnp.clip(oily, 0.0) * layer["open"] * (1.0 - 0.8 * layer["lids"]))[..., None] * shine


def _eye(who, light, normal, shows, gaze, *, arrived, pixel):
    """Shades the eyes [h, w, 3], with the shadow of the lids and reflections of the lamps in the cornea."""
    lit = soften(shows[..., None])[..., 0]
    under = lighting.shift(lit, jnp.float32(0.0), -0.035 / pixel)
    colour = albedo.eyeball(who, *gaze, pixel) * arrived * (0.55 + 0.45 * under)[..., None]
    bulge = jnp.stack([gaze[0], gaze[1], jnp.sqrt(jnp.maximum(1.0 - gaze[0] ** 2 - gaze[1] ** 2, 0.0))], -1)
    normal = normal + 0.35 * bulge * ramp(0.4 - jnp.hypot(*gaze), 0.1)[..., None]  # the cornea is more curved
    normal /= jnp.linalg.norm(normal, axis=-1, keepdims=True)
    for direction, lamp in lighting.lamps(light):
        half = direction + lighting.VIEW
        off = 1.0 - normal @ (half / jnp.linalg.norm(half))
        spot = ramp(0.002 + 0.007 * light["size"] - off, 0.003 + 0.05 * pixel) * jnp.clip(direction[2] + 0.2, 0.0, 1.0)
        colour += 1.2 * (spot * under * ramp(0.42 - jnp.hypot(*gaze), 0.1))[..., None] * lamp
    return colour + 0.02 * light["ambient"]


def _lashes(who, wet, pixel, below):
    """Draws the lashes over `below`: a dark line along the upper lid, a thinner one along the lower."""
    strong = 0.55 + 0.25 * (1.0 - who["masculine"]) + 0.20 * who["make_up"]
    length = 0.014 + 0.010 * who["make_up"] + 0.004 * (1.0 - who["masculine"])
    upper = lighting.shift(wet, jnp.float32(0.0), length / pixel)
    lower = lighting.shift(wet, jnp.float32(0.0), -0.5 * length / pixel)
    line = jnp.maximum(strong * upper, (0.25 + 0.3 * who["make_up"]) * lower)
    return below * (1.0 - 0.9 * jnp.clip(line, 0.0, 1.0))[..., None]


def _glasses(who, points, turn, now, light, *, at, pixel, below):
    """Draws glasses over `below` at `at` = (u, v): a frame, and lenses that dim slightly and reflect the lamp."""
    eyes = points[jnp.array(head.EYES)] @ turn  # before the rotation of the head
    near = (now["distance"] - PLANE) / (now["distance"] - GLASSES)
    u, v = (coordinate / near for coordinate in at)
    depth = (eyes[:, 2].mean() + GLASSES - 0.55 - turn[0, 2] * u - turn[1, 2] * v) / turn[2, 2]
    x, y, _ = to_head(turn, u, v, depth)
    wide = 2.0 * albedo.EYE[0] / (eyes[0, 0] - eyes[1, 0])
    x, y = (x - eyes[:, 0].mean()) * wide, y - eyes[:, 1].mean() + albedo.EYE[1]
    below, lens = albedo.glasses(who, x, y, pixel, below)
    eye, lamp = albedo.EYE, light["direction"]
    a, b = jnp.abs(x) - eye[0] - 0.10 * jnp.sign(x) * lamp[0], y - eye[1] - 0.10 * lamp[1] - 0.03
    patch = ramp(0.065 - jnp.abs(a + 0.5 * b), 0.02 + pixel) * ramp(0.07 - jnp.abs(b), 0.03 + pixel)
    veil = (0.15 * patch + 0.015) * jnp.clip(who["shine"] + 0.1, 0.0, 1.0)
    return below * (1.0 - 0.10 * lens)[..., None] + (lens * veil)[..., None] * (light["key"] + light["ambient"])

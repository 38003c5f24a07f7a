"""Pictures of scenes: a live face or a worn mask by a camera, and a photograph of it shown again to another camera."""

import dataclasses

import numpy as np

from input_pipeline.simulate.devices import cameras, encoders, framing, masks, optics, papers, present, screens

SCALE = (0.6, 1.5)  # pixels of a photograph per pixel of the scene


@dataclasses.dataclass(frozen=True)
class Picture:
    """A face crop uint8 [size, size, 3], its truth map uint8 [16, 16, 3] (`framing.truth`) and its crop's scale."""

    image: np.ndarray
    truth: np.ndarray
    margin: float


def direct(shot, camera: cameras.Camera, rng, *, size: int, margin: tuple[float, float]) -> Picture:
    """Takes a picture of a live face, or of a worn mask, in its room."""
    frame = framing.draw_frame(rng, cameras.face_pixels(rng, camera), margin, size)
    scale = frame.face / framing.place(shot.box)[2]
    light = framing.with_detail(framing.seen(shot.light, shot.box, frame), scale, rng)
    depth = _height(shot, frame)
    share = framing.seen(shot.instrument, shot.box, frame) if shot.instrument.any() else np.zeros_like(depth)
    return _taken((light, depth, share), camera, frame, size, rng)


def shown(shot, room, tool, camera: cameras.Camera, rng, *, size: int, margin, source: cameras.Camera, cut=False):
    """Takes a picture of an instrument, a Paper or a Screen, in the light of `room`, that shows a photograph of `shot`.

    source: the camera of the photograph. cut: the print is a cut-out.
    """
    photo = photograph(shot, source, rng)
    frame = framing.draw_frame(rng, cameras.face_pixels(rng, camera), margin, size)
    light, depth, share = present.show(photo, tool, room, frame, rng, cut=cut)
    return _taken((light, depth, share), camera, frame, size, rng)


def photograph(shot, camera: cameras.Camera, rng) -> present.Photograph:
    """Takes the photograph that an attack shows: a passport picture, a portrait or half a body, encoded."""
    x, y, side = framing.place(shot.box)
    full = shot.light.shape[0]
    reach = optics.log_uniform(rng, 0.55, 1.3) * rng.uniform(0.85, 1.15, 4)
    left, top = (max(0.0, c - side * r) for c, r in ((x, reach[0]), (y, reach[1])))
    right, bottom = (min(float(full), c + side * r) for c, r in ((x, reach[2]), (y, reach[3])))
    scale = optics.log_uniform(rng, *SCALE)
    width, height = (max(24, round(scale * a)) for a in (right - left, bottom - top))
    u = (np.arange(width, dtype=np.float32) + 0.5) / scale + np.float32(left)
    v = (np.arange(height, dtype=np.float32) + 0.5) / scale + np.float32(top)
    at = np.broadcast_to(u, (height, width)).copy(), np.broadcast_to(v[:, None], (height, width)).copy()
    light = framing.with_detail(framing.sampled(shot.light, *at, scale), scale, rng)
    share = min(1.0, scale * side / cameras.face_pixels(rng, camera))
    code = encoders.encoded(cameras.photograph(light, camera, rng, share=share), rng)
    eyes = (np.asarray(shot.landmarks[:2], np.float32) - np.array([x, y], np.float32)) / side
    outline = framing.sampled(shot.cover, *at, scale)
    middle = (scale * (x - left), scale * (y - top))
    return present.Photograph(code, scale * side, middle, eyes, outline)


def _height(shot, frame):
    """Height above the face plane in face boxes [h, w]."""
    x, y, side = framing.place(shot.box)
    part = slice(int(y - 0.2 * side), int(y + 0.2 * side)), slice(int(x - 0.2 * side), int(x + 0.2 * side))
    face = float(np.median(shot.depth[part]))
    return (face - framing.seen(shot.depth, shot.box, frame)) / framing.BOX_METRES


def _taken(seen, camera, frame, size, rng) -> Picture:
    light, depth, share = seen
    code = cameras.photograph(light, camera, rng, share=frame.share)
    code = encoders.encoded(code, rng)
    return Picture(framing.finished(code, frame, size, rng), framing.truth(depth, share, frame), frame.margin)


TOOLS = {"replay": screens.screen, "print": papers.paper, "cut": papers.paper, "mask": masks.mask}
NUMBERS = {"replay": screens.PER_SPLIT, "print": papers.PER_SPLIT, "cut": papers.PER_SPLIT, "mask": masks.PER_SPLIT}


def instrument(species: str, number: int) -> papers.Paper | screens.Screen | masks.Mask:
    """Returns instrument `number` of a species."""
    return TOOLS[species](number)

"""Replay-Attack: 50 clients, a laptop's webcam, live faces, prints, and replays on a phone and a tablet.

Chingovska, Anjos, Marcel: On the Effectiveness of Local Binary Patterns in Face Anti-spoofing, BIOSIG 2012. Videos of
320 x 240 pixels; each attack was recorded twice, with the instrument on a fixed support and held by hand.
"""

import functools
from pathlib import Path

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import annotations, media

EXPECTED_TREE = """\
RAW/
  train/real/client001_session01_webcam_authenticate_controlled_1.mov
  train/attack/fixed/attack_print_client001_session01_highdef_photo_controlled.mov
  train/attack/hand/...
  devel/...   test/...
  face-locations/train/real/client001_session01_webcam_authenticate_controlled_1.face   frame x y w h (may be absent)"""

SPLITS = {"train": "train", "devel": "dev", "test": "test"}
FOLDERS = [f"{split}/{folder}" for split in SPLITS for folder in ("real", "attack/fixed", "attack/hand")]

CLIENT = r"client(?P<subject>\d{3})_session(?P<session>\d\d)"
LIGHT = r"(?P<light>controlled|adverse)"
REAL = rf"(?P<split>\w+)/real/{CLIENT}_webcam_authenticate_{LIGHT}_\d"
ATTACK = (
    rf"(?P<split>\w+)/attack/(?P<support>fixed|hand)/attack_(?P<instrument>print|mobile|highdef)_{CLIENT}"
    rf"_(?:highdef|mobile)_(?P<shown>photo|video)_{LIGHT}"
)


def read(raw_dir: str, *, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every video except the enrollment set, sorted by folder and name, with `frames` frames each.

    A subject is the client's number; a video is its path without suffix, because fixed and hand have equal file names.
    `medium` is the instrument and its content: print_photo, mobile_photo, mobile_video, highdef_photo (a tablet) or
    highdef_video. Raises NotADirectoryError or ValueError for a wrong tree, name or option.
    """
    media.check_frames("replay", frames)
    paths = annotations.videos("Replay-Attack", raw_dir, FOLDERS, (".mov",), EXPECTED_TREE)
    return annotations.unique("Replay-Attack", (_presentation(raw_dir, path, frames) for path in paths))


def _presentation(raw_dir, path, frames) -> Presentation:
    example = "train/real/client001_session01_webcam_authenticate_controlled_1.mov"
    name = annotations.fields("Replay-Attack", raw_dir, path, [REAL, ATTACK], example)
    relative = path.relative_to(raw_dir)
    instrument = name.get("instrument")
    faces = Path(raw_dir, "face-locations", relative).with_suffix(".face")
    return Presentation(
        path=relative.as_posix(),
        dataset="replay",
        subject=name["subject"],
        video=relative.with_suffix("").as_posix(),
        species={None: LIVE, "print": "print"}.get(instrument, "replay"),
        load=functools.partial(media.video_frames, str(path), frames, functools.partial(annotations.read_boxes, faces)),
        frames=frames,
        split=SPLITS[name["split"]],
        session=name["session"],
        medium=f"{instrument}_{name['shown']}" if instrument else "",
        light=name["light"],
        support=name.get("support", ""),
    )

"""SiW (Spoof in the Wild): 165 subjects, a camera and a webcam, live faces, prints, replays on four displays.

Liu, Jourabloo, Liu: Learning Deep Models for Face Anti-Spoofing: Binary or Auxiliary Supervision, CVPR 2018. Videos of
1080p; 90 subjects are for training and 75 for testing; there is no dev split.
"""

import functools

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import annotations, media

EXPECTED_TREE = """\
RAW/
  Train/live/003/003-1-1-1-1.mov    subject-sensor-type-medium-session (.mov or .mp4); type 1 live, 2 print, 3 replay
  Train/live/003/003-1-1-1-1.face   left top right bottom, a line a frame (may be absent)
  Train/spoof/003/003-1-2-1-1.mov
  Test/live/153/153-2-1-1-1.m.mov   sixteen live test videos of the release carry a further .m
  Test/..."""

SPLITS = {"Train": "train", "Test": "test"}
FOLDERS = [f"{split}/{kind}" for split in SPLITS for kind in ("live", "spoof")]
SPECIES = {"1": LIVE, "2": "print", "3": "replay"}  # by type
PATTERN = (
    r"(?P<split>Train|Test)/(?P<kind>live|spoof)/(?P<subject>\d{3})/"
    r"(?P=subject)-(?P<sensor>\d)-(?P<type>[123])-(?P<medium>\d)-(?P<session>\d)(?:\.m)?"
)


def read(raw_dir: str, *, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every video, sorted by folder and name, with `frames` evenly spaced frames each.

    `medium` is the number in the name, '' for live. Sixteen live test videos of the release are named like
    `153-2-1-1-1.m.mov` (subjects 153, 154, 158 and 161): the `.m` is not part of the video's name, and their face files
    may be named with or without it. Raises NotADirectoryError or ValueError for a wrong tree, name or option, or where
    the folder live or spoof contradicts the type in the name.
    """
    media.check_frames("siw", frames)
    paths = annotations.videos("SiW", raw_dir, FOLDERS, (".mov", ".mp4"), EXPECTED_TREE)
    return annotations.unique("SiW", (_presentation(raw_dir, path, frames) for path in paths))


def _presentation(raw_dir, path, frames) -> Presentation:
    name = annotations.fields("SiW", raw_dir, path, [PATTERN], "Train/live/003/003-1-1-1-1.mov")
    species = SPECIES[name["type"]]
    if (species == LIVE) != (name["kind"] == "live"):
        raise ValueError(f"{path}: the name says {species}, the folder {name['kind']}; move it to the right folder")
    video, face = path.stem.removesuffix(".m"), path.with_suffix(".face")
    if not face.is_file():
        face = path.with_name(f"{video}.face")
    boxes = functools.partial(annotations.read_boxes, face, numbered=False, corners=True)
    return Presentation(
        path=path.relative_to(raw_dir).as_posix(),
        dataset="siw",
        subject=name["subject"],
        video=video,
        species=species,
        load=functools.partial(media.video_frames, str(path), frames, boxes),
        frames=frames,
        split=SPLITS[name["split"]],
        session=name["session"],
        sensor=name["sensor"],
        medium="" if species == LIVE else name["medium"],
    )

"""MSU-MFSD: 35 subjects, the front cameras of a phone and a laptop, live faces, prints, replays on two displays.

Wen, Han, Jain: Face Spoof Detection with Image Distortion Analysis, IEEE TIFS 2015. The numbers of the subjects have
gaps. Six of the phone's videos are upside down, as their metadata say; their boxes are not used (`media.video_frames`).
"""

import functools
from pathlib import Path

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import annotations, media

EXPECTED_TREE = """\
RAW/
  scene01/real/real_client001_android_SD_scene01.mp4
  scene01/real/real_client001_android_SD_scene01.face   frame,left,top,right,bottom,... (may be absent)
  scene01/real/real_client001_laptop_SD_scene01.mov
  scene01/attack/attack_client001_android_SD_ipad_video_scene01.mp4
  train_sub_list.txt   test_sub_list.txt                 a subject's number a line: 01"""

FOLDERS = ("scene01/real", "scene01/attack")
LISTS = {"train": "train_sub_list.txt", "test": "test_sub_list.txt"}
INSTRUMENTS = {  # name in a file name -> species, medium
    None: (LIVE, ""),
    "ipad_video": ("replay", "ipad"),
    "iphone_video": ("replay", "iphone"),
    "printed_photo": ("print", "printed_photo"),
}
CLIENT = r"client(?P<subject>\d{3})_(?P<sensor>android|laptop)_SD"
REAL = rf"scene01/real/real_{CLIENT}_scene01"
ATTACK = rf"scene01/attack/attack_{CLIENT}_(?P<instrument>ipad_video|iphone_video|printed_photo)_scene01"


def read(raw_dir: str, *, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every video, live videos first, sorted by name, with `frames` evenly spaced frames each.

    The subject lists decide the split, which is '' for a subject in neither. Raises FileNotFoundError for a missing
    list, and NotADirectoryError or ValueError for a wrong tree, name, list or option.
    """
    media.check_frames("msu", frames)
    paths = annotations.videos("MSU-MFSD", raw_dir, FOLDERS, (".mp4", ".mov"), EXPECTED_TREE)
    splits = _splits(raw_dir)
    return annotations.unique("MSU-MFSD", (_presentation(raw_dir, path, splits, frames) for path in paths))


def _presentation(raw_dir, path, splits, frames) -> Presentation:
    example = "scene01/real/real_client001_android_SD_scene01.mp4"
    name = annotations.fields("MSU-MFSD", raw_dir, path, [REAL, ATTACK], example)
    species, medium = INSTRUMENTS[name.get("instrument")]
    boxes = functools.partial(annotations.read_boxes, path.with_suffix(".face"), corners=True)
    return Presentation(
        path=path.relative_to(raw_dir).as_posix(),
        dataset="msu",
        subject=name["subject"],
        video=path.stem,
        species=species,
        load=functools.partial(media.video_frames, str(path), frames, boxes),
        frames=frames,
        split=splits.get(int(name["subject"]), ""),
        sensor=name["sensor"],
        medium=medium,
    )


def _splits(raw_dir: str) -> dict[int, str]:
    """Reads the two lists: {number of a subject: split}."""
    splits: dict[int, str] = {}
    for split, file in LISTS.items():
        path = Path(raw_dir, file)
        if not path.is_file():
            raise FileNotFoundError(f"MSU-MFSD: the list {path} is missing; expected\n{EXPECTED_TREE}")
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
            subject = line.strip()
            if subject and not subject.isdecimal():
                raise ValueError(f"{path}, line {number}: '{subject}' is no subject's number, such as 01; correct it")
            if subject and splits.setdefault(int(subject), split) != split:
                raise ValueError(
                    f"{path}, line {number}: subject {subject} is also in {LISTS['train']}; remove one of the two lines"
                )
    return splits

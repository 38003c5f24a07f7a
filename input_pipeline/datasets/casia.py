"""CASIA-FASD: 50 subjects, three cameras, live faces, warped and cut photographs, replayed videos.

Zhang, Yan, Liu, Lei, Yi, Li: A Face Antispoofing Database with Diverse Attacks, ICB 2012. Twelve clips a subject:
three cameras for each of live, warped photograph, photograph with the eyes cut out, and video on a tablet. 20 subjects
are for training and 30 for testing; there is no dev split and no annotation.
"""

import functools

from input_pipeline.schema import LIVE, Presentation
from input_pipeline.sources import annotations, media

EXPECTED_TREE = """\
RAW/
  train_release/1/1.avi    subject/clip: subjects 1-20; clips 1-8 and HR_1-HR_4
  test_release/1/1.avi     subjects 1-30, other people than in train_release"""

SPLITS = {"train_release": "train", "test_release": "test"}
PATTERN = r"(?P<folder>train_release|test_release)/(?P<subject>[1-9]|[12]\d|30)/(?P<clip>[1-8]|HR_[1-4])"

SPECIES = {
    **dict.fromkeys(("1", "2", "HR_1"), LIVE),
    **dict.fromkeys(("3", "4", "HR_2"), "print"),  # warped
    **dict.fromkeys(("5", "6", "HR_3"), "cut"),
    **dict.fromkeys(("7", "8", "HR_4"), "replay"),
}
# Camera by clip, as in Idiap's interface to the set (bob.db.casia_fasd), since the paper does not give the numbers.
SENSORS = {
    **dict.fromkeys(("1", "3", "5", "7"), "normal"),
    **dict.fromkeys(("2", "4", "6", "8"), "low"),
    **dict.fromkeys(("HR_1", "HR_2", "HR_3", "HR_4"), "high"),
}


def read(raw_dir: str, *, frames: int = media.FRAMES) -> list[Presentation]:
    """Lists every video, train before test and sorted by name, with `frames` evenly spaced frames each.

    Both splits number their subjects from 1, so a subject is 'train/1' or 'test/1', and a video 'train/1/HR_1'.
    Raises NotADirectoryError or ValueError for a wrong tree, name or option.
    """
    media.check_frames("casia", frames)
    paths = annotations.videos("CASIA-FASD", raw_dir, SPLITS, (".avi",), EXPECTED_TREE)
    return annotations.unique("CASIA-FASD", (_presentation(raw_dir, path, frames) for path in paths))


def _presentation(raw_dir, path, frames) -> Presentation:
    name = annotations.fields("CASIA-FASD", raw_dir, path, [PATTERN], "train_release/1/HR_1.avi")
    split, clip = SPLITS[name["folder"]], name["clip"]
    subject = f"{split}/{name['subject']}"
    return Presentation(
        path=path.relative_to(raw_dir).as_posix(),
        dataset="casia",
        subject=subject,
        video=f"{subject}/{clip}",
        species=SPECIES[clip],
        load=functools.partial(media.video_frames, str(path), frames),
        frames=frames,
        split=split,
        sensor=SENSORS[clip],
    )

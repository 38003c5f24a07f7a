"""Face images sorted by identity, for recognition, without live/attack labels.

This is the layout of LFW (Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of Massachusetts
Amherst, TR 07-49, 2007) and of the ORL faces (Samaria, Harter: Parameterisation of a Stochastic Model for Human Face
Identification, WACV 1994).
"""

import functools
from pathlib import Path

from input_pipeline.schema import UNKNOWN, Presentation
from input_pipeline.sources import media

EXPECTED_TREE = """\
RAW/
  Aaron_Eckhart/Aaron_Eckhart_0001.jpg   identity/image, two identities at least
  s1/1.pgm"""


def read(raw_dir: str, *, name: str = "") -> list[Presentation]:
    """Lists every image RAW/identity/image, sorted by path: label -1, the folder as subject, the path as video.

    Option: `name` is the domain. Raises ValueError for fewer than two identities.
    """
    paths = sorted(path for path in Path(raw_dir).glob("*/*") if _is_image(path))
    if len({path.parent for path in paths}) < 2:
        raise ValueError(f"{raw_dir}: images of fewer than two identities; expected\n{EXPECTED_TREE}")
    return [_presentation(raw_dir, path, name) for path in paths]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in media.IMAGE_SUFFIXES and path.name[0] != "."  # archives packed on a Mac hold ._*


def _presentation(raw_dir, path, name) -> Presentation:
    relative = path.relative_to(raw_dir).as_posix()
    return Presentation(
        path=relative,
        dataset="identity",
        domain=name,
        subject=path.parent.name,
        video=relative,
        species=UNKNOWN,
        load=functools.partial(media.image_frame, str(path)),
    )

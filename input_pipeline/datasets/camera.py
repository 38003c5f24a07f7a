"""Face crops of one camera, and attacks simulated from them, as --mode=adapt writes them below the folder of a run."""

import dataclasses

from input_pipeline.datasets import folder
from input_pipeline.schema import Presentation

NAME = "camera"
EXPECTED_TREE = """\
RAW/{train,dev,test}/live/PERSON/*.png              square crops, written by: python main.py --mode=adapt --input=LIVE
RAW/{train,dev,test}/spoof/SPECIES/PERSON/*.png"""

ANY_RAW_DIR = True


def read(raw_dir: str) -> list[Presentation]:
    """Lists the crops, sorted by path; each is one presentation. ValueError as of `folder.read`."""
    listed = folder.read(raw_dir, subject_level=1)
    return [dataclasses.replace(of, dataset=NAME, cropped=True) for of in listed]

"""Folders of links to some pictures of a real data set, as the tables of real faces read them."""

import os
import shutil
from collections.abc import Callable, Sequence

from input_pipeline.schema import Presentation


def link(pictures: Sequence[Presentation], raw_dir: str, folder: str, place: Callable[[Presentation], str]) -> None:
    """Links each of the `pictures` of the data set in `raw_dir` below `folder`, in the subfolder that `place` returns.

    What was in `folder` is removed. Two pictures of one name and place raise FileExistsError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for picture in pictures:
        path = os.path.join(folder, place(picture), os.path.basename(picture.path))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.path.abspath(os.path.join(raw_dir, picture.path)), path)

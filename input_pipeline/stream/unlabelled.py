"""Further images without labels, on which only the terms with a teacher count (`config.data.unlabelled`)."""

from collections.abc import Callable

import pandas as pd

from input_pipeline.schema import UNKNOWN
from input_pipeline.select.examples import Data

ROLE = "unlabelled"


def added(data: Data, config, gather: Callable[..., Data]) -> Data:
    """Returns `data` with the images of `config.unlabelled` (config.data) as rows of the role unlabelled, label -1.

    `config.unlabelled` names a data set, its options and raw data; all else is as in `config`, and `gather` opens it.
    The fingerprint stays that of the labelled examples. ValueError where it shows a person of dev or test.
    """
    wanted = config.get("unlabelled")  # which older runs lack
    if not wanted or not wanted.dataset:
        return data
    of = config.copy_and_resolve_references()
    of.unlock()
    of.update({name: wanted[name] for name in ("dataset", "raw_dir")})
    of.options = wanted.options
    more = gather(of)
    rows = more.table.assign(role=ROLE, label=-1, species=UNKNOWN, split="", file=more.table["file"] + len(data.files))
    _check_people(data.table, rows)
    table = pd.concat([data.table, rows], ignore_index=True)
    return data._replace(table=table, files=[*data.files, *more.files])


def _check_people(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    judged = table[table["role"].isin(("dev", "test"))]
    people = set(zip(judged["dataset"], judged["subject"], strict=True))
    shared = sorted(people & set(zip(rows["dataset"], rows["subject"], strict=True)))
    if shared:
        raise ValueError(
            f"config.data.unlabelled shows {len(shared)} people of dev or test, such as {'/'.join(shared[0])}: "
            "expected other people; set config.data.unlabelled.options"
        )

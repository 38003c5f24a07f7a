"""How many presentations, people and attack species each split has, and what so many can support.

`table` is `Data.table`: a row a frame, with the columns `role, found, label, dataset, video, subject, species`.
"""

import pandas as pd

from kdfas_jax.metrics import exact

LEAST_STEPS = 200  # steps below which a run is hardly trained [C]
LARGEST_BOUND = 0.1  # bound on APCER above which dev is too small for a threshold [C]


def presentations(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """Returns a row for each presentation of `role` with a known label and a face."""
    rows = table[(table["role"] == role) & table["found"] & (table["label"] >= 0)]
    return rows.drop_duplicates(["dataset", "video"])


def counted(table: pd.DataFrame) -> dict[str, dict]:
    """Returns {role: counts} of train, dev and test, of the roles that have presentations.

    The counts are `presentations`, `people` (None where they are unknown: each video has a subject of its own),
    and {value: presentations} of `species` and, of the attacks where the data name them, of `medium`, and of `sensor`.
    """
    found = {}
    for role in ("train", "dev", "test"):
        videos = presentations(table, role)
        if videos.empty:
            continue
        people = videos[["dataset", "subject"]].drop_duplicates()
        unknown = (videos["subject"] == videos["video"]).all()
        found[role] = {"presentations": len(videos), "people": None if unknown else len(people)}
        for column in ("species", "medium", "sensor"):
            known = videos.loc[videos[column] != "", column]
            found[role][column] = {str(name): int(n) for name, n in known.value_counts().sort_index().items()}
    return found


def described(table: pd.DataFrame, role: str) -> str:
    """Returns 'dev: 60 presentations of 3 people (live 30, print 30)'.

    People are unknown where each video has a subject of its own.
    """
    videos = presentations(table, role)
    people = videos[["dataset", "subject"]].drop_duplicates()
    named = "unknown" if (videos["subject"] == videos["video"]).all() else len(people)
    species = ", ".join(f"{name} {number}" for name, number in videos["species"].value_counts().sort_index().items())
    return f"{role}: {len(videos)} presentations of {named} people ({species or 'none'})"


def warnings(table: pd.DataFrame, steps: int) -> list[str]:
    """Returns a sentence for each reason why a run of `steps` steps, or the threshold of its dev, is not reliable."""
    found = []
    if steps < LEAST_STEPS:
        found.append(
            f"config.train is {steps} steps; expected {LEAST_STEPS} or more: raise config.train.epochs or lower "
            "config.train.batch_size"
        )
    dev = presentations(table, "dev")
    if dev.empty:
        found.append("there is no dev set, so the threshold is set on training data: hold people out for dev")
    for species, attacks in dev[dev["label"] == 0]["species"].value_counts().sort_index().items():
        if (bound := exact.interval(0, int(attacks))[1]) > LARGEST_BOUND:
            found.append(
                f"dev has {attacks} attacks of species {species}: even if none is accepted, its APCER may be up to "
                f"{bound:.0%} (exact 95 % interval); expected {exact.attempts_for(LARGEST_BOUND)} or more for "
                f"{LARGEST_BOUND:.0%}"
            )
    return found

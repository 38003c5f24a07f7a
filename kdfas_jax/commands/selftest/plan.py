"""The capture plan of a self-test: one row a presentation, as a table and as a page to print. [C]: our own choice.

    OUTPUT/plan.csv       file, label, species, instrument, subject, session, distance, light
    OUTPUT/plan.html      the same to print, with a box to tick for each presentation

`file` is where a presentation is to be saved, relative to the folder of plan.csv and without a suffix: live/s01-001 may
become live/s01-001.jpg or live/s01-001.mp4.
"""

import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from input_pipeline import tables
from kdfas_jax.metrics import schemes
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Section, Table, Text
from kdfas_jax.runs import files

COLUMNS = ["file", "label", "species", "instrument", "subject", "session", "distance", "light"]
# Conditions that alternate over the presentations of a subject, so that each combination is equally frequent [C].
SESSIONS, DISTANCES, LIGHTS = ("1", "2"), ("near", "far"), ("bright", "dim", "side")
INSTRUMENTS = 2  # of a species: two printers, two displays [C]
SPECIES = ("print", "replay", "cut", "paper_mask", "print_glossy", "replay_tablet")  # six that need no workshop [C]
NOTE = "This is a self-test and no certificate."


class Amount(NamedTuple):
    """How many presentations a level asks for: `attacks` of each of the `species`, and `live` ones."""

    attacks: int
    species: int
    live: int


def levels() -> dict[str, Amount]:
    """Returns {name: amount} of the levels whose numbers of presentations are known: 'ibeta1', 'ibeta2'."""
    asked = {(of.scheme, of.rate): of for of in schemes.REQUIREMENTS}
    found = {}
    for number in "12":
        attacks, live = (asked[f"iBeta level {number}", rate] for rate in ("apcer", "bpcer"))
        found[f"ibeta{number}"] = Amount(attacks.attempts, attacks.species, live.attempts)
    return found


def table(level: str, subjects: int, species: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the plan, a row a presentation, sorted by session, subject and species.

    level: one of `levels`. subjects: how many people; each makes the same number of presentations, rounded up. species:
    names of the attack species, those of `SPECIES` by default. ValueError for a level that is not known, for fewer than
    one subject, and for names that are repeated, 'live', or no names of folders.
    """
    if level not in levels():
        raise ValueError(f"--level={level}: expected one of {', '.join(levels())}")
    amount = levels()[level]
    species = tuple(species) or SPECIES[: amount.species]
    wrong = [name for name in species if not name.replace("_", "").isalnum() or name == "live"]
    if wrong or len(set(species)) < len(species):
        raise ValueError(
            f"--species={','.join(species)}: expected different names of letters and digits, none of them live"
        )
    if subjects < 1:
        raise ValueError(f"--subjects={subjects}: expected 1 or more")
    rows = []
    for name, number in (("live", amount.live), *((name, amount.attacks) for name in species)):
        for subject in range(1, subjects + 1):
            rows += _presentations(name, f"s{subject:02d}", -(-number // subjects))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["session", "subject"], kind="stable", ignore_index=True)


def _presentations(species: str, subject: str, number: int) -> list[tuple]:
    conditions = itertools.cycle(itertools.product(LIGHTS, DISTANCES, SESSIONS))
    label = "live" if species == "live" else "attack"
    rows = []
    for place, (light, distance, session) in zip(range(number), conditions, strict=False):
        instrument = "" if label == "live" else str(1 + place // 2 % INSTRUMENTS)
        rows.append(
            (f"{species}/{subject}-{place + 1:03d}", label, species, instrument, subject, session, distance, light)
        )
    return rows


def write(folder: str, planned: pd.DataFrame, level: str) -> None:
    """Writes FOLDER/plan.csv and FOLDER/plan.html; ValueError where another plan is there."""
    path = os.path.join(folder, "plan.csv")
    text = tables.to_csv(planned)
    if files.exists(path) and files.read_text(path) != text:
        raise ValueError(f"{path} is another plan; give another folder as --output, or remove it")
    files.write_atomically(os.path.join(folder, "plan.html"), page(planned, level))
    files.write_atomically(path, text)


def read(folder: str) -> pd.DataFrame:
    """Returns the plan in FOLDER/plan.csv, all columns as text.

    FileNotFoundError where there is none; ValueError where columns are missing, or a file is planned twice.
    """
    path = os.path.join(folder, "plan.csv")
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; make it by: python main.py --mode=selftest --output={folder}")
    planned = pd.read_csv(path, dtype=str, keep_default_na=False)
    if absent := [name for name in COLUMNS if name not in planned]:
        raise ValueError(f"{path}: no columns {', '.join(absent)}; expected {', '.join(COLUMNS)}")
    if (twice := planned["file"].duplicated()).any():
        raise ValueError(f"{path}: {planned['file'][twice].iloc[0]} is in it twice; expected each file once")
    return planned


def page(planned: pd.DataFrame, level: str) -> str:
    """Returns the page to print: for each session and person, boxes for the presentations of each kind."""
    kinds = planned.drop_duplicates(["species"])["species"]
    counts = planned["species"].value_counts()
    amounts = Table(("presentations", "number"), [(names.species(name), str(counts[name])) for name in kinds])
    words = (
        "Save each presentation as a picture or a video under the name that stands beside its box, with any suffix: "
        "live/s01-001.jpg. One person and one instrument at a time; change the light and the distance as the rows say. "
        "A presentation that went wrong is made again under the same name."
    )
    sections = [Section("What to capture", words, [amounts, Text("near: an arm's length. far: two arm's lengths.")])]
    for (session, subject), rows in planned.groupby(["session", "subject"], sort=True):
        sections.append(Section(f"Session {session}, person {subject}", "", [_boxes(rows)]))
    title = f"Capture plan, {level}: {len(planned):,} presentations of {planned['subject'].nunique()} people"
    return html.document(title, sections, cautions=[NOTE])


def _boxes(rows: pd.DataFrame) -> Table:
    head = ("species", "instrument", "light", "distance", "files")
    columns = ["species", "instrument", "light", "distance"]
    cells = [
        (names.species(species), instrument or "–", light, distance, "  ".join(f"☐ {file}" for file in of["file"]))
        for (species, instrument, light, distance), of in rows.groupby(columns, sort=False)
    ]
    return Table(head, cells)

"""What adapting the shipped model to a camera gives on real faces: the table of docs/adapt.md.

    python -m kdfas_jax.commands.documented.sessions --raw_dir=/path/to/NUAA --folder=runs/sessions

Each recording session of NUAA is a camera. Thirty live pictures of some of its people adapt the model that ships, and
all other people of the session are the test, live and on real prints. Draws that are finished are not repeated.
"""

import argparse
import json
import os
import random
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.datasets import nuaa
from input_pipeline.schema import LIVE, Presentation
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.adapt import adapt
from kdfas_jax.commands.documented.links import link
from kdfas_jax.runs import files, released
from kdfas_jax.runs.results import Results

PEOPLE = {"01": 4, "02": 4, "03": 2}  # session -> how many of its people adapt the model
PICTURES = 30  # live ones of these people together
FIGURES = {  # name in results.json -> column
    "auc": "AUC",
    "bpcer100": "BPCER at APCER 1 %",
    "bpcer": "BPCER at the threshold",
    "apcer_max": "APCER there",
}


def divide(
    pictures: Sequence[Presentation], people: int, rng: random.Random
) -> tuple[list[Presentation], list[Presentation]]:
    """Draws `people` of the live people of a session.

    Returns (`PICTURES` live pictures of them, or all where there are fewer; all pictures of the other people).
    """
    live: dict[str, list[Presentation]] = {}
    for picture in pictures:
        if picture.species == LIVE:
            live.setdefault(picture.subject, []).append(picture)
    chosen = sorted(rng.sample(sorted(live), people))
    drawn = [rng.sample(live[person], min(len(live[person]), PICTURES // people)) for person in chosen]
    adapting = [picture for of in drawn for picture in sorted(of, key=lambda picture: picture.path)]
    return adapting, [picture for picture in pictures if picture.subject not in chosen]


def measure(raw_dir: str, folder: str, session: str, draw: int) -> dict[str, dict[str, float]]:
    """Adapts the shipped model to one draw: {'before', 'after': {name of `FIGURES`, 'live' and 'attacks': value}}.

    Rates are fractions. The run, its pictures and the figures are kept in FOLDER/SESSION-DRAW, and a second call
    returns the figures. Raises as `adapt.adapt` and `elsewhere.evaluate_on`.
    """
    home = os.path.join(os.path.abspath(folder), f"{session}-{draw}")
    kept = os.path.join(home, "figures.json")
    if files.exists(kept):
        return json.loads(files.read_text(kept))
    pictures = [picture for picture in nuaa.read(raw_dir) if picture.session == session]
    adapting, others = divide(pictures, PEOPLE[session], random.Random(100 * draw + int(session)))
    live, test, run = (os.path.join(home, name) for name in ("live", "test", "run"))
    link(adapting, raw_dir, live, lambda picture: picture.subject)
    link(others, raw_dir, test, lambda picture: "test/live" if picture.species == LIVE else "test/spoof/print")
    adapt.adapt(released.FOLDER, live, run)
    found = {}
    for name, of in (("before", released.FOLDER), ("after", run)):
        results, _ = elsewhere.evaluate_on(
            of, f"folder:{test}", changes={"eval.stability": 0}, output=os.path.join(home, name)
        )
        found[name] = _figures(results)
    files.write_atomically(kept, json.dumps(found, indent=2))
    return found


def _figures(results: Results) -> dict[str, float]:
    test = results["test"]
    counts = {"live": test["counts"][LIVE], "attacks": test["counts"]["videos"] - test["counts"][LIVE]}
    return {name: test[name] for name in FIGURES} | counts


def table(found: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> str:
    """Returns {session: a dict of `measure` for each draw} as Markdown.

    A row for each session, with the mean before and after, ± the deviation over the draws, and one of the means over
    sessions. Rates are in per cent.
    """
    lines = [f"| session | test, live and prints | {' | '.join(FIGURES.values())} |"]
    lines.append("|---" * (len(FIGURES) + 2) + "|")
    for session, draws in found.items():
        sizes = ", ".join(_range([draw["after"][kind] for draw in draws]) for kind in ("live", "attacks"))
        cells = [_cell(name, *_before_and_after(name, draws)) for name in FIGURES]
        lines.append(f"| {session} | {sizes} | {' | '.join(cells)} |")
    means = {
        name: np.mean([np.mean(_before_and_after(name, draws), axis=1) for draws in found.values()], axis=0)
        for name in FIGURES
    }
    lines.append(f"| mean | | {' | '.join(_cell(name, *means[name][:, None]) for name in FIGURES)} |")
    return "\n".join(lines)


def _before_and_after(name: str, draws: Sequence[Mapping[str, Mapping[str, float]]]) -> np.ndarray:
    """The figure `name` before and after, [2, draws]; rates in per cent."""
    values = np.array([[draw[when][name] for draw in draws] for when in ("before", "after")])
    return values if name == "auc" else 100 * values


def _cell(name: str, before: np.ndarray, after: np.ndarray) -> str:
    digits = 3 if name == "auc" else 1
    return ", ".join(
        f"{of.mean():.{digits}f}" + (f" ± {of.std(ddof=1):.{digits}f}" if len(of) > 1 else "") for of in (before, after)
    )


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def flag_parser() -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", required=True, help="the folder of NUAA")
    parser.add_argument("--folder", default="runs/sessions", help="where runs and figures are kept")
    parser.add_argument("--draws", type=int, default=5, help="of people and pictures, in each session")
    return parser


def main() -> None:
    """Prints the table in Markdown, and a line for each draw as it is finished."""
    given = flag_parser().parse_args()
    found: dict[str, list] = {session: [] for session in PEOPLE}
    for draw in range(given.draws):
        for session in PEOPLE:
            found[session].append(measure(given.raw_dir, given.folder, session, draw))
            after = {name: round(value, 3) for name, value in found[session][-1]["after"].items()}
            print(f"session {session}, draw {draw}: {after}", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()

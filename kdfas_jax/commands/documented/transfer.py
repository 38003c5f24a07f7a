"""What models that saw no real picture do on real faces: the tables of docs/simulator.md.

    python -m kdfas_jax.commands.documented.transfer --studies=runs/study_zero_real --nuaa=/path/to/NUAA \
        --msu001=/path/to/msu001

NUAA is every frame at hand, msu001 a folder of pictures sorted into live and spoof. Each run is applied with its own
threshold. A run that is measured is not measured again.
"""

import argparse
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from input_pipeline.datasets import folder as sorted_folder
from input_pipeline.datasets import nuaa
from input_pipeline.schema import LIVE, Presentation
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.documented.links import link
from kdfas_jax.runs import files
from kdfas_jax.runs.results import Results

READERS: dict[str, Callable[[str], list[Presentation]]] = {"NUAA": nuaa.read, "msu001": sorted_folder.read}
SPECIES = ("print", "cut", "replay", "mask")
COLUMNS = (
    "run",
    "simulated dev, test (AUC)",
    f"test APCER: {', '.join(SPECIES)}",
    "BPCER",
    *(f"{name}, AUC" for name in READERS),
    f"ACER: {'; '.join(READERS)}",
    f"APCER, BPCER: {'; '.join(READERS)}",
)


def measure(run: str, raw: Mapping[str, str], folder: str) -> dict[str, Results]:
    """Applies the run to each real set with its own threshold: {name of `READERS`: the content of results.json}.

    raw: name of `READERS` -> folder of the raw pictures. folder: where the links to them are kept. The results are in
    RUN/eval-on-folder-NAME, and a second call returns them. Raises as `elsewhere.evaluate_on` and the readers.
    """
    found = {}
    for name, of in raw.items():
        output = os.path.join(run, f"eval-on-folder-{name}")
        kept = os.path.join(output, "results.json")
        if not files.exists(kept):
            pictures = os.path.join(os.path.abspath(folder), name)
            link(READERS[name](of), of, pictures, _place)
            elsewhere.evaluate_on(run, f"folder:{pictures}", changes={"eval.stability": 0}, output=output)
        found[name] = json.loads(files.read_text(kept))
    return found


def _place(picture: Presentation) -> str:
    return "live" if picture.species == LIVE else f"spoof/{picture.species}"


def row(name: str, own: Results, real: Mapping[str, Results]) -> str:
    """Returns a line of the table; own: the run's results.json, real: those of `measure`. Rates are in per cent."""
    test, tests = own["test"], [real[of]["test"] for of in READERS]
    cells = [
        name,
        f"{own['dev']['auc']:.3f}, {test['auc']:.3f}",
        ", ".join(f"{100 * test['apcer'][species]:.0f}" for species in SPECIES if species in test["apcer"]),
        f"{100 * test['bpcer']:.0f}",
        *(f"{of['auc']:.3f}" for of in tests),
        "; ".join(f"{100 * of['acer']:.1f}" for of in tests),
        "; ".join(f"{100 * of['apcer_max']:.0f}, {100 * of['bpcer']:.0f}" for of in tests),
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[str]) -> str:
    """Returns the rows with their header, in Markdown."""
    return "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows])


def flag_parser() -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", required=True, help="folders of studies (configs/ablation.py), joined by commas")
    parser.add_argument("--nuaa", required=True, help="the folder of NUAA")
    parser.add_argument("--msu001", required=True, help="a folder with live/ and spoof/: frames of MSU-MFSD's client 1")
    parser.add_argument("--folder", default="runs/transfer", help="where links to the pictures are kept")
    return parser


def runs_of(study: str) -> list[str]:
    """Returns the folders of the study's runs, in its order; FileNotFoundError where it has no runs.csv."""
    path = os.path.join(study, "runs.csv")
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; expected a study that configs/ablation.py has made")
    rows = pd.read_csv(io.StringIO(files.read_text(path)))
    folders = [os.path.join(study, f"{of.variant}-seed{of.seed}") for of in rows.itertuples()]
    return [folder for folder in folders if files.exists(os.path.join(folder, "eval", "results.json"))]


def main() -> None:
    """Prints the table in Markdown: a row for each run, and a line as it is measured.

    The runs of the second study and of later ones are named with their study.
    """
    given = flag_parser().parse_args()
    raw = {"NUAA": given.nuaa, "msu001": given.msu001}
    first, *others = given.studies.split(",")
    runs = {run: os.path.basename(run) for run in runs_of(first)}
    runs |= {run: os.path.relpath(run, os.path.dirname(study)) for study in others for run in runs_of(study)}
    rows = []
    for run, name in runs.items():
        own = json.loads(files.read_text(os.path.join(run, "eval", "results.json")))
        rows.append(row(name, own, measure(run, raw, given.folder)))
        print(f"measured {run}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

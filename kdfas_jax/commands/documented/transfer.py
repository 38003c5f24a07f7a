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
from collections.abc import Callable, Mapping

import pandas as pd

from input_pipeline.datasets import folder as sorted_folder
from input_pipeline.datasets import nuaa
from input_pipeline.schema import LIVE, Presentation
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.documented.links import link
from kdfas_jax.metrics import paired
from kdfas_jax.report import summary
from kdfas_jax.runs import files
from kdfas_jax.runs.results import Results

READERS: dict[str, Callable[[str], list[Presentation]]] = {"NUAA": nuaa.read, "msu001": sorted_folder.read}
SPECIES = ("print", "cut", "replay", "mask")
ROLES = (*paired.ROLES, *READERS)


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


def cells(own: Results, real: Mapping[str, Results]) -> dict[str, str]:
    """Returns the row of a run, {column: text}. Rates are in per cent; a species that is not in test has a dash.

    own: the content of the run's results.json. real: {name of `READERS`: the content of that set's results.json}.
    """
    test, tests = own["test"], [real[name]["test"] for name in READERS]
    passed = [f"{100 * test['apcer'][name]:.0f}" if name in test["apcer"] else "-" for name in SPECIES]
    return {
        "simulated dev, test (AUC)": f"{own['dev']['auc']:.3f}, {test['auc']:.3f}",
        f"test APCER: {', '.join(SPECIES)}": ", ".join(passed),
        "BPCER": f"{100 * test['bpcer']:.0f}",
        **{f"{name}, AUC": f"{of['auc']:.3f}" for name, of in zip(READERS, tests, strict=True)},
        f"ACER: {'; '.join(READERS)}": "; ".join(f"{100 * of['acer']:.1f}" for of in tests),
        f"APCER, BPCER: {'; '.join(READERS)}": "; ".join(
            f"{100 * of['apcer_max']:.0f}, {100 * of['bpcer']:.0f}" for of in tests
        ),
    }


def against_control(studies: paired.Studies) -> dict[str, dict[str, str]]:
    """Returns the row of each variant but the first, which is the control: the AUC minus the control's, seed by seed.

    studies: {variant: {seed: {each of `ROLES`: figures, with `auc`}}}. A variant without two common seeds has no row.
    """
    control, *others = studies
    rows = {}
    for name in others:
        by_role = {role: paired.differences(studies[name], studies[control], role) for role in ROLES}
        if min(map(len, by_role.values())) > 1:
            compared = {role: paired.compared(difference) for role, difference in by_role.items()}
            rows[name] = {f"{role} {key}": cell for role, of in compared.items() for key, cell in of.items()}
    return rows


def flag_parser() -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", required=True, help="folders of studies (configs/ablation.py), joined by commas")
    parser.add_argument("--nuaa", required=True, help="the folder of NUAA")
    parser.add_argument("--msu001", required=True, help="a folder with live/ and spoof/: frames of MSU-MFSD's client 1")
    parser.add_argument("--folder", default="runs/transfer", help="where links to the pictures are kept")
    return parser


def runs_of(study: str) -> dict[str, tuple[str, int]]:
    """Returns {folder: (variant, seed)} of the study's evaluated runs, in its order.

    FileNotFoundError where it has no runs.csv or no such run.
    """
    path = os.path.join(study, "runs.csv")
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; expected a study that configs/ablation.py has made")
    rows = pd.read_csv(io.StringIO(files.read_text(path)))
    runs = {os.path.join(study, f"{of.variant}-seed{of.seed}"): (of.variant, of.seed) for of in rows.itertuples()}
    evaluated = {run: of for run, of in runs.items() if files.exists(os.path.join(run, "eval", "results.json"))}
    if not evaluated:
        raise FileNotFoundError(f"{study} has no evaluated run; expected RUN/eval/results.json below it")
    return evaluated


def main() -> None:
    """Prints a line for each run as it is measured, and the table: a row for each run; then the paired differences.

    The runs of the second study and of later ones are named with their study.
    """
    given = flag_parser().parse_args()
    raw = {"NUAA": given.nuaa, "msu001": given.msu001}
    rows, compared = {}, {}
    for number, study in enumerate(given.studies.split(",")):
        of_study = f"{os.path.basename(study)}/" if number else ""
        figures: dict[str, dict[int, dict]] = {}
        for run, (variant, seed) in runs_of(study).items():
            own = json.loads(files.read_text(os.path.join(run, "eval", "results.json")))
            real = measure(run, raw, given.folder)
            rows[of_study + os.path.basename(run)] = cells(own, real)
            of_real = {name: results["test"] for name, results in real.items()}
            figures.setdefault(variant, {})[seed] = own | of_real
            print(f"measured {run}", flush=True)
        compared |= {of_study + name: row for name, row in against_control(figures).items()}
    print(summary.markdown(rows, corner="run"))
    if compared:
        print("\n" + summary.markdown(compared, corner="AUC, own minus control's"))


if __name__ == "__main__":
    main()

"""How well plain numbers tell simulated live faces from simulated attacks: the leakage tables of docs/simulator.md.

    python -m kdfas_jax.commands.documented.leakage --dataset=simulated
    python -m kdfas_jax.commands.documented.leakage --dataset=simulated_wild --data_dir=data

A logistic regression is trained on the numbers of some pictures and tested on pictures of other people, instruments and
places. A network could use what these numbers tell, and would learn nothing of faces: their AUC has to stay low
(tests/test_leakage.py).
"""

import argparse
import importlib
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from input_pipeline.prepare import records
from input_pipeline.simulate import render
from input_pipeline.stream import pipeline
from kdfas_jax import targets

SIZE, RINGS = 64, 28
SPECIES = ("live", "print", "print", "replay", "replay")  # of the accesses 1 to 5 of `simulated`
PEOPLE = 80  # of simulated_wild, the fewest that have all three splits
KINDS = {"simulated": (("print",), ("replay",)), "simulated_wild": (("print", "cut"), ("replay",))}


class Pictures(NamedTuple):
    """images: uint8 [n, 64, 64, 3]. species: str [n], 'live' or the species of an attack."""

    images: np.ndarray
    species: np.ndarray


def simulated() -> tuple[Pictures, Pictures]:
    """Renders 240 pictures with instruments 1 in two sessions, and 120 with instruments 2 in another one."""
    return _rendered(range(1, 21), (1, 2), (1, 2, 4)), _rendered(range(36, 56), (3,), (1, 3, 5))


def _rendered(users, sessions, accesses) -> Pictures:
    grid = [(u, p, s, a) for u in users for s in sessions for p in ((u + s) % 3 + 1, (u + s) % 3 + 4) for a in accesses]
    columns = np.array(grid).T
    return Pictures(render(*columns, size=SIZE), np.array(SPECIES)[columns[3] - 1])


def simulated_wild(data_dir: str) -> tuple[Pictures, Pictures]:
    """The recipe's pictures of few people below `data_dir`, rendered where missing: train, and dev with test.

    Masks are left out: they are few, and no number here asks for them.
    """
    config = importlib.import_module("configs.released").get_config(f"people={PEOPLE}").data
    config.data_dir = data_dir
    data = pipeline.open_data(config, targets.LABEL)
    rows = np.flatnonzero(data.table["species"] != "mask")
    encoded = records.Reader(data.files, data.table).images(rows)
    images = np.stack([np.asarray(Image.open(io.BytesIO(one)).resize((SIZE, SIZE), Image.BOX)) for one in encoded])
    species, train = data.table["species"].to_numpy(str)[rows], (data.table["role"] == "train").to_numpy()[rows]
    return Pictures(images[train], species[train]), Pictures(images[~train], species[~train])


def numbers(images: np.ndarray) -> dict[str, np.ndarray]:
    """Plain numbers of `images`, uint8 [n, side, side, 3]: name -> [n, k].

    rings: mean log power in 28 rings of the grey image's spectrum. colours: mean and deviation of R, G and B. level,
    contrast: mean and deviation of grey, of the picture and of the face in its middle. face / background: their ratio.
    burnt, black: the shares of values of at least 250 and of at most 5.
    """
    values, grey = images / 255.0, images.mean(-1) / 255.0
    line = np.abs((np.arange(images.shape[1]) + 0.5) / images.shape[1] - 0.5)
    face, around = (line < 0.2) & (line[:, None] < 0.25), (line > 0.4) & (line[:, None] < 0.3)
    inside, outside = grey[:, face].mean(1), grey[:, around].mean(1)
    rings, colours = _rings(grey), np.concatenate([values.mean((1, 2)), values.std((1, 2))], 1)
    burnt, black = (images >= 250).mean((1, 2, 3)), (images <= 5).mean((1, 2, 3))
    return {
        "rings and colours": np.concatenate([rings, colours], 1),
        "rings": rings,
        "colours": colours,
        "level": np.stack([grey.mean((1, 2)), inside], 1),
        "contrast": np.stack([grey.std((1, 2)), grey[:, face].std(1)], 1),
        "face / background": np.log((inside + 0.02) / (outside + 0.02))[:, None],
        "burnt, black": np.sqrt(np.stack([burnt, black], 1)),
    }


def _rings(grey: np.ndarray) -> np.ndarray:
    side = grey.shape[1]
    power = np.abs(np.fft.fftshift(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)), axes=(1, 2))) ** 2
    line = np.arange(side) - side // 2
    ring = (np.hypot(line, line[:, None]) * RINGS / (side / 2)).astype(int)
    return np.stack([np.log(power[:, ring == k].mean(1) + 1e-8) for k in range(RINGS)], 1)


def leakage(seen: Pictures, unseen: Pictures, kinds: tuple[str, ...]) -> dict[str, float]:
    """The AUC of live faces against attacks of `kinds` in `unseen`, for each of the `numbers`, learnt from `seen`."""
    (images, species), (others, other_species) = (_of(pictures, ("live", *kinds)) for pictures in (seen, unseen))
    known, asked = numbers(images), numbers(others)
    found = {}
    for name in known:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(known[name], species == "live")
        found[name] = float(roc_auc_score(other_species == "live", model.decision_function(asked[name])))
    return found


def _of(pictures: Pictures, species: tuple[str, ...]) -> Pictures:
    chosen = np.isin(pictures.species, species)
    return Pictures(pictures.images[chosen], pictures.species[chosen])


def brightness(*sets: Pictures) -> float:
    """Spearman's rank correlation of the mean level of a picture and its label (1: live), in [-1, 1]."""
    levels = np.concatenate([pictures.images.mean((1, 2, 3)) for pictures in sets])
    live = np.concatenate([pictures.species == "live" for pictures in sets])
    return float(spearmanr(levels, live).statistic)


def flag_parser() -> argparse.ArgumentParser:
    """The parser of the command's flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=KINDS, default="simulated")
    parser.add_argument("--data_dir", default="data", help="where the records of simulated_wild are, or are rendered")
    return parser


def main() -> None:
    """Prints the table of one data set in Markdown."""
    given = flag_parser().parse_args()
    seen, unseen = simulated() if given.dataset == "simulated" else simulated_wild(given.data_dir)
    rows = {", ".join(kinds): leakage(seen, unseen, kinds) for kinds in KINDS[given.dataset]}
    names = list(next(iter(rows.values())))
    print(f"{len(seen.species)} pictures to train on, {len(unseen.species)} to test; ", end="")
    print(f"rank correlation of brightness and label {brightness(seen, unseen):.2f}\n")
    print(f"| AUC | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for kinds, found in rows.items():
        print(f"| {kinds} | {' | '.join(f'{found[name]:.2f}' for name in names)} |")


if __name__ == "__main__":
    main()

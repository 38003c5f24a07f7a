"""Metrics of a whole authentication system, which accepts an attempt only if the face matches and is live.

ISO/IEC 30107-3:2023: IAPAR is the share of impostor attack presentations of one PAI species that the system accepts.
RIAPAR = FRR + IAPAR adds the share of bona fide users whom the system rejects, so that neither error can be traded for
the other unseen. All rates are fractions, not per cent.

Attempts ([C]: our own choice): within a role, the first bona fide video of each person, in the order of names, is that
person's reference. Every other bona fide video is compared with the reference of the same person (mated) and with the
references of at most `OTHERS` other people (nonmated). Every attack on an enrolled person is compared with that
person's reference (attack).
"""

import numpy as np
import pandas as pd

from kdfas_jax.metrics import detection as metrics
from kdfas_jax.metrics import exact

OTHERS = 10
FMRS = {"0.1": 0.1, "0.01": 0.01, "0.001": 0.001}  # operating points of the match
DEFAULT_FMR = "0.01"  # the operating point of the reported results [C]
PERSON = ["dataset", "subject"]


def attempts(videos: pd.DataFrame, embeddings: np.ndarray) -> pd.DataFrame:
    """Forms authentication attempts from videos; one row per attempt, with its kind, reference and match.

    Args:
      videos: a table with one row per video and the columns dataset, subject, video, species, label and score, P(live).
        The result keeps all of them.
      embeddings: the videos' unit-norm embeddings [n, d].

    Returns `videos` with three further columns: kind (mated, nonmated or attack), reference (the name of the reference
    video) and match (the cosine of the two embeddings, in [-1, 1]). The table is empty where no person has two bona
    fide videos, or where all videos show one person.
    """
    videos = videos.reset_index(drop=True)
    live = videos[videos["label"] == 1].sort_values([*PERSON, "video"])
    enrolled = live.drop_duplicates(PERSON)
    people = pd.MultiIndex.from_frame(enrolled[PERSON])
    number = people.get_indexer(pd.MultiIndex.from_frame(videos[PERSON]))  # of each video's person, -1: not enrolled
    references = enrolled.index.to_numpy()
    probes = np.setdiff1d(live.index, references)
    if not len(probes) or len(references) < 2:
        return pd.DataFrame()
    steps = np.unique(np.linspace(1, len(references) - 1, min(OTHERS, len(references) - 1)).astype(int))
    attacks = np.flatnonzero((videos["label"] == 0) & (number >= 0))
    pairs = {
        "mated": (probes, references[number[probes]]),
        "nonmated": (
            np.repeat(probes, len(steps)),
            references[(number[probes][:, None] + steps).ravel() % len(references)],
        ),
        "attack": (attacks, references[number[attacks]]),
    }
    return pd.concat(
        [
            videos.loc[probe].assign(
                kind=kind,
                reference=videos["video"].to_numpy()[reference],
                match=np.einsum("nd,nd->n", embeddings[probe], embeddings[reference]),
            )
            for kind, (probe, reference) in pairs.items()
        ],
        ignore_index=True,
    )


def match_thresholds(others: np.ndarray) -> dict[str, float]:
    """Returns {FMR: threshold}, the lowest match thresholds with a false match rate of at most 10, 1 and 0.1 %.

    `others` are the cosines of nonmated pairs. With fewer than 1 / FMR of them, no pair reaches the threshold.
    """
    return {name: metrics.lowest_threshold(others, fmr) for name, fmr in FMRS.items()}


def figures(rows: pd.DataFrame, match: float, live: float) -> dict:
    """Error rates of `attempts` that are accepted with a cosine of at least `match` and a score of at least `live`.

    fnmr, fmr: shares of mated attempts that do not match and of nonmated attempts that match, whatever the score.
    frr, far: shares of mated attempts that are rejected and of nonmated attempts that are accepted by both checks.
    iapar, riapar: {species: rate}; iapar_max and riapar_max are the largest of them, NaN without attacks.
    counts: {kind: number of attempts}. exact: the intervals of these rates (`exact_rates`).
    """
    matched, accepted = rows["match"] >= match, (rows["match"] >= match) & (rows["score"] >= live)
    mated, nonmated, attack = (rows["kind"] == kind for kind in ("mated", "nonmated", "attack"))
    frr = float(1 - accepted[mated].mean())
    iapar = {name: float(share) for name, share in accepted[attack].groupby(rows["species"][attack]).mean().items()}
    worst = max(iapar.values(), default=float("nan"))
    return {
        "fnmr": float(1 - matched[mated].mean()),
        "fmr": float(matched[nonmated].mean()),
        "frr": frr,
        "far": float(accepted[nonmated].mean()),
        "iapar": iapar,
        "iapar_max": worst,
        "riapar": {name: frr + share for name, share in iapar.items()},
        "riapar_max": frr + worst,
        "counts": {kind: int(n) for kind, n in rows["kind"].value_counts().sort_index().items()},
        "exact": exact_rates(rows, match, live),
    }


def exact_rates(rows: pd.DataFrame, match: float, live: float) -> dict:
    """Returns the intervals of the rates of `figures`.

    fnmr, fmr, frr, far: `exact.rate`, where a nonmated attempt counts for the person who makes it. iapar: {species:
    `exact.rate`}. riapar: {species: [low, high]} of the sum of two rates (`exact.total`).
    """
    matched, accepted = rows["match"] >= match, (rows["match"] >= match) & (rows["score"] >= live)
    mated, nonmated, attack = (rows["kind"] == kind for kind in ("mated", "nonmated", "attack"))
    people = rows["dataset"] + " " + rows["subject"]
    wrong = {
        "fnmr": ~matched[mated],
        "fmr": matched[nonmated],
        "frr": ~accepted[mated],
        "far": accepted[nonmated],
    }
    found = {name: exact.rate(of, people) for name, of in wrong.items()}
    iapar = exact.rates(accepted[attack], people, rows["species"])
    refused = found["frr"]["errors"], found["frr"]["attempts"]
    riapar = {name: exact.total(refused, (of["errors"], of["attempts"])) for name, of in iapar.items()}
    return found | {"iapar": iapar, "riapar": {name: list(ends) for name, ends in riapar.items()}}

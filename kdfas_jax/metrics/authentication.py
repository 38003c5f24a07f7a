"""Figures of a whole authentication system: an attempt is accepted only if the face matches and the liveness passes.

ISO/IEC 30107-3:2023: IAPAR is the share of impostor attack presentations of one PAI species that the system accepts,
and RIAPAR = FRR + IAPAR sets it beside the bona fide users who are turned away, so that neither can be bought with the
other. Fractions, not per cent.

Attempts [C]: within a role, the first bona fide video of each person, in the order of names, is that person's
reference. Every other bona fide video is compared with its own reference (mated) and with at most `OTHERS` further
people's (nonmated), every attack on an enrolled person with that person's (attack).
"""

import numpy as np
import pandas as pd

from kdfas_jax.metrics import detection as metrics

OTHERS = 10
FMRS = {"0.1": 0.1, "0.01": 0.01, "0.001": 0.001}  # operating points of the match
DEFAULT_FMR = "0.01"  # the one that results are at [C]
PERSON = ["dataset", "subject"]


def attempts(videos: pd.DataFrame, embeddings: np.ndarray) -> pd.DataFrame:
    """The attempts that `videos` make -> one row each, with kind (mated, nonmated, attack), reference and match.

    videos: one row a video with dataset, subject, video, species, label and score, P(live); all of them are carried
    over. embeddings: their unit embeddings [n, d]. `match` is the cosine with the reference's, in [-1, 1].
    None, and no column, where no person has two bona fide videos, or all are one person's.
    """
    videos = videos.reset_index(drop=True)
    live = videos[videos["label"] == 1].sort_values([*PERSON, "video"])
    enrolled = live.drop_duplicates(PERSON)
    people = pd.MultiIndex.from_frame(enrolled[PERSON])
    number = people.get_indexer(pd.MultiIndex.from_frame(videos[PERSON]))  # of each video's person, -1 without one
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
    """The lowest thresholds that at most 10, 1 and 0.1 % of the cosines `others`, of two people, reach -> {FMR: it}.

    Of fewer than 1 / FMR of them none does.
    """
    return {name: metrics.lowest_threshold(others, fmr) for name, fmr in FMRS.items()}


def figures(rows: pd.DataFrame, match: float, live: float) -> dict:
    """What becomes of `attempts` that need a cosine of at least `match` and a score of at least `live`.

    fnmr, fmr: of mated attempts that do not match, of nonmated ones that do, whatever the liveness says.
    frr, far: of mated attempts that are rejected, of nonmated ones that are accepted, by both together.
    iapar, riapar: of each species; iapar_max, riapar_max of the worst.
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
    }

"""The row of a whole video, beside those of its frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def row(frames: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row of a video from `frames`, the rows of the largest face of each frame that has one, 1 or more.

    Its score is the mean over these frames, for which the run's `threshold` is made; it has no frame number and no box.
    With a reference, the similarity is the mean, too, and match and accepted follow from both means.
    """
    score = float(np.mean([of["score"] for of in frames]))
    live = score >= threshold["value"]
    made = {"input": frames[0]["input"], "frame": None, "score": score, "decision": "live" if live else "attack"}
    made |= {"error": "", "flags": "+".join(dict.fromkeys(flag for of in frames for flag in _flags(of)))}
    if "similarity" not in frames[0]:
        return made
    similarity = float(np.mean([of["similarity"] for of in frames]))
    match = similarity >= threshold["match"]["value"]
    return made | {"similarity": similarity, "match": _yes(match), "accepted": _yes(live and match)}


def _flags(of: Mapping[str, Any]) -> list[str]:
    return of["flags"].split("+") if of["flags"] else []


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"

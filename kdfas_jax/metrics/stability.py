"""How decisions change with the view of the same faces: another face box, exposure, compression.

A decision flips where an image is accepted in one view and rejected as it is. Rates are fractions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from kdfas_jax.metrics import detection

AS_IS = "as_is"  # the column of scores without a change


def chosen(table: pd.DataFrame, images: int, seed: int = 0) -> np.ndarray:
    """Returns the index of at most `images` rows of `table`, the middle frames of drawn videos, int64 [n], ascending.

    Half of them are bona fide and half are attacks, with the same number of each species, where there are so many.
    table: rows of frames with dataset, video, label and species. seed: of the draw.
    """
    videos = table.groupby(["dataset", "video"])["video"]
    middle = table[videos.cumcount() == videos.transform("size") // 2]
    kinds = middle["species"].where(middle["label"] == 0, detection.LIVE)
    shares = {name: (images - images // 2) // max(kinds.nunique() - 1, 1) for name in sorted(kinds.unique())}
    shares[detection.LIVE] = images // 2
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(middle.index[kinds == name])[:share] for name, share in shares.items()]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def figures(scores: pd.DataFrame, faces: pd.DataFrame, threshold: float, together: Mapping[str, Sequence[str]]) -> dict:
    """Returns `test.stability` of results.json.

    Args:
      scores: P(live) of the same images, a row each, in each view, a column each; `AS_IS` is the unchanged view.
      faces: dataset, subject, video, species and label of the same rows, of both classes.
      threshold: of a video's score; it is applied to single images here [C].
      together: {name: views}; an image flips under the name where it flips in one of the views or more.

    Each view has `flips`, the share of images whose decision differs from the unchanged view, `auc`, `apcer_max` and
    `bpcer`; and, where there are such images, `attacks_let_in`, the share of the rejected attacks that are accepted in
    the view, and `live_turned_away`, the share of the accepted live faces that are rejected in it.
    """
    accepted, live = scores >= threshold, (faces["label"] == 1).to_numpy()
    before = accepted[AS_IS].to_numpy()
    flipped = accepted.ne(accepted[AS_IS], axis=0)
    shares = {"attacks_let_in": ~live & ~before, "live_turned_away": live & before}
    views = {}
    for name in scores.columns.drop(AS_IS):
        changed = flipped[name].to_numpy()
        own = {share: float(changed[where].mean()) for share, where in shares.items() if where.any()}
        views[name] = {"flips": float(changed.mean()), **_rates(scores[name], faces, threshold), **own}
    return {
        "counts": {"images": len(scores), "live": int(live.sum())},
        AS_IS: _rates(scores[AS_IS], faces, threshold),
        "views": views,
        **{name: float(flipped[list(of)].any(axis=1).mean()) for name, of in together.items()},
    }


def _rates(scores: pd.Series, faces: pd.DataFrame, threshold: float) -> dict[str, float]:
    videos = faces.assign(score=scores)
    found = detection.at_threshold(videos, threshold)
    area = float(roc_auc_score(videos["label"], videos["score"]))
    return {"auc": area, **{name: found[name] for name in ("apcer_max", "bpcer")}}

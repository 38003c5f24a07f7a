"""What a run's target (`config.data.target`) asks of its model: what is kept of each example, and the figures of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from input_pipeline.select import pairs
from input_pipeline.stream import pipeline
from kdfas_jax.metrics import authentication, calibration
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.metrics.verification import cosine, verification

VIDEO = ["dataset", "video", "subject", "species", "label"]
GROUPS = ["domain", "sensor", "session", "medium", "light", "environment", "support"]  # figures are broken down by

COUNTED = {"label": int, "frames": int, "same": bool, "fold": int}  # columns that rows of other kinds turn into floats


class Task(NamedTuple):
    """How the examples of a role are read, scored and judged; figures are fractions, areas included.

    read: (first output, named outputs) of the model -> what is kept of an example, [b] or [b, d].
    scored: (kept, one row an example, indexed by its row of data.table; data) -> the rows of scores.csv.
    selection: the scored rows of dev -> figures, with 'selection', by which checkpoints are ranked, higher is better.
    roles: data -> the roles that results are made of.
    results: ({role: scored rows}, data) -> what results.json holds of the figures: threshold, dev, test, literature.
    """

    read: Callable[[jax.Array, Mapping[str, Any]], jax.Array]
    scored: Callable[[pd.DataFrame, pipeline.Data], pd.DataFrame]
    selection: Callable[[pd.DataFrame], dict[str, float]]
    roles: Callable[[pipeline.Data], tuple[str, ...]]
    results: Callable[[dict[str, pd.DataFrame], pipeline.Data], dict]


def live_probability(logits: jax.Array, out: Mapping[str, Any]) -> jax.Array:
    """A model's logits [b, 2] -> P(live) [b], fp32."""
    return jax.nn.softmax(logits.astype(jnp.float32))[:, 1]


def score_videos(frames: pd.DataFrame, data: pipeline.Data) -> pd.DataFrame:
    """P(live) of frames -> one row a video with the mean of its frames: `VIDEO`, score, frames."""
    rows = data.table.loc[frames.index, VIDEO].assign(score=frames[0])
    return rows.groupby(VIDEO, as_index=False).agg(score=("score", "mean"), frames=("score", "size"))


def _detection_selection(videos: pd.DataFrame) -> dict[str, float]:
    """AUC - EER [C]."""
    _, eer = metrics.eer_threshold(videos)
    auc = metrics.figures(videos, 0.5)["auc"]
    return {"eer": eer, "auc": auc, "selection": auc - eer}


def _detection_results(videos: dict[str, pd.DataFrame], data: pipeline.Data) -> dict:
    """The threshold is the EER's of dev, applied unchanged to test; a protocol without dev takes it from train.

    So are the thresholds of the operating points and the temperature.
    """
    source = data.threshold_role
    for role, rows in videos.items():
        metrics.check(rows, f"{role} of {', '.join(data.sources[role])}")
    points = metrics.operating_points(videos[source])
    threshold, temperature = points["eer"], calibration.fit(videos[source])

    def figures(role: str) -> dict:
        scaled = {"calibration": calibration.figures(videos[role], temperature)}
        lost = {"non_response": data.non_responses(role), "missing": data.missing_files(role)}
        return metrics.figures(videos[role], threshold) | scaled | lost

    test = videos["test"]
    return {
        "threshold": {
            "value": threshold,
            "source": f"EER of {source} of {', '.join(data.sources[source])}",
            "operating_points": points,
            "temperature": temperature,
        },
        "dev": figures("dev") if "dev" in videos else {},
        "test": figures("test")
        | {
            "operating_points": metrics.at_points(test, points),
            "breakdown": metrics.breakdown(test, _groups(test, data), threshold),
            "ci95": metrics.confidence(test, threshold),
        },
        "literature": metrics.literature(test, threshold),
    }


def _groups(videos: pd.DataFrame, data: pipeline.Data) -> pd.DataFrame:
    """What is known of each of `videos`: the columns `GROUPS` of the data's table, in the rows of `videos`."""
    known = data.table.drop_duplicates(["dataset", "video"]).set_index(["dataset", "video"])[GROUPS]
    return known.loc[pd.MultiIndex.from_frame(videos[["dataset", "video"]])].set_index(videos.index)


def embedding(_, out: Mapping[str, jax.Array]) -> jax.Array:
    """The embedding [b, d] among a model's outputs; ValueError where it has none."""
    if "embedding" not in out:
        raise ValueError(f"target 'identity' needs a model with an embedding, such as iresnet; this has {sorted(out)}")
    return out["embedding"]


def score_pairs(vectors: pd.DataFrame, table: pd.DataFrame, listed: list[pairs.Pair] | None = None) -> pd.DataFrame:
    """Cosines of pairs of images -> one row a pair: first, second (the images' names), same, fold, score.

    vectors: one row an image, indexed by its row of `table`. The pairs are those `listed`, else drawn of these images.
    """
    rows = table.loc[vectors.index]
    found, _ = pairs.indices(pairs.draw_most(rows) if listed is None else listed, rows)
    first, second = found["first"].to_numpy(), found["second"].to_numpy()
    values, names = vectors.to_numpy(), rows["video"].to_numpy()
    return found.assign(first=names[first], second=names[second], score=cosine(values[first], values[second]))


def pair_figures(scored: pd.DataFrame) -> dict:
    """Verification figures of the rows of `score_pairs`, over folds where they have several."""
    folds = scored["fold"] if scored["fold"].nunique() > 1 else None
    return verification(scored["score"], scored["same"], folds)


def _pair_selection(scored: pd.DataFrame) -> dict[str, float]:
    figures = pair_figures(scored)
    return {name: figures[name] for name in ("auc", "eer", "accuracy")} | {"selection": figures["auc"]}


def _live_and_embedding(logits: jax.Array, out: Mapping[str, jax.Array]) -> jax.Array:
    """P(live) and then the embedding of each image, [b, 1 + d]."""
    return jnp.concatenate([live_probability(logits, out)[:, None], embedding(logits, out)], axis=-1)


def _presentations(data: pipeline.Data) -> pipeline.Data:
    """`data` with the roles of those images alone of which somebody knows whether they are live."""

    def known(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(role=rows["role"].where(rows["label"] >= 0, ""))

    missing = data.missing if data.missing is None else known(data.missing)
    return data._replace(table=known(data.table), missing=missing)


def score_both(kept: pd.DataFrame, data: pipeline.Data) -> pd.DataFrame:
    """P(live) and embeddings of images [n, 1 + d] -> rows of three kinds, told apart by the column `kind`.

    'presentation': a video and its score, as of `score_videos`. 'pair': two images, as of `score_pairs`, of the sets
    collected for recognition, or of the bona fide videos where there are none [C]. 'mated', 'nonmated', 'attack':
    attempts to be let in (`authentication.attempts`), whose embedding is the mean direction of their video's frames.
    """
    label = data.table["label"][kept.index]
    collected, shown = kept[label < 0], kept[label >= 0]
    videos = score_videos(shown, data)
    directions = shown.iloc[:, 1:].div(np.linalg.norm(shown.iloc[:, 1:], axis=1), axis=0)
    of_video = directions.groupby([data.table.loc[shown.index, name] for name in VIDEO]).sum()  # in the order of videos
    unit = of_video.to_numpy() / np.linalg.norm(of_video, axis=1, keepdims=True)
    paired = collected if len(collected) else shown[label[shown.index] == 1]
    paired = paired[~data.table.loc[paired.index, ["dataset", "video"]].duplicated()]
    return pd.concat(
        [
            videos.assign(kind="presentation"),
            score_pairs(paired.iloc[:, 1:], data.table).assign(kind="pair"),
            authentication.attempts(videos, unit),
        ],
        ignore_index=True,
    )


def _kind(rows: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    """The rows of `score_both` of some kinds, with the columns and types that they have by themselves."""
    own = rows[rows["kind"].isin(kinds)].dropna(axis=1, how="all")
    return own.astype({name: of for name, of in COUNTED.items() if name in own})


def _selection_of_both(rows: pd.DataFrame) -> dict[str, float]:
    """The mean of what either task is selected by [C]."""
    live, match = _detection_selection(_kind(rows, "presentation")), _pair_selection(_kind(rows, "pair"))
    return {
        **{name: live[name] for name in ("eer", "auc")},
        **{f"match_{name}": match[name] for name in ("eer", "auc")},
        "selection": (live["selection"] + match["selection"]) / 2,
    }


def _results_of_both(scored: dict[str, pd.DataFrame], data: pipeline.Data) -> dict:
    """Those of detection; in dev and test also `verification` of pairs, and `system`, of attempts (`authentication`).

    The match has the threshold of a false match rate of 1 % where that of the score is from: of its attempts or, where
    too few people show themselves there for any, of its pairs [C].
    """
    shown = _presentations(data)
    source = shown.threshold_role
    results = _detection_results({role: _kind(rows, "presentation") for role, rows in scored.items()}, shown)
    attempts = {role: _kind(rows, "mated", "nonmated", "attack") for role, rows in scored.items()}
    paired = _kind(scored[source], "pair")
    at_door = len(attempts[source]) > 0
    others = attempts[source].query("kind == 'nonmated'")["match"] if at_door else paired["score"][~paired["same"]]
    points, at = authentication.match_thresholds(others.to_numpy()), authentication.DEFAULT_FMR
    results["threshold"]["match"] = {
        "value": points[at],
        "source": f"FMR {at} of {'attempts' if at_door else 'pairs'} of {source} of {', '.join(data.sources[source])}",
        "operating_points": points,
    }
    for role in ("dev", "test"):
        if results[role]:
            pairs_of = _kind(scored[role], "pair")
            results[role]["verification"] = pair_figures(pairs_of) | {"counts": {"scores": len(pairs_of)}}
        if results[role] and len(attempts[role]):
            live = results["threshold"]["value"]
            results[role]["system"] = authentication.figures(attempts[role], points[at], live)
    return results


def _predicted(logits: jax.Array, _) -> jax.Array:
    return jnp.argmax(logits, axis=-1)


def _classify(classes: pd.DataFrame, data: pipeline.Data) -> pd.DataFrame:
    """The predicted domain of every image of a domain that was trained on; others have no right answer."""
    names, own = pipeline.classes(data, "domain")
    classes = classes[own[classes.index] >= 0]
    predicted = np.array(names, object)[classes[0].astype(int)]
    return data.table.loc[classes.index, ["dataset", "video", "frame", "domain"]].assign(predicted=predicted)


def _accuracy(images: pd.DataFrame) -> dict[str, Any]:
    """The share of right domains, in all and by domain; nothing where there is no image."""
    right = images["predicted"] == images["domain"]
    by_domain = {name: float(share) for name, share in right.groupby(images["domain"]).mean().items()}
    return {"accuracy": float(right.mean()), "by_domain": by_domain} if len(images) else {}


def _accuracy_selection(images: pd.DataFrame) -> dict[str, float]:
    accuracy = _accuracy(images)["accuracy"]
    return {"accuracy": accuracy, "selection": accuracy}


def score_attributes(logits: pd.DataFrame, data: pipeline.Data) -> pd.DataFrame:
    """Logits of images [n, k] -> one row an image and attribute that the data know of it: label, score its probability.

    Columns: dataset, video, frame, attribute, label (0 or 1), score.
    """
    images = data.table.loc[logits.index, ["dataset", "video", "frame"]]
    labels, scores = pipeline.attributes(data)[logits.index], jax.nn.sigmoid(logits.to_numpy())
    rows = [
        images.assign(attribute=name, label=labels[:, i], score=np.asarray(scores[:, i]))
        for i, name in enumerate(data.attributes)
    ]
    return pd.concat(rows).dropna(subset="label").astype({"label": int})


def attribute_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over attributes and the figures of each: {accuracy (at 0.5), auc, by_attribute: {name: the two}} [C].

    An attribute that all images share has no AUC, and is left out of the mean; nothing where there is no row.
    """
    by_attribute = {}
    for name, own in rows.groupby("attribute", sort=False):
        by_attribute[name] = {"accuracy": float(((own["score"] >= 0.5) == own["label"]).mean())}
        if own["label"].nunique() == 2:
            by_attribute[name]["auc"] = float(roc_auc_score(own["label"], own["score"]))
    means = pd.DataFrame(by_attribute.values()).mean().to_dict()
    return {**means, "by_attribute": by_attribute} if by_attribute else {}


def _attribute_selection(rows: pd.DataFrame) -> dict[str, float]:
    figures = attribute_figures(rows)
    if "auc" not in figures:
        raise ValueError(
            "target 'attributes': no attribute that dev shows with and without; choose others to select by"
        )
    return {"auc": figures["auc"], "accuracy": figures["accuracy"], "selection": figures["auc"]}


def _dev_and_test(data: pipeline.Data) -> tuple[str, ...]:
    return ("dev", "test") if data.count("dev") else ("test",)


def _plain_results(figures: Callable[[pd.DataFrame], dict]) -> Callable[[dict[str, pd.DataFrame], pipeline.Data], dict]:
    """Results without a threshold that goes from dev to test: `figures` of each role."""

    def results(scored: dict[str, pd.DataFrame], data: pipeline.Data) -> dict:
        judged = {
            role: figures(rows)
            | {"counts": {"scores": len(rows)}}
            | {"non_response": data.non_responses(role), "missing": data.missing_files(role)}
            for role, rows in scored.items()
        }
        threshold = {"value": None, "source": "none"}
        return {"threshold": threshold, "dev": judged.get("dev", {}), "test": judged["test"], "literature": {}}

    return results


TASKS: dict[str, Task] = {
    "label": Task(
        read=live_probability,
        scored=score_videos,
        selection=_detection_selection,
        roles=lambda data: (data.threshold_role, "test"),
        results=_detection_results,
    ),
    "identity": Task(
        read=embedding,
        scored=lambda vectors, data: score_pairs(vectors, data.table),
        selection=_pair_selection,
        roles=_dev_and_test,
        results=_plain_results(pair_figures),
    ),
    pipeline.BOTH: Task(
        read=_live_and_embedding,
        scored=score_both,
        selection=_selection_of_both,
        roles=lambda data: (_presentations(data).threshold_role, "test"),
        results=_results_of_both,
    ),
    "domain": Task(
        read=_predicted,
        scored=_classify,
        selection=_accuracy_selection,
        roles=_dev_and_test,
        results=_plain_results(_accuracy),
    ),
    "attributes": Task(
        read=lambda logits, _: logits,
        scored=score_attributes,
        selection=_attribute_selection,
        roles=_dev_and_test,
        results=_plain_results(attribute_figures),
    ),
}

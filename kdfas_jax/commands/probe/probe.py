"""What a frozen model knows of liveness already: a linear and a k-NN classifier of its features.

    python main.py --mode=probe --config=configs/teachers/foundation.py:weights=model.safetensors,raw_dir=/path/

The features are the input of the head, `pre_logits`, of crops without augmentation, computed once. The logistic
regression becomes the model's head, so that the folder holds a run as any other: it can be evaluated, exported and used
as a teacher. The k-NN classifier has no such form; its figures are in eval/knn.json.
"""

import copy
import json
import os

import jax
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate, provenance
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, lock, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.training import experiment, initial, step, validate
from kdfas_jax.training.checkpoint import Checkpoints

NEIGHBOURS = 20  # as DINO's k-NN evaluation [S: Caron et al., ICCV 2021]
ITERATIONS = 1000  # at most, of the logistic regression


def probe(config, folder: str) -> tuple[Results, dict]:
    """Probes the model of `config`, as `config.init` provides it, and writes the linear probe as a run in `folder`.

    Returns (the content of its results.json, the figures of the k-NN classifier: threshold, dev, test, literature).
    ValueError where the target is not liveness alone, the model has no head to replace, or `folder` holds another run.
    """
    validate.check(config)
    target, probed = targets.get(config.data.target), copy.deepcopy(config)
    if target.name != "label":
        raise ValueError(f"config.data.target={target.name!r}: --mode=probe expected 'label', bona fide or attack")
    probed.teachers, probed.terms = {}, {}
    probed.train.epochs = 0.0  # nothing is left to train: the run is finished as it is
    mesh, model = sharding.make_mesh(config.mesh), models.create(config.model)
    sharding.check_batch(mesh, {"config.eval.batch_size": config.eval.batch_size})
    with lock.held(folder):
        begun, data = provenance.start(probed, folder), pipeline.open_data(config.data, target)
        workdir.claim(probed, folder, data.fingerprint)
        provenance.record(folder, [provenance.examples(data)], {}, begun)
        variables = _variables(config, model, mesh)
        if "head" not in variables["params"]:
            raise ValueError(f"config.model: a {type(model).__name__} has no head that a linear probe could replace")
        features = {
            role: _features(model, variables, data, role, config, mesh)
            for role in ("train", *target.scored_roles(data))
        }
        labels = data.table["label"].to_numpy()[features["train"].index]
        known = features["train"][labels >= 0].to_numpy(), labels[labels >= 0]
        variables["params"]["head"] = linear(*known)
        state = step.TrainState(jax.numpy.int32(0), **variables, term_params={}, opt_state={})
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(state, None, {"step": 0})
        results = evaluate.evaluate(probed, folder)
        scores = {role: nearest(*known, rows) for role, rows in features.items() if role in target.scored_roles(data)}
        judged = {role: target.scored(rows, data) for role, rows in scores.items()}
        knn = target.results(judged, data, config.eval.threshold)
        if jax.process_index() == 0:
            files.write_atomically(os.path.join(folder, "eval", "knn.json"), json.dumps(knn, indent=2))
    return results, knn


def linear(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """A head {kernel [d, 2], bias [2]} whose P(live) is a logistic regression's, fitted on standardised features.

    features: [n, d]. labels: int [n], 1 for bona fide. Both classes weigh alike [C]; the L2 penalty is scikit-learn's.
    """
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(class_weight="balanced", max_iter=ITERATIONS).fit(scaler.transform(features), labels)
    weights = fitted.coef_[0] / scaler.scale_
    bias = fitted.intercept_[0] - scaler.mean_ @ weights
    kernel = np.stack([np.zeros_like(weights), weights], axis=1)
    return {"kernel": kernel.astype(np.float32), "bias": np.array([0, bias], np.float32)}


def nearest(features: np.ndarray, labels: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    """P(live) of `rows` [m, d] as the share of live ones among the nearest `features` by cosine: [m, 1], same index."""
    neighbours = min(NEIGHBOURS, len(features))
    fitted = KNeighborsClassifier(neighbours, metric="cosine").fit(features, labels)
    return pd.DataFrame(fitted.predict_proba(rows.to_numpy())[:, 1:], index=rows.index)


def _variables(config, model, mesh) -> dict:
    """The model's variables as host arrays: what `config.init` provides, and random numbers for the rest."""
    seed = experiment.seed_of(config)
    fresh = jax.jit(lambda: step.init_variables(model, config.data.image_size, seed))()
    variables = initial.load(config, model, fresh, mesh)[0] if config.init else jax.device_get(fresh)
    return {**variables, "params": dict(variables["params"])}


def _features(model, variables, data: Data, role: str, config, mesh) -> pd.DataFrame:
    """The features [n, d] of the examples of a role, indexed by their row of the data's table."""
    score = step.make_score(model, mesh, lambda _, out: out["pre_logits"])
    hosts = (jax.process_index(), jax.process_count())
    batches = pipeline.test_batches(data, data.rows(role), config.data, batch_size=config.eval.batch_size, shard=hosts)
    return evaluate.score_examples(score, variables, batches, mesh)

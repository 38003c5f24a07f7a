"""The linear probe is scikit-learn's logistic regression as a head; k-NN votes by cosine; both are evaluated. 5 s."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kdfas_jax.commands.probe import probe
from kdfas_jax.parallel import sharding
from kdfas_jax.training import teachers

FEATURES = np.random.default_rng(0).normal(3, 2, (40, 5))
LABELS = (FEATURES @ [1, -1, 0.5, 0, 0] + np.random.default_rng(1).normal(0, 1, 40) > 1).astype(int)


def test_the_head_is_scikit_learns_logistic_regression():
    head = probe.linear(FEATURES, LABELS)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(FEATURES, LABELS)
    found = softmax(FEATURES @ head["kernel"] + head["bias"], axis=1)
    np.testing.assert_allclose(found, fitted.predict_proba(FEATURES), atol=1e-3)


def test_k_nn_is_the_share_of_live_neighbours_by_cosine(monkeypatch):
    monkeypatch.setattr(probe, "NEIGHBOURS", 3)
    known = np.array([[1.0, 0.1], [1, 0], [5, 0.2], [0.1, 1], [0, 9]])
    rows = pd.DataFrame([[7.0, 0.1], [0.2, 1]], index=[4, 9])
    found = probe.nearest(known, np.array([1, 1, 0, 0, 0]), rows)
    assert list(found.index) == [4, 9]
    np.testing.assert_allclose(found[0], [2 / 3, 1 / 3])


def test_a_probe_is_a_run_with_the_same_results(tiny, without_pages, tmp_path):
    config = tiny.teachers.spoof.config
    results, knn = probe.probe(config, str(tmp_path))
    assert results["finished"]
    assert results["test"].keys() == knn["test"].keys()
    assert json.loads((tmp_path / "eval" / "knn.json").read_text())["test"]["auc"] == knn["test"]["auc"]
    assert results["test"]["auc"] > 0.9  # attacks are brighter, which random features show as well
    loaded = teachers.load(str(tmp_path), sharding.make_mesh({"data": -1}))
    kernel = loaded.variables["params"]["head"]["kernel"]
    assert not np.any(kernel[:, 0])
    assert np.abs(kernel[:, 1]).max() > 0


def test_a_file_that_does_not_exist_is_named_before_the_data_are_prepared(tiny, tmp_path, monkeypatch):
    tiny.init = str(tmp_path / "absent.safetensors")
    monkeypatch.setattr(probe.pipeline, "open_data", lambda *_: pytest.fail("the data were opened"))
    with pytest.raises(FileNotFoundError, match=r"config\.init=.*absent\.safetensors does not exist; download it"):
        probe.probe(tiny, str(tmp_path / "run"))


def test_another_target_is_refused(tiny, tmp_path):
    tiny.data.target = "domain"
    with pytest.raises(ValueError, match="--mode=probe expected 'label'"):
        probe.probe(tiny, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()

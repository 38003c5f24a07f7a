"""The counterfactual card: the same rendered people with one factor changed."""

import json

import numpy as np
import pytest
from scipy.special import expit

from input_pipeline.datasets import simulated_wild
from input_pipeline.simulate.wild import counterfactual as renderer
from kdfas_jax.commands.robustness import counterfactual as command
from kdfas_jax.metrics import counterfactual
from kdfas_jax.report.sections import counterfactual as section
from kdfas_jax.runs import workdir


def test_people_are_of_the_test_split():
    assert {simulated_wild.split_of(person) for person in renderer.people(32)} == {"test"}
    assert len(set(renderer.people(32))) == 32
    with pytest.raises(ValueError, match="expected a multiple of 8"):
        renderer.people(12)


def test_figures_are_paired_differences_of_logits():
    own = expit(np.array([1.0, 2.0, -1.0, 0.5]))
    moved = expit(np.array([0.0, 1.0, -3.0, 0.5]))
    scores = {("as drawn", "as drawn"): own, ("glasses", "worn"): moved}
    (row,) = counterfactual.figures(scores, ("as drawn", "as drawn"), 0.6)
    assert row["mean"] == pytest.approx(-1.0)
    assert row["deviation"] == pytest.approx(np.std([-1, -1, -2, 0], ddof=1))
    assert row["flips"] == pytest.approx(np.mean((own >= 0.6) != (moved >= 0.6)))
    assert row["bpcer"] == pytest.approx(np.mean(moved < 0.6))


def test_the_card_is_written_and_shown(tiny, tmp_path, monkeypatch):
    run, output = tmp_path / "run", tmp_path / "card"
    workdir.claim(tiny, str(run), "")
    with pytest.raises(FileNotFoundError, match=r"is not evaluated; run: python main\.py --mode=eval"):
        command.card(str(run), str(output))
    (run / "eval").mkdir()
    (run / "eval" / "results.json").write_text(json.dumps({"config": {}, "threshold": {"value": 0.5}}))
    base = (renderer.AS_IS, renderer.AS_IS)
    scores = {base: np.array([0.9, 0.8, 0.4]), ("glasses", "worn"): np.array([0.6, 0.3, 0.2])}
    pictures = {key: np.full((3, 16, 16, 3), 90, np.uint8) for key in scores}
    monkeypatch.setattr(command, "scores_of_changes", lambda *_: (scores, pictures))
    content = command.card(str(run), str(output), people=3)
    assert content["bpcer"] == pytest.approx(1 / 3)
    assert [(row["value"], row["flips"]) for row in content["rows"]] == [("worn", pytest.approx(1 / 3))]
    assert json.loads((output / "results.json").read_text()) == content
    page = (output / "index.html").read_text()
    assert "What moves the score of a live face?" in page
    assert page.count("data:image/jpeg") == 2  # the third person, as drawn and with glasses
    assert all(words in page for words in ("as drawn", "glasses: worn", "score 0.40", "score 0.20"))
    assert "decisions that flip" in (output / "card.svg").read_text()
    assert "glasses: worn" in section.text(content)


def test_scores_are_those_of_each_picture(monkeypatch):
    """Batches are padded, and each picture's score comes back in its place."""
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 2, 3), np.uint8)
    batches = list(command.padded_batches(images, 4))
    assert [batch["mask"].tolist() for batch in batches] == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert [batch["index"][batch["mask"] > 0].tolist() for batch in batches] == [[0, 1, 2, 3], [4]]

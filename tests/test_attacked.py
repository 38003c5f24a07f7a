"""Live crops become attacks in training batches; the renderer is a stand-in here."""

import threading

import jax
import numpy as np
import pytest

from configs import common
from input_pipeline.simulate.capture import attack
from input_pipeline.stream import attacked, pipeline
from kdfas_jax import targets


@pytest.fixture(autouse=True)
def renderer(monkeypatch):
    """An attack is 200 all over, a recaptured crop 50, plus the lowest bit of its key."""
    for name, level in (("simulate_attack", 200), ("recapture", 50)):
        monkeypatch.setattr(
            attack,
            name,
            lambda images, keys, level=level: np.zeros_like(images) + np.uint8(level + (keys & 1))[:, None, None, None],
        )


def batches(seed=0, count=20, rows=16):
    """Black crops, live and attack in turn, but for every fourth, which is mixed."""
    label = np.tile(np.array([[0, 1], [1, 0], [0, 1], [0.4, 0.6]], np.float32), (rows // 4, 1))
    for step in range(count):
        index = np.arange(rows) + step * rows
        yield {"image": np.zeros((rows, 8, 8, 3), np.uint8), "label": label, "index": index}


def made(probability, recapture, *, seed=0, start=0, first=0, stream=None):
    config = common.base("test").data
    config.image_size = 8
    config.attack.update({"probability": probability, "recapture": recapture})
    simulate = attacked.simulator(config, seed)
    return [simulate(batch, step, first) for step, batch in enumerate(stream or batches(), start)]


def test_off_changes_nothing():
    for one, other in zip(made(0.0, 0.0), batches(), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_live_crops_alone_become_attacks_as_often_as_asked():
    shares = []
    for one, other in zip(made(0.5, 0.0), batches(), strict=True):
        changed = one["image"][:, 0, 0, 0] >= 200
        assert not changed[(other["label"] != (0, 1)).any(1)].any()
        np.testing.assert_array_equal(one["label"][changed], np.tile([1, 0], (changed.sum(), 1)))
        np.testing.assert_array_equal(one["label"][~changed], other["label"][~changed])
        shares.append(changed[other["label"][:, 1] == 1].mean())
    assert 0.35 < np.mean(shares) < 0.65


def test_the_others_are_recaptured_with_their_labels():
    """Attacks and mixed crops as often as live ones: what has no second camera must not tell the label."""
    shares = []
    for one, other in zip(made(0.4, 0.5), batches(), strict=True):
        level = one["image"][:, 0, 0, 0]
        assert set(np.unique(level // 50)) <= {0, 1, 4}
        np.testing.assert_array_equal(one["label"][level < 200], other["label"][level < 200])
        kinds = {name: (other["label"] == label).all(1) for name, label in (("live", (0, 1)), ("attack", (1, 0)))}
        shares.append([(level[kind & (level < 200)] > 0).mean() for kind in kinds.values()])
    np.testing.assert_allclose(np.mean(shares, axis=0), 0.5, atol=0.12)
    assert all((batch["image"] > 0).all() for batch in made(0.4, 1.0))


def test_what_becomes_of_a_row_depends_on_seed_step_and_place_in_the_batch():
    whole, again, other = made(0.5, 0.3), made(0.5, 0.3), made(0.5, 0.3, seed=1)
    resumed = made(0.5, 0.3, start=7, stream=(batch for n, batch in enumerate(batches()) if n >= 7))
    halves = made(0.5, 0.3, first=8, stream=({k: v[8:] for k, v in batch.items()} for batch in batches()))
    for n, batch in enumerate(whole):
        np.testing.assert_array_equal(batch["image"], again[n]["image"])
        np.testing.assert_array_equal(batch["image"][8:], halves[n]["image"])
        if n >= 7:
            np.testing.assert_array_equal(batch["image"], resumed[n - 7]["image"])
    assert any((one["image"] != two["image"]).any() for one, two in zip(whole, other, strict=True))


def test_an_example_drawn_twice_in_a_batch_becomes_two_attacks():
    stream = ({**batch, "index": np.zeros(16, int)} for batch in batches())
    attacks = [batch["image"][::4, 0, 0, 0] for batch in made(1.0, 0.0, stream=stream)]
    assert {200, 201} == set(np.unique(attacks))
    assert any(len(set(levels)) == 2 for levels in attacks)


def test_an_attack_has_no_identity():
    stream = ({**batch, "identity": np.arange(16, dtype=np.int32)} for batch in batches())
    for batch in made(0.5, 0.0, stream=stream):
        changed = batch["image"][:, 0, 0, 0] >= 200
        np.testing.assert_array_equal(batch["identity"], np.where(changed, -1, np.arange(16)))
        assert batch["identity"].dtype == np.int32


def test_attacks_are_made_on_the_hosts_cpu_by_workers_ahead_of_the_consumer(tiny, monkeypatch):
    """Of the first batch alone is read; that of step 1 is made while the consumer is busy with it."""
    calls, ahead = [], threading.Event()

    def recapture(images, keys):
        calls.append((len(images), threading.current_thread(), jax.config.jax_default_device))
        if sum(number for number, *_ in calls) > 1 + 16:  # the picture that it is compiled with, and a batch
            ahead.set()
        return images

    monkeypatch.setattr(attack, "recapture", recapture)
    tiny.data.attack.recapture = 1.0
    target = targets.LABEL
    data = pipeline.open_data(tiny.data, target)
    stream = pipeline.train_batches(data, tiny.data, target, batch_size=16, seed=0, start=0, steps=3)
    next(stream)
    assert ahead.wait(timeout=20)
    assert {device for _, _, device in calls} == {jax.local_devices(backend="cpu")[0]}
    assert threading.main_thread() not in {thread for _, thread, _ in calls[1:]}

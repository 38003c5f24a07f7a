"""The benchmark of the input measures what it says; how fast a machine is, no test asserts. 5 s."""

import numpy as np
import pytest

from input_pipeline import pipeline
from kdfas_jax import benchmark


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(benchmark, "ROUNDS", 2)
    monkeypatch.setattr(benchmark, "SECONDS", 0.05)
    monkeypatch.setattr(benchmark, "ROWS", 20_000)


def test_the_result_is_consistent(tiny):
    result = benchmark.benchmark(tiny)
    assert set(result["images_per_second"]) == {"decode", "test", "train"}
    assert min(result["images_per_second"].values()) > 0
    for name in ("test", "train"):
        low, high = result["ratio_range"][name]
        assert low <= result["ratio"][name] <= high
    assert set(result["milliseconds"]) == {"read", "decode", "augment", "mix"}
    assert min(result["milliseconds"].values()) > 0
    text = benchmark.table(result)
    assert f"{result['ratio']['train']:6.3f} of decoding" in text


def test_a_repeated_set_reads_the_same_images(tiny):
    data = pipeline.open_data(tiny.data)
    many = benchmark._repeated(data, 200)
    assert many.count("train") == 200
    wanted = np.flatnonzero(data.has_face("train"))
    np.testing.assert_array_equal(many.table["offset"], data.table["offset"].to_numpy()[np.resize(wanted, 200)])


def test_a_rate_counts_images_a_second(monkeypatch):
    clock = iter(np.arange(100) * 0.01)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark._rate(iter(range(1000)), batch=10) == pytest.approx(800.0, rel=0.3)  # 4 or 5 batches in 0.05 s

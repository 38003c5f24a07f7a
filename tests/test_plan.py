"""What a plan says beyond its contract: the largest batch, a batch that devices cannot share, collectives."""

import types

import jax
import numpy as np
import pytest

from kdfas_jax.parallel import sharding
from kdfas_jax.performance import plan
from kdfas_jax.training import experiment

GIB = 2**30


@pytest.mark.parametrize(
    ("fixed", "each", "largest"),
    [(2.0, 0.5, 28), (0.5, 0.1, 155), (14.5, 1.0, 1), (11.9, 1.0, 4), (1.0, 14.0, 1)],
)
def test_the_largest_batch_is_found_in_few_compilations(fixed, each, largest):
    """Memory as a compiler plans it: a fixed part, a part for each example, and a little that is not linear."""
    asked = []

    def needed(per_device):
        asked.append(per_device)
        return int((fixed + each * per_device + 0.01 * (per_device % 3)) * GIB)

    found = plan.largest_fitting(needed, 16 * GIB)
    assert largest - max(1, largest // 16) <= found <= largest
    assert needed(found) <= 16 * GIB
    assert len(set(asked)) <= 6


def test_not_one_example_fits():
    with pytest.raises(ValueError, match=r"not one example fits: it needs 17\.0 of 16 GiB"):
        plan.largest_fitting(lambda per_device: 17 * GIB * per_device, 16 * GIB)


def test_a_host_has_no_memory_of_a_device(tiny):
    with pytest.raises(ValueError, match=r"--topology=cpu:\d+ shares the host's memory; expected a TPU"):
        plan.largest_batch(tiny, f"cpu:{len(jax.devices())}")


def planned(moved, **axes):
    """A plan in which a device receives `moved` bytes beside gradients of 100."""
    return {
        "config": "c",
        "topology": "v5e:2x2",
        "devices": 4,
        "mesh": {"data": 1, "fsdp": 1} | axes,
        "batch_size": 8,
        "params": {"student": 1, "teachers": {}},
        "per_device": {"argument_bytes": 0, "temp_bytes": 0, "flops": 1.0},
        "flops_ratio": 1.0,
        "collectives": {"all-reduce": moved - 40, "all-gather": 40},
        "gradient_bytes": 100,
        "fits": True,
        "expected": {"utilisation": 0.4, "images_per_s": 1234.5},
    }


@pytest.mark.parametrize(("moved", "noted"), [(90, False), (130, True)])
def test_collectives_beyond_the_gradients_are_noted(moved, noted):
    table = plan.table(planned(moved, fsdp=4))
    assert "1,234 images/s at 40% of the chips' peak; not measured" in table
    assert ("1.30 times the gradients'" in table) is noted
    assert ("a smaller config.mesh.fsdp moves less" in table) is noted


def test_a_smaller_fsdp_is_advised_only_where_there_is_one():
    assert "fsdp" not in plan.table(planned(130, data=4))


def test_the_sweep_says_what_fits():
    found = {"config": "c", "topology": "v5e:2x2", "per_device": 12, "batch_size": 48, "limit_bytes": 16 * GIB}
    text = plan.sweep_table(found | {"tried": {8: 11 * GIB, 12: 15 * GIB}})
    assert "at most 12 examples a device, 48 a step, fit into 16 GiB" in text
    assert "8 examples a device    11.00 GiB" in text


class Refused:
    """A lowered step that the TPU compiler has no room for, in its words."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


HBM = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (29.47G) exceeds"


def test_a_step_that_the_compiler_refuses_does_not_fit(tiny, monkeypatch):
    assert plan.compile_step(Refused(HBM), 16 * GIB) == (None, None, int(29.47 * GIB))
    assert plan.compile_step(Refused("RESOURCE_EXHAUSTED: 15.80G of 15.75G hbm"), 16 * GIB)[2] > 16 * GIB
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        plan.compile_step(Refused("INTERNAL: 29.47G"), 16 * GIB)

    lower = plan.lower
    monkeypatch.setattr(plan, "lower", lambda *given: lower(*given)._replace(step=Refused(HBM)))
    monkeypatch.setattr(plan, "step_flops", lambda *_: 1.0)
    monkeypatch.setattr(plan, "memory_of", lambda _: 16 * GIB)
    result = plan.plan(tiny, f"cpu:{len(jax.devices())}")
    assert not result["fits"]
    assert result["collectives"] == {}
    assert "temporaries of 29.47 GiB, for which the compiler finds no room, fits: False" in plan.table(result)


def test_the_products_that_a_gpu_leaves_to_a_library_are_counted(tiny):
    made, mesh = experiment.of_config(tiny), sharding.make_mesh({"data": -1, "fsdp": 1})
    gpu = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="gpu")]), size=1)
    counted_by_gpu = types.SimpleNamespace(cost_analysis=lambda: {"flops": 1.0})
    counted = plan.step_flops(made, gpu, counted_by_gpu)
    assert counted == pytest.approx(tiny.train.batch_size * made.flops(), rel=0.3)
    assert counted == pytest.approx(mesh.size * plan.step_flops(made, mesh, None))


@pytest.mark.slow
def test_the_tpu_compiler_plans_a_step_for_a_slice(tiny):
    """The tiny step for four chips that are not here; every other test plans for CPU devices."""
    pytest.importorskip("libtpu")
    result = plan.plan(tiny, "v5e:2x2")
    assert (result["devices"], result["fits"]) == (4, True)
    assert result["collectives"]["all-reduce"] > 0
    assert result["per_device"]["temp_bytes"] > 0

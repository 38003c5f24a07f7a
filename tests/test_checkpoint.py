"""Checkpoints are in Orbax's format, which its newer interface reads as well."""

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as orbax_v1

from kdfas_jax.training import step
from kdfas_jax.training.checkpoint import Checkpoints

PARAMS = {"head": {"bias": np.arange(2, dtype=np.float32), "kernel": np.ones((3, 2), np.float32)}}


def test_version_1_of_orbax_reads_a_checkpoint(tmp_path):
    """The parameters alone, as NumPy arrays and onto a device; the names and shapes of every item; the metadata."""
    params = jax.device_put(PARAMS)
    state = step.TrainState(jax.numpy.int32(3), params, batch_stats={}, term_params={}, opt_state={"mu": params})
    with Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(state, 0.5, {"rows": 7})
    saved = tmp_path / "checkpoints" / "3"
    on_device = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), params)
    for layout, kind in ((jax.tree.map(np.empty_like, PARAMS), np.ndarray), (on_device, jax.Array)):
        loaded = orbax_v1.load(saved, layout, checkpointable_name="params")
        jax.tree.map(np.testing.assert_array_equal, loaded, PARAMS)
        assert isinstance(loaded["head"]["bias"], kind)
    found = orbax_v1.checkpointables_metadata(saved).metadata
    assert set(found) == {"params", "opt_state", "meta"}
    assert found["params"]["head"]["kernel"].shape == (3, 2)
    assert orbax_v1.load_checkpointables(saved, {"meta": None})["meta"] == {"rows": 7}

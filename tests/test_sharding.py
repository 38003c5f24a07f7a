import itertools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax.models import vit
from kdfas_jax.objective import losses
from kdfas_jax.parallel import sharding

WORKER = Path(__file__).with_name("sharded_step.py")


def abstract_mesh(*sizes):
    return jax.sharding.AbstractMesh(sizes, sharding.AXES)


def run_workers(out, processes, *wanted):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[1]), "JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, out, str(processes), str(process), str(port), *wanted],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * processes, "\n".join(errors)[-3000:]


# (processes, mesh) -> cases; every case has its parameters split once, and two of them rows of two processes.
LAYOUTS = {
    ("1", "8x1"): ["resnet"],
    ("1", "2x4"): ["mobilefacenet", "lora"],
    ("2", "4x2"): ["kdfas_daa", "resnet"],
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """{(processes, mesh, case): what one train step gave}."""
    folder = tmp_path_factory.mktemp("steps")
    whole = {("1", "1x1"): sorted({*itertools.chain(*LAYOUTS.values())})}
    for processes in ("1", "2"):
        wanted = [f"{mesh}:{','.join(cases)}" for (of, mesh), cases in (whole | LAYOUTS).items() if of == processes]
        run_workers(str(folder / processes), int(processes), *wanted)
    return {tuple(path.name.split(".")[:3]): dict(np.load(path)) for path in folder.glob("*.npz")}


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "case"), [(layout, case) for layout, cases in LAYOUTS.items() for case in cases])
def test_loss_gradients_and_statistics_are_those_of_one_device(steps, layout, case):
    """8 devices, and 2 processes x 4, with the batch split and with parameters split over fsdp.

    A batch norm that took each device's own mean would be far off: it sees two images there, and 16 on one device.
    """
    one, many = steps["1", "1x1", case], steps[*layout, case]
    assert (many["sharded_leaves"] > 0) == (layout[1] != "8x1")
    names = [name for name in one if name not in ("sharded_leaves", "flops")]
    assert any("stats" in name for name in names) == (case not in ("kdfas_daa", "lora"))
    assert sum(np.abs(one[name]).max() > 1e-4 for name in names) > (
        10 if case == "lora" else 20
    )  # the comparison is not of zeros
    for name in names:
        scale = max(1.0, np.abs(one[name]).max())  # gradients of ArcFace's centres are some thirty: fp32 rounds those
        np.testing.assert_allclose(many[name], one[name], rtol=1e-5, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("form", ["cross", "gram", "cka"])
def test_no_batch_by_batch_array_at_b_4096(form):
    """Neither the value nor the gradient of a covariance term makes a b x b array."""
    b = 4096
    student, teacher = jnp.zeros((2, b, 24)), jnp.zeros((2, b, 40))
    gradient = jax.jit(jax.grad(lambda s: losses.covariance(s, teacher, form=form).sum()))
    text = gradient.lower(student).compile().as_text()
    shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"\[([\d,]+)\]", text)}
    assert any(b in shape for shape in shapes)
    assert not [shape for shape in shapes if sum(size >= b for size in shape) > 1]


def test_the_mesh_takes_what_is_left_and_refuses_what_does_not_fit():
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    assert mesh.shape == {"data": len(jax.devices()), "fsdp": 1}
    with pytest.raises(ValueError, match="makes 15 devices; there are"):
        sharding.make_mesh({"data": 5, "fsdp": 3})


def test_rules_split_every_large_parameter_and_no_stack_dimension():
    mesh = abstract_mesh(1, 4)
    model = vit.create("B/16")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    placed = jax.tree_util.tree_leaves_with_path(sharding.tree(mesh, shapes))
    split = {jax.tree_util.keystr(path): place.spec for path, place in placed if "fsdp" in place.spec}
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    assert sum(sizes[name] for name in split) > 0.99 * sum(sizes.values())
    assert all(spec[0] is None for name, spec in split.items() if "blocks" in name)


def test_a_dimension_that_does_not_divide_stays_whole():
    placed = sharding.tree(abstract_mesh(1, 4), {"kernel": jax.ShapeDtypeStruct((6, 8), jnp.float32)})
    assert placed["kernel"].spec == jax.sharding.PartitionSpec(None, None)


def test_a_batch_that_the_devices_cannot_share_evenly_is_refused():
    """Some of its rows would be left out, unseen: of 20 test images on three hosts two a batch."""
    mesh = abstract_mesh(3, 1)
    sharding.check_batch(mesh, {"config.train.batch_size": 12 / 2, "config.eval.batch_size": 21})
    for size, shown in ((20, "20"), (10 / 4, r"2\.5"), (0, "0")):
        with pytest.raises(ValueError, match=rf"config\.eval\.batch_size makes {shown} examples .* a multiple of 3"):
            sharding.check_batch(mesh, {"config.eval.batch_size": size})

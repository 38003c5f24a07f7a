"""One step of a tiny KDFAS under the attack, of a ResNet with all of DTDA's parts, of MTAKD's student, and of LoRA.

`python sharded_step.py OUT PROCESSES PROCESS PORT MESH:CASE,...`, each MESH data x fsdp, as 8x1:resnet. Writes
OUT.<mesh>.<case>.npz with the metrics, the batch statistics and, because the optimiser is plain gradient descent at
rate one, every gradient. Run by test_sharding.py: device counts are fixed when a process starts.
"""

import dataclasses
import math
import sys

import jax

out, processes, process, port, *wanted = sys.argv[1:]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8 // int(processes))
if int(processes) > 1:
    jax.distributed.initialize(f"localhost:{port}", int(processes), int(process))

import jax.numpy as jnp  # noqa: E402  (nothing may touch a device before the processes have met)
import numpy as np  # noqa: E402
import optax  # noqa: E402

from configs import common  # noqa: E402
from kdfas_jax.models import mobilefacenet, resnet, vit  # noqa: E402
from kdfas_jax.objective import perturb  # noqa: E402
from kdfas_jax.objective.weighted_sum import Objective  # noqa: E402
from kdfas_jax.parallel import sharding  # noqa: E402
from kdfas_jax.training import step  # noqa: E402
from kdfas_jax.training.experiment import Experiment, Frozen  # noqa: E402

TERMS = {
    "ce": {"kind": "cross_entropy", "weight": 0.3, "smoothing": 0.1},
    "kl": {"kind": "kl", "weight": 0.7, "teacher": "spoof", "temperature": 3.0},
    "cross": {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "cross", "centre": True},
    "gram": {"kind": "covariance", "weight": 5.0, "teacher": "spoof", "form": "gram"},
    "cka": {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "cka"},
    "lifted": {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "cka", "lift": 12},
    "running": {
        "kind": "covariance",
        "weight": 1.0,
        "teacher": "spoof",
        "form": "regression",
        "momentum": 0.9,
        "stages": ((1, 1),),
    },
    "align": {"kind": "align", "weight": 1.0, "teacher": "spoof", "stages": ((1, 2), (4, 4))},
    "adversary": {"kind": "domain_adversary", "weight": 1.0, "domains": 3, "hidden": 16},
    "arcface": {"kind": "arcface", "weight": 1.0, "where": "identity", "s": 8.0},
    "embedding": {"kind": "embedding", "weight": 5.0, "teacher": "spoof", "where": "identity"},
    "align_known": {"kind": "align", "weight": 1.0, "teacher": "spoof", "stages": ((3, 4),), "where": "label"},
}
# Its convolutions in groups as the compiler's own: quicker to compile.
FACE = {"native": True, "image_size": 16, "blocks": (1, 1, 1, 1), "scale": 1, "embedding": 8, "live_head": True}
# Name -> student, teacher, the terms between them, and whether they see attacked images.
CASES = {
    "kdfas_daa": (
        vit.create(width=16, depth=2, heads=2, patch=8, stem=(8,)),
        vit.create(width=32, depth=2, heads=2, patch=8),
        ("ce", "kl", "cross", "gram", "cka"),
        True,
    ),
    "resnet": (
        resnet.create(width=8, blocks=(1, 1, 1, 1)),
        resnet.create(width=4, blocks=(1, 1, 1, 1)),
        ("ce", "kl", "lifted", "running", "align", "adversary"),
        True,
    ),
    "mobilefacenet": (
        mobilefacenet.create(width=4, classes=4, **FACE),
        mobilefacenet.create(width=2, **FACE),
        ("arcface", "embedding", "ce", "kl", "align_known"),
        False,
    ),
    "lora": (
        vit.create(
            "dinov2-reg-S/8",
            layer_scale=1.0,
            width=16,
            depth=2,
            heads=2,
            lora={"rank": 2, "targets": ("qkv", "fc1", "fc2")},
        ),
        vit.create(width=32, depth=2, heads=2, patch=8),
        ("ce", "kl"),
        False,
    ),
}
BATCH, SIZE = 16, 16
# What student and teacher see: images attacked in two steps by a classifier of three domains, at half their side.
DOMAINS = vit.create(width=16, depth=1, heads=2, patch=8, classes=3)
ATTACK = common.base("attacked")
ATTACK.teachers.domains = {"config": common.base("domains"), "checkpoint": ""}
ATTACK.teachers.domains.config.data.target = "domain"
ATTACK.daa.update({"classifier": "domains", "steps": 2, "target": "confuse"})


made = {}  # model -> its variables or its train state


def run(mesh, student, teacher, terms, attacked):
    objective = Objective({name: TERMS[name] for name in terms}, {"spoof": None})
    teachers = {"spoof": Frozen(teacher, SIZE), "domains": Frozen(DOMAINS, SIZE // 2)}
    attack = perturb.of_config(ATTACK) if attacked else None
    experiment = Experiment(student, SIZE, objective, optax.sgd(1.0), 0, teachers, attack, steps=10)

    def create():
        return step.init(dataclasses.replace(experiment, seed=1))

    started = fresh(student, create).replace(step=np.int32(5))  # of 10: the reversed gradient is on its way
    state = jax.tree.map(placed, started, sharding.tree(mesh, started))
    before = started.trained
    frozen = fresh(teacher, lambda: step.init_variables(teacher, SIZE, 1))
    domains = fresh(DOMAINS, lambda: step.init_variables(DOMAINS, SIZE // 2, 2))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
        "label": np.eye(2, dtype=np.float32)[rng.integers(0, 2, BATCH)],
        "domain": rng.integers(0, 3, BATCH).astype(np.int32),
    }
    if "arcface" in terms:  # five images whose liveness nobody knows, and four of nobody known, not evenly spread
        batch["identity"] = np.where(np.arange(BATCH) < 12, rng.integers(0, 4, BATCH), -1).astype(np.int32)
        batch["label"][:5] = 0
    rows = slice(
        jax.process_index() * BATCH // jax.process_count(), (jax.process_index() + 1) * BATCH // jax.process_count()
    )
    local = sharding.place_batch(mesh, {name: array[rows] for name, array in batch.items()})
    train_step = step.compiled(experiment, mesh, state)
    sharded = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.trained))
    train_step = train_step.lower(state, {"spoof": frozen, "domains": domains}, local, np.uint32(0)).compile()
    state, metrics = train_step(state, {"spoof": frozen, "domains": domains}, local, np.uint32(0))
    after = gather(state.trained, mesh)
    result = {"grads": jax.tree.map(lambda a, b: a - b, before, after), "stats": gather(state.batch_stats, mesh)}
    result["term_stats"] = gather(state.term_statistics, mesh)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(result)}
    named |= {f"metric/{name}": np.asarray(jax.device_get(value)) for name, value in metrics.items()}
    facts = {"sharded_leaves": sharded, "flops": train_step.cost_analysis()["flops"]}
    return named | {name: np.asarray(value) for name, value in facts.items()}


def fresh(model, create):
    """What `create` makes for `model`, NumPy arrays: compiling it takes as long as a step, and no mesh changes it."""
    if model not in made:
        made[model] = jax.device_get(jax.jit(create)())
    return made[model]


def placed(array, place):
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


def gather(tree, mesh):
    whole = jax.jit(lambda t: jax.tree.map(jnp.asarray, t), out_shardings=sharding.replicated(mesh))(tree)
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), whole)


for name, _, cases in (one.partition(":") for one in wanted):
    axes = dict(zip(sharding.AXES, map(int, name.split("x")), strict=True))
    mesh = sharding.make_mesh(axes, jax.devices()[: math.prod(axes.values())])
    for case in cases.split(","):
        result = run(mesh, *CASES[case])
        if jax.process_index() == 0:
            np.savez(f"{out}.{name}.{case}.npz", **result)

"""The two teachers of a two-task model as one system: a separate run, evaluated on the data of their student.

    python main.py --mode=join --workdir=runs/mtkd_demo --output=runs/mtkd_demo_teachers

Then it is a run as any other: --mode=export has its size and its latency, --mode=eval --runs= sets both side by side.
"""

import copy

import jax.numpy as jnp
import ml_collections

from kdfas_jax.commands import evaluate, provenance
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, lock, workdir
from kdfas_jax.runs.results import Results
from kdfas_jax.training import step, teachers
from kdfas_jax.training.checkpoint import Checkpoints

NETWORKS = ("spoof", "recognition")


def join(folder: str, output: str) -> Results:
    """Writes the teachers of the run in `folder` as a run in `output`, and returns its evaluation, results.json.

    ValueError where the run in `folder` has no such teachers, or `output` holds another run.
    """
    config = ml_collections.ConfigDict(workdir.read(folder)["config"])
    if missing := [name for name in NETWORKS if name not in config.teachers]:
        raise ValueError(f"{folder} has no teacher {missing[0]!r}; expected a run of MTAKD, as of configs/mtkd_demo.py")
    homes = homes_of_teachers(config, folder)
    facts = provenance.check(config, homes)
    mesh = sharding.make_mesh(config.mesh)
    loaded = {name: teachers.load(home, mesh, config.teachers[name].config) for name, home in homes.items()}
    joined = copy.deepcopy(config)
    joined.name = f"{config.name}_teachers"
    joined.model = {"name": "together"}  # each network keeps its dtype, in which the student's run read it
    for name in NETWORKS:
        joined.model[name] = config.teachers[name].config.model
        joined.model[f"{name}_size"] = loaded[name].image_size
    joined.teachers, joined.terms = {}, {}
    joined.train.epochs = 0.0  # nothing is left to train: the run is finished as it is
    variables = {
        of: {name: teacher.variables[of] for name, teacher in loaded.items() if teacher.variables[of]}
        for of in ("params", "batch_stats")
    }
    state = step.TrainState(jnp.int32(0), **variables, term_params={}, opt_state={})
    with lock.held(output):
        workdir.claim(joined, output, workdir.read(folder)["data_fingerprint"])
        provenance.record(output, [], facts)
        with Checkpoints(output) as checkpoints:
            checkpoints.save(state, None, {"step": 0})
        return evaluate.evaluate(joined, output)


def homes_of_teachers(config, folder: str) -> dict[str, str]:
    """Returns the teachers that the run in `folder` was trained with, or the config's where those are missing."""
    noted = {name: facts["run"] for name, facts in provenance.taught_by(folder).items() if files.exists(facts["run"])}
    return {name: noted.get(name) or teachers.home(config.teachers[name], folder) for name in NETWORKS}

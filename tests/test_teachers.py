"""A student's teachers: how large they are, which runs may be used, and what is recorded of them."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from configs import dtda_ocim
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate, provenance, train
from kdfas_jax.commands.export import export
from kdfas_jax.commands.predict import predict
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.runs import files, identity, workdir
from kdfas_jax.training import checkpoint, step, teachers
from tests import tiny as tiny_configs
from tests.conftest import leaving_pages_out


@pytest.fixture
def dual():
    """DTDA at its own sizes: a student of 224 px, a StarGAN of 128 and an IResNet of 112."""
    return dtda_ocim.get_config("protocol=OCI-M")


def test_every_model_is_counted_at_its_own_image_size(dual):
    """The published discriminator refuses images of 224 px, and an IResNet's last layer would be four times as wide."""
    sizes = {name: teacher.config.data.image_size for name, teacher in dual.teachers.items()}
    assert sizes == {"domains": 224, "perceptual": 112, "generative": 128}
    dual.teachers.generative.config.model = dtda_ocim.PUBLISHED
    counted = teachers.parameters(dual)
    assert counted["student"] == 11_177_538
    assert counted["teachers"] == {"domains": 11_178_051, "perceptual": 24_025_600, "generative": 44_762_048}


def test_what_only_training_uses_is_counted_apart(dual):
    """An IResNet's class centres, 512 numbers for each of 8,461 people, and a StarGAN's generator of 8.4 M."""
    counted = teachers.parameters(dual, ["perceptual", "generative"])
    assert counted["teachers"] == {"perceptual": 24_025_600, "generative": 44_762_048}
    assert counted["training_only"] == {"student": 0, "teachers": {"perceptual": 512 * 8461, "generative": 8_430_528}}


# A teacher whose model is not that of the config's entry, as `provenance.check` describes it.
TAUGHT = {"face": {"run": "x.pth", "parameters": 77, "training_only_parameters": 5}}
TAUGHT["face"] |= {
    "step": None,
    "protocol": None,
    "sources": None,
    "config": None,
    "overlap": "unknown: published weights",
}


@pytest.fixture(scope="module")
def interrupted(tiny_config, tmp_path_factory):
    """(config, folder, results) of a spoof teacher in bf16 that stopped at step 41 of 120 and was evaluated."""
    args = tiny_configs.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir="")
    config, folder = tiny_configs.alone(args, "tiny_teacher", 32), str(tmp_path_factory.mktemp("runs") / "teacher")
    config.model.dtype = "bfloat16"
    variables = jax.jit(lambda: step.init_variables(models.create(config.model), 16, 0))()
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.float32(leaf + rng.normal(0, 0.1, leaf.shape)), variables)
    workdir.claim(config, folder, pipeline.open_data(config.data, targets.get(config.data.target)).fingerprint)
    provenance.record(folder, [], TAUGHT)
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(step.TrainState(jax.numpy.int32(41), **variables, term_params={}, opt_state={}), 1.0, {})
    with leaving_pages_out():
        return config, folder, evaluate.evaluate(config, folder)


def test_an_interrupted_run_stays_unfinished_when_it_is_evaluated(interrupted):
    """results.json says where it stopped, and whoever looks for finished runs resumes it."""
    config, folder, results = interrupted
    assert (results["finished"], results["steps"]) == (False, {"trained": 41, "total": 120})
    assert summary.selection_note(results).endswith("Training has stopped at step 41 of 120: this run is not finished.")
    assert not teachers.finished(folder)
    assert workdir.results(config, folder) is None


def test_results_state_the_teacher_that_was_used(interrupted):
    results = interrupted[2]
    assert results["teachers"] == TAUGHT
    assert results["params"]["teachers"] == {"face": 77}
    assert results["params"]["training_only"]["teachers"] == {"face": 5}


def test_a_given_teacher_that_is_not_finished_is_refused(interrupted, tiny, tmp_path):
    """The message has the command that completes it; nothing of the student is written."""
    tiny.teachers.spoof.checkpoint = interrupted[1]
    with pytest.raises(ValueError, match=r"checkpoint=.* stopped at step 41 of 120; complete it with: python .*"):
        train.train(tiny, str(tmp_path / "student"))
    assert not (tmp_path / "student").exists()


def test_every_verb_scores_a_bf16_run_with_the_same_parameters(interrupted):
    """The head and the norms compute in fp32: with rounded parameters they decided some faces otherwise."""
    config, folder, _ = interrupted
    mesh = sharding.make_mesh(config.mesh)
    loaded = teachers.load(folder, mesh)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.variables)} == {np.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, export.variables_of(folder, config))

    data = pipeline.open_data(config.data, targets.get(config.data.target))
    size = config.eval.batch_size
    batch = next(pipeline.test_batches(data, data.rows("test"), config.data, batch_size=size, shard=(0, 1)))
    score = predict.crop_scorer(loaded, mesh, targets.get(config.data.target).read, size)
    found = np.concatenate(list(score(batch["image"])))
    evaluated = pd.read_csv(f"{folder}/eval/scores.csv").query("split == 'test'").set_index("video")["score"]
    np.testing.assert_allclose(found, evaluated[data.table["video"][batch["index"]]], rtol=1e-7)


def test_a_training_step_keeps_its_teachers_in_the_dtype_that_they_compute_in(interrupted):
    """Half the memory of a large teacher; running statistics stay fp32."""
    loaded = teachers.load(interrupted[1], sharding.make_mesh({"data": 1}))
    rounded = teachers.rounded(loaded)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded["params"])} == {np.dtype("bfloat16")}
    statistics = {"params": loaded.variables["params"], "batch_stats": {"mean": np.zeros(2, np.float32)}}
    assert teachers.rounded(loaded._replace(variables=statistics))["batch_stats"]["mean"].dtype == np.float32


def test_two_networks_as_one_system_compute_as_each_of_them_does(interrupted):
    """So that `join` evaluates a bf16 teacher as its own run was; an export may still ask for fp32."""
    spoof = identity.plain(interrupted[0].model)
    recognition = {"name": "iresnet", "variant": "18", "dtype": "float32"}
    joined = {"name": "together", "spoof": spoof, "recognition": recognition, "spoof_size": 16, "recognition_size": 16}
    for options, dtypes in (({}, ["bfloat16", "float32"]), ({"dtype": "float32"}, ["float32"] * 2)):
        model = models.create({**joined, **options})
        assert [model.spoof.dtype, model.recognition.dtype] == dtypes


def test_a_run_whose_results_do_not_say_whether_it_is_finished_is_evaluated_again(tmp_path, tiny):
    """Such as one that an older version evaluated."""
    workdir.claim(tiny, str(tmp_path), "none")
    files.write_atomically(str(tmp_path / "eval" / "results.json"), json.dumps({"config": identity.plain(tiny)}))
    assert workdir.results(tiny, str(tmp_path)) is None
    with pytest.raises(ValueError, match=rf"does not say.*python main\.py --mode=eval --workdir={tmp_path}"):
        teachers.check_finished("config.teachers.spoof.checkpoint", str(tmp_path))

"""A student's teachers: how large they are, which runs may be used, and what is recorded of them."""

import json

import jax
import pytest

from configs import dtda_ocim
from kdfas_jax import checkpoint, evaluate, models, report, step, teachers, train, workdir
from tests import tiny as tiny_configs


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
    assert counted == {
        "student": 11_177_538,
        "teachers": {"domains": 11_178_051, "perceptual": 28_357_632, "generative": 44_762_048},
    }


@pytest.fixture(scope="module")
def interrupted(tiny_config, tmp_path_factory):
    """(config, folder, results) of a spoof teacher that stopped at step 41 of 180 and was evaluated."""
    args = tiny_configs.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir="")
    config, folder = tiny_configs.alone(args, "tiny_teacher", 32), str(tmp_path_factory.mktemp("runs") / "teacher")
    variables = jax.jit(lambda: step.init_variables(models.create(config.model), 16, 0))()
    workdir.claim(config, folder, "none")
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(step.TrainState(jax.numpy.int32(41), **variables, term_params={}, opt_state={}), 1.0, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "page", lambda *_, **__: "")  # whose plots take seconds
        return config, folder, evaluate.evaluate(config, folder)


def test_an_interrupted_run_stays_unfinished_when_it_is_evaluated(interrupted):
    """results.json says where it stopped, and whoever looks for finished runs resumes it."""
    config, folder, results = interrupted
    assert (results["finished"], results["steps"]) == (False, {"trained": 41, "total": 180})
    assert report.how(results).endswith("Training has stopped at step 41 of 180: this run is not finished.")
    assert not teachers.finished(folder)
    assert workdir.results(config, folder) is None


def test_a_given_teacher_that_is_not_finished_is_refused(interrupted, tiny, tmp_path):
    """The message has the command that completes it; nothing of the student is written."""
    tiny.teachers.spoof.checkpoint = interrupted[1]
    with pytest.raises(ValueError, match=r"checkpoint=.* stopped at step 41 of 180; complete it with: python .*"):
        train.train(tiny, str(tmp_path / "student"))
    assert not (tmp_path / "student").exists()


def test_a_run_whose_results_do_not_say_whether_it_is_finished_is_evaluated_again(tmp_path, tiny):
    """Such as one that an older version evaluated."""
    workdir.claim(tiny, str(tmp_path), "none")
    workdir.write_atomically(str(tmp_path / "eval" / "results.json"), json.dumps({"config": workdir.plain(tiny)}))
    assert workdir.results(tiny, str(tmp_path)) is None
    with pytest.raises(ValueError, match=rf"does not say.*python main\.py --mode=eval --workdir={tmp_path}"):
        teachers.check_finished("spoof", str(tmp_path))

"""StarGAN trained by the one step: who learns from which output, the step against two apart, a run, its edits."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from configs.teachers import editor, editor_demo
from input_pipeline import schema
from input_pipeline.datasets import folder
from input_pipeline.prepare import prepare
from kdfas_jax import models
from kdfas_jax.commands import edit, evaluate, train
from kdfas_jax.objective import losses
from kdfas_jax.objective.passes import training_pass
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import step, teachers
from kdfas_jax.training.experiment import Experiment, outputs

GAN = {"name": "stargan", "classes": 3, "image_size": 16, "generator_width": 4, "generator_repeats": 1}
GAN |= {"discriminator_width": 4, "discriminator_repeats": 2}
TO_DISCRIMINATOR = ("logits", "source", "edited", "penalty")
TO_GENERATOR = ("fooled", "edited_logits", "restored")
B = 4


@pytest.fixture(scope="module")
def model():
    return models.create(GAN)


@pytest.fixture(scope="module")
def variables(model):
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def batch():
    rng = np.random.default_rng(0)
    return rng.random((B, 16, 16, 3), np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


@pytest.fixture(scope="module")
def passed(model, variables):
    return jax.jit(functools.partial(training_pass, model))(variables, *batch(), jax.random.key(1))


def test_both_networks_are_one_model_which_as_a_teacher_is_its_discriminator(model, variables):
    assert set(variables["params"]) == {"generator", "discriminator"}
    assert set(variables["batch_stats"]) == {"generator"}
    images, _ = batch()
    logits, out = jax.jit(model.apply)({"params": variables["params"]}, images)
    alone = models.create({"name": "stargan_discriminator", "classes": 3, "image_size": 16, "width": 4, "repeats": 2})
    expected, expected_out = jax.jit(alone.apply)({"params": variables["params"]["discriminator"]}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert jax.tree.structure(out) == jax.tree.structure(expected_out)
    assert models.flops(model, 16) == models.flops(alone, 16) > 0


def test_the_training_pass_names_what_the_terms_read(passed):
    out, _ = passed
    images, labels = batch()
    assert {name: value.shape for name, value in out.items() if name != "stages"} == {
        "logits": (B, 3),
        "source": (B, 4, 4),
        "edited": (B, 4, 4),
        "penalty": (B,),
        "fooled": (B, 4, 4),
        "edited_logits": (B, 3),
        "wanted": (B, 3),
        "images": (B, 16, 16, 3),
        "restored": (B, 16, 16, 3),
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {np.dtype("float32")}
    np.testing.assert_array_equal(out["images"], images)
    np.testing.assert_allclose(out["edited"], out["fooled"], rtol=1e-5)  # the same images, the same critic
    rows = sorted(map(tuple, np.asarray(out["wanted"]).tolist()))
    assert rows == sorted(map(tuple, labels.tolist()))  # the batch's own, in another order


def test_the_order_of_the_wanted_attributes_follows_the_key(model, variables):
    labels = np.arange(3 * B, dtype=np.float32).reshape(B, 3) / 12
    wanted = jax.jit(lambda key: training_pass(model, variables, batch()[0], labels, key)[0]["wanted"])
    orders = {tuple(np.asarray(wanted(jax.random.key(i)))[:, 0].tolist()) for i in range(12)}
    assert len(orders) > 6
    np.testing.assert_array_equal(wanted(jax.random.key(3)), wanted(jax.random.key(3)))


def test_running_statistics_are_kept_of_both_edits(model, variables, passed):
    out, updated = passed
    images, labels = batch()

    def edit(variables, images, attributes):
        return model.apply(variables, images, attributes, train=True, method="edit", mutable=["batch_stats"])

    edited, once = jax.jit(edit)(variables, images, out["wanted"])
    _, twice = jax.jit(edit)({**variables, **once}, edited, labels)
    for found, expected, before in zip(
        *map(jax.tree.leaves, (updated["batch_stats"], twice["batch_stats"], variables["batch_stats"])), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert (found != before).any()


def test_the_critics_outputs_teach_the_discriminator_alone_and_the_others_the_generator_alone(model, variables):
    images, labels = batch()
    names = (*TO_DISCRIMINATOR, *TO_GENERATOR)

    def gradients(params):
        def outputs(params):
            out, _ = training_pass(model, {**variables, "params": params}, images, labels, jax.random.key(1))
            return {name: jnp.sum(out[name] ** 2) for name in names}

        _, back = jax.vjp(outputs, params)
        one_of_each = dict(zip(names, np.eye(len(names), dtype=np.float32), strict=True))
        return jax.vmap(lambda of_sums: back(of_sums)[0])(one_of_each)

    of_all = jax.device_get(jax.jit(gradients)(variables["params"]))
    for number, name in enumerate(names):
        gradient = jax.tree.map(lambda leaf, number=number: leaf[number], of_all)
        taught = {part: any((leaf != 0).any() for leaf in jax.tree.leaves(tree)) for part, tree in gradient.items()}
        assert taught == {"generator": name in TO_GENERATOR, "discriminator": name in TO_DISCRIMINATOR}, name


TERMS = editor.get_config().terms
WEIGHTS = {name: term.weight for name, term in TERMS.items()}


def test_a_step_is_the_two_networks_updates_taken_apart(model, variables):
    """By gradient descent at rate one, from the losses themselves: no term, no training pass."""
    images, labels = batch()
    shown, params = {"image": (255 * images).round().astype(np.uint8), "label": labels}, variables["params"]
    images = shown["image"].astype(np.float32) / 255
    made = Experiment(model, 16, Objective(TERMS, {}), optax.sgd(1.0), seed=7)
    state = step.TrainState(jnp.int32(0), **variables, term_params={}, opt_state=None)
    state = state.replace(opt_state=made.optimiser.init(state.trained))
    after, metrics = jax.jit(step.make(made))(state, {}, shown)

    @jax.jit
    def drawn():
        order, place = jax.random.split(step.step_key(7, 0))
        return jax.random.permutation(order, labels), place

    wanted, place = drawn()

    def edit(generator, images, asked):
        statistics = {"batch_stats": variables["batch_stats"]}
        return model.apply({"params": {"generator": generator}, **statistics}, images, asked, train=True, method="edit")

    def judge(discriminator, images):
        logits, out = model.apply({"params": {"discriminator": discriminator}}, images)
        return out["source"], logits

    def of_discriminator(discriminator):
        edited = edit(params["generator"], images, wanted)
        (real, logits), (fake, _) = judge(discriminator, images), judge(discriminator, edited)
        critic = losses.wgan_critic(real, fake).mean()
        slope = losses.gradient_penalty(lambda x: judge(discriminator, x)[0], images, edited, place, std=0.5).mean()
        return critic + 10 * slope + losses.attribute_cross_entropy(logits, labels).mean()

    def of_generator(generator):
        edited = edit(generator, images, wanted)
        fake, logits = judge(params["discriminator"], edited)
        restored = losses.reconstruction(images, edit(generator, edited, labels)).mean()
        fooled = losses.wgan_generator(fake).mean() + losses.attribute_cross_entropy(logits, wanted).mean()
        return fooled + 20 * restored

    both = {"generator": jax.value_and_grad(of_generator), "discriminator": jax.value_and_grad(of_discriminator)}
    found = jax.device_get(jax.jit(lambda of: {name: loss(of[name]) for name, loss in both.items()})(params))
    params, after, total = jax.device_get(params), jax.device_get(after), 0
    for name, (value, gradient) in found.items():
        total += value
        expected = jax.tree.map(lambda old, slope: old - slope, params[name], gradient)
        for own, leaf in zip(jax.tree.leaves(after.params[name]), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(own, leaf, rtol=1e-4, atol=1e-5)
    assert metrics["loss"] == pytest.approx(float(total), rel=1e-5)
    assert metrics["loss"] == pytest.approx(sum(WEIGHTS[name] * float(metrics[name]) for name in TERMS), rel=1e-5)


def test_the_editors_recipe_is_the_published_one():
    config = editor.get_config("raw_dir=CelebA")
    assert (config.data.raw_dir, config.data.image_size, config.train.batch_size) == ("CelebA", 128, 16)
    assert config.optim.lr * config.train.batch_size / 512 == pytest.approx(1e-4)
    assert round(config.train.epochs * (162_770 // 16)) == pytest.approx(200_000, rel=1e-3)
    assert (config.optim.b1, config.optim.b2, config.optim.every.to_dict()) == (0.5, 0.999, {"generator": 5})
    assert {name: WEIGHTS[name] for name in WEIGHTS if name != "reconstruction"} == {
        "critic": 1.0, "penalty": 10.0, "attributes": 1.0, "generator": 1.0, "edited_attributes": 1.0,
    }  # fmt: skip
    assert WEIGHTS["reconstruction"] * models.create(config.model).std == 10.0
    assert config.data.attributes == ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    # The two published networks: 8.4 and 44.8 M parameters.
    shapes = jax.eval_shape(lambda: step.init_variables(models.create(config.model), 128, 0))["params"]
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert sizes == {"generator": 8_430_528, "discriminator": 44_762_048}


@pytest.mark.parametrize("module", [editor, editor_demo], ids=["editor", "editor_demo"])
def test_the_stages_that_a_student_is_to_match_are_there_at_its_own_scale(module):
    """A ResNet's four stages are at a quarter to a 32nd of the image's side."""
    config = module.get_config()
    stages = outputs(models.create(config.model), config.data.image_size)["stages"]
    for stage, number in module.STAGES:
        assert stages[number - 1].shape[1] == config.data.image_size // 2 ** (stage + 1)


# Edits


def test_an_attribute_is_turned_round_and_a_colour_of_hair_takes_the_others_away():
    names = ["Black_Hair", "Male", "Blond_Hair"]
    has = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32)
    np.testing.assert_array_equal(edit.turned(has, names, 0), [[0, 0, 0], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(edit.turned(has, names, 1), [[1, 1, 0], [0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(edit.turned(has, names, 2), [[0, 0, 1], [0, 1, 0], [0, 0, 1]])


def test_the_sheet_has_a_column_a_face_and_a_named_row_an_attribute():
    faces, has = batch()[0][:3], np.eye(3, dtype=np.float32)
    names = ("Male", "Young", "Black_Hair")
    asked = np.stack([edit.turned(has, list(names), number) for number in range(3)])
    figure = edit.sheet(edit.Edits(names, faces, has, asked, np.stack([faces] * 3)))
    rows = [figure.axes[3 * row : 3 * row + 3] for row in range(4)]
    assert [row[0].get_ylabel() for row in rows] == ["face", "Male", "Young", "Black Hair"]
    assert [axis.get_title() for axis in rows[1]] == ["−", "+", "+"]
    for place in range(3):
        np.testing.assert_array_equal(rows[0][place].images[0].get_array(), faces[place])


# A run


@pytest.fixture(scope="module")
def run(faces_dir, tmp_path_factory):
    """A StarGAN of the tiny faces, whose attributes are made up: bright ones are Male."""
    from tests import tiny

    data_dir = tmp_path_factory.mktemp("records")
    read = folder.read

    def labelled(*args, **options):
        for presentation in read(*args, **options):
            said = schema.attributes({"Male": presentation.label, "Young": int(presentation.path.endswith("0.png"))})
            yield dataclasses.replace(presentation, attributes=said, cropped=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "read", functools.wraps(read)(labelled))
        prepare.prepare("folder", raw_dir=str(faces_dir), data_dir=str(data_dir), size=24, options={"subject_level": 1})
    arguments = SimpleNamespace(raw_dir=str(faces_dir), data_dir=str(data_dir))
    config = tiny.alone(arguments, "gan", 16)
    recipe = editor.stargan("gan", ("Young", "Male"), size=16)
    config.model, config.terms = {**GAN, "classes": 2}, recipe.terms
    config.optim = recipe.optim
    config.data.update({"target": "attributes", "attributes": ("Young", "Male")})
    config.data.augment = recipe.data.augment
    config.train.update({"epochs": 4.0, "eval_epochs": 2.0})
    config.optim.update({"lr": 0.1, "every": {"generator": 2}})
    home = tmp_path_factory.mktemp("gan") / "run"
    return config, home, train.train(config, str(home))


@pytest.mark.slow
def test_a_generative_teacher_is_trained_chosen_and_evaluated(run):
    config, home, results = run
    assert json.loads((home / "eval" / "results.json").read_text()) == results
    assert evaluate.evaluate_run(str(home)) == results
    for role in ("dev", "test"):
        assert {"auc", "accuracy", "by_attribute", "counts", "missing", "non_response"} == set(results[role])
        assert list(results[role]["by_attribute"]) == ["Young", "Male"]
        assert results[role]["counts"] == {"scores": 96}
    assert results["test"]["by_attribute"]["Male"]["auc"] > 0.8
    metrics = (home / "metrics.csv").read_text()
    assert all(f",{name}," in metrics for name in (*TERMS, "dev_auc"))
    teacher = teachers.load(str(home), sharding.make_mesh(config.mesh))
    statistics = jax.tree.leaves(teacher.variables["batch_stats"])
    fresh = jax.tree.leaves(step.init_variables(teacher.module, 16, 0)["batch_stats"])
    assert all((kept != first).any() for kept, first in zip(statistics, fresh, strict=True))
    _, out = teacher.frozen.read(teacher.variables, jnp.zeros((2, 24, 24, 3)))
    assert [stage.shape for stage in out["stages"]] == [(2, 8, 8, 4), (2, 4, 4, 8)]


@pytest.mark.slow
def test_the_edits_of_a_run_are_written_as_a_sheet(run, tmp_path):
    _, home, _ = run
    output = tmp_path / "edits.jpg"
    assert edit.write(str(home), str(output), 3) == str(output)
    with Image.open(output) as image:
        assert image.format == "JPEG"
    found = edit.edit(str(home), 3)
    assert (found.names, found.edited.shape) == (("Young", "Male"), (2, 3, 16, 16, 3))
    assert np.abs(found.edited[0] - found.edited[1]).max() > 0
    with pytest.raises(ValueError, match="--faces=49: expected 1 to 48, as many test faces"):
        edit.write(str(home), str(output), 49)
    with pytest.raises(ValueError, match=r"expected a name that ends in .jpg or .png"):
        edit.write(str(home), f"{tmp_path}/edits.gif", 3)
    note = json.loads((home / "config.json").read_text())
    note["config"]["model"]["name"] = "vit"
    (tmp_path / "config.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match=r"model\.name='vit'; expected a run of 'stargan'"):
        edit.edit(str(tmp_path))

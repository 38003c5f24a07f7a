"""The domain adversarial attack: its bounds, one step by hand, its aim, and the gradients that must not flow."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import common, kdfas_daa_demo
from kdfas_jax import models
from kdfas_jax.objective import perturb
from kdfas_jax.parallel import sharding
from kdfas_jax.performance import plan
from kdfas_jax.training import experiment, step, validate
from tests.conftest import drawn

DOMAINS = np.array([0, 1, 2, 0, 1], np.int32)
TARGETS = ("uniform", "confuse")


def example(seed=0):
    """(images [5, 4, 4, 3], weights of a network of one hidden layer over 3 domains)."""
    rng = np.random.default_rng(seed)
    images = rng.random((5, 4, 4, 3), np.float32)
    images[0], images[1] = 0, 1  # the edges of the range
    return images, (rng.standard_normal((48, 8), np.float32), rng.standard_normal((8, 3), np.float32))


def network(weights, images):
    return jnp.tanh(images.reshape(len(images), -1) @ weights[0]) @ weights[1]


def compiled(classify, images, labels, **options):
    """What the attack makes of the images, compiled as a whole."""
    return jax.device_get(jax.jit(functools.partial(perturb.daa, classify, **options))(images, labels))


@functools.partial(jax.jit, static_argnames=("steps", "target"))
def attack(weights, images, domains, **options):
    return perturb.daa(functools.partial(network, weights), images, domains, **options)


@jax.jit
def to_uniform(weights, images):
    """Cross-entropy of the uniform distribution to the predicted one; ln 3 at its least."""
    return -jax.nn.log_softmax(network(weights, images)).mean(-1)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    eps=st.floats(0, 0.5, width=32),
    step_size=st.floats(0, 0.5, width=32),
    decay=st.floats(0.25, 1, width=32),
    steps=st.sampled_from([1, 3]),
    target=st.sampled_from(TARGETS),
)
def test_the_result_stays_within_eps_and_in_range(seed, **options):
    images, weights = example(seed)
    adversarial = np.asarray(attack(weights, images, DOMAINS, **options))
    assert adversarial.dtype == np.float32
    assert np.abs(adversarial - images).max() <= options["eps"] + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_no_steps_give_the_images_back():
    images, weights = example()
    same = attack(weights, images, DOMAINS, steps=0)
    np.testing.assert_array_equal(same, images)


def test_one_step_with_a_linear_classifier_by_hand():
    rng = np.random.default_rng(0)
    images, w = rng.uniform(0.3, 0.7, (3, 2, 2, 1)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    w[3] = 0  # the last pixel has no gradient: it stays
    labels = np.array([2, 0, 1])
    logits = images.reshape(3, 4) @ w
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # The gradient of a cross-entropy to q is (p - q) W^T.
    slopes = {"uniform": -(p - 1 / 3) @ w.T, "confuse": (p - np.eye(3)[labels]) @ w.T}
    for target, slope in slopes.items():
        ours = compiled(
            lambda x: x.reshape(3, 4) @ w,
            images,
            labels,
            eps=0.1,
            step_size=0.02,
            steps=1,
            target=target,
        )
        np.testing.assert_allclose(ours, images + 0.02 * np.sign(slope).reshape(images.shape), atol=1e-6)
        np.testing.assert_array_equal(ours[:, 1, 1], images[:, 1, 1])


@pytest.mark.parametrize(("decay", "reach"), [(1.0, 0.05), (0.5, 0.02 * (2 - 0.5**8))])
def test_a_pixel_moves_by_every_step_but_no_further_than_eps(decay, reach):
    images = np.full((1, 1, 1, 3), 0.5, np.float32)
    push = compiled(
        lambda x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], -1),
        images,
        np.array([0]),
        eps=0.05,
        step_size=0.02,
        decay=decay,
        steps=9,
        target="confuse",
    )
    np.testing.assert_allclose(push, images - reach, atol=1e-6)


def test_uniform_brings_the_prediction_nearer_to_uniform_and_confuse_away_from_the_own_domain():
    images, weights = example()
    options = {"eps": 0.03, "step_size": 0.003, "steps": 5}
    flattened = attack(weights, images, DOMAINS, target="uniform", **options)
    nearer, before = np.asarray(to_uniform(weights, flattened)), np.asarray(to_uniform(weights, images))
    assert (nearer < before)[1:].all()
    np.testing.assert_array_equal(flattened[0], images[0])  # black: uniform already
    confused = attack(weights, images, DOMAINS, target="confuse", **options)

    @jax.jit
    def own(x):
        return jnp.take_along_axis(jax.nn.softmax(network(weights, x)), DOMAINS[:, None], axis=1)

    assert (np.asarray(own(confused)) < np.asarray(own(images))).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [0, 2])
def test_no_gradient_flows_to_images_or_classifier(target, steps):
    images, weights = example()

    def total(weights, images):
        return (attack(weights, images, DOMAINS, steps=steps, target=target) ** 2).sum()

    gradients = jax.device_get(jax.jit(jax.grad(total, argnums=(0, 1)))(weights, images))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("target", TARGETS)
def test_an_example_is_perturbed_alike_alone_and_in_a_batch(target):
    images, weights = example()
    together = attack(weights, images, DOMAINS, target=target)
    for i in range(len(images)):
        alone = attack(weights, images[i : i + 1], DOMAINS[i : i + 1], target=target)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


def test_the_same_result_under_jit_and_without():
    images, weights = example()
    options = {"steps": 2, "target": "confuse"}
    eager = perturb.daa(functools.partial(network, weights), images, DOMAINS, **options)
    np.testing.assert_allclose(eager, attack(weights, images, DOMAINS, **options), atol=1e-6)


def test_an_unknown_target_is_refused():
    images, weights = example()
    with pytest.raises(
        ValueError, match=re.escape("unknown target 'flip' of the domain adversarial attack; known: uniform")
    ):
        attack(weights, images, DOMAINS, target="flip")


def test_flops_are_a_forward_and_an_input_gradient_a_step():
    classify = functools.partial(network, example()[1])
    images = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    forward = 2 * (48 * 8 + 8 * 3)

    def flops(steps):
        return perturb.Attack("domains", {"steps": steps}).flops(forward)

    assert flops(0) == 0
    assert flops(3) == 3 * flops(1)
    # The compiler counts a scanned body once, and the element-wise operations too.
    counted = jax.jit(lambda x: perturb.daa(classify, x, DOMAINS[:1], steps=1)).lower(images)
    assert flops(1) == pytest.approx(counted.cost_analysis()["flops"], rel=0.3)


# In a train step


def attacked_config(**changes):
    """A config whose attack fools the teacher 'domains', at twice the student's side."""
    config = common.base("attacked")
    config.model = {"name": "vit", "patch": 8, "width": 64, "depth": 2, "heads": 2, "classes": 2, "unroll": True}
    config.data.image_size = 32
    config.train.batch_size = 8
    teacher = common.base("domains")
    teacher.model = {"name": "vit", "patch": 16, "width": 128, "depth": 1, "heads": 2, "classes": 3, "unroll": True}
    teacher.data.image_size = 64
    teacher.data.target = "domain"
    config.teachers.domains = common.teacher_options(teacher)
    config.daa.update({"classifier": "domains", "steps": 3} | changes)
    return config


def test_one_step_is_kdfas_on_what_the_attack_makes_of_the_batch():
    """Its loss is CE + KL + covariance of student and teacher on the attacked images, which a seed and a step fix."""
    spoof = common.base("spoof")
    spoof.model = {"name": "vit", "patch": 8, "width": 32, "depth": 1, "heads": 2, "classes": 2, "unroll": True}
    config = common.distilled(attacked_config(steps=2), spoof)
    config.model.depth = 1
    made = dataclasses.replace(experiment.of_config(config), seed=5, optimiser=optax.sgd(0.0))
    model, objective, teachers = made.model, made.objective, made.teachers
    assert objective.teachers == ("spoof",)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "label": np.eye(2, dtype=np.float32)[rng.integers(0, 2, 8)],
        "domain": rng.integers(0, 3, 8).astype(np.int32),
    }

    @jax.jit
    def expected(state, variables, batch):
        """-> (x_adv, [(loss, terms) where both see it, where the student alone does, where neither does])."""
        clean = step.images_of(batch)
        classify = functools.partial(teachers["domains"].read, variables["domains"])
        images = perturb.daa(lambda x: classify(x)[0], clean, batch["domain"], steps=2)
        student = [model.apply(state.variables, one)[1] for one in (images, clean)]
        spoof = [{"spoof": teachers["spoof"].read(variables["spoof"], one)[1]} for one in (images, clean)]
        return images, [objective(student[i], spoof[j], batch) for i, j in ((0, 0), (0, 1), (1, 1))]

    state = drawn(0.1, lambda: step.init(made))
    variables = {name: drawn(0.1, lambda of=of: step.init_variables(*of, 1)) for name, of in teachers.items()}
    _, metrics = jax.jit(step.make(made))(state, variables, batch)
    images, ((loss, terms), *others) = jax.device_get(expected(state, variables, batch))
    assert 0 < np.abs(images - np.float32(batch["image"]) / 255).max() <= config.daa.eps + 1e-6
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-4)
    for name in ("ce", "kl", "covariance"):
        assert metrics[name] == pytest.approx(float(terms[name]), rel=1e-3)
        assert metrics[name] > 0
    weighted = sum(config.terms[name].weight * float(metrics[name]) for name in terms)
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-5)
    for other, _ in others:
        assert metrics["loss"] != pytest.approx(float(other), rel=1e-4)


def test_adversarial_training_attacks_the_label_of_each_image_that_has_one():
    """The loss of a step is the student's on images that were moved against its decision; no teacher is read."""
    config = attacked_config(classifier="student", target="confuse", steps=1)
    config.model.depth, config.teachers = 1, {}
    validate.check(config)
    made = dataclasses.replace(experiment.of_config(config), optimiser=optax.sgd(0.0))
    assert made.teachers == {}
    rng = np.random.default_rng(0)
    batch = {"image": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)}
    batch["label"] = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 8)] * (np.arange(8) < 6)[:, None]

    @jax.jit
    def losses(state, batch):
        """-> (metrics of a step, loss on what the attack makes of the first six images, loss on all as they are)."""

        def classify(images):
            return made.model.apply(state.variables, images)[0]

        clean = step.images_of(batch)
        moved = perturb.daa(classify, clean[:6], batch["label"][:6].argmax(-1), steps=1, target="confuse")
        seen = (jnp.concatenate([moved, clean[6:]]), clean)
        found = [made.objective(made.model.apply(state.variables, images)[1], {}, batch)[0] for images in seen]
        return step.make(made)(state, {}, batch)[1], *found

    metrics, attacked, clean = jax.device_get(losses(drawn(0.1, lambda: step.init(made)), batch))
    assert metrics["loss"] == pytest.approx(float(attacked), rel=1e-4)
    assert attacked > 1.02 * clean
    assert made.flops() == dataclasses.replace(made, attack=None).flops() + 2 * models.flops(made.model, 32)


@pytest.mark.slow
def test_the_plan_counts_the_attack():
    """All its steps: a loop counted once would give 0.6. Norms and the resizing weigh much at this width."""
    with_it, without = (plan.plan(attacked_config(steps=steps), f"cpu:{len(jax.devices())}") for steps in (3, 0))
    assert with_it["analytic_flops"] > 1.5 * without["analytic_flops"]
    assert 1 <= with_it["flops_ratio"] < 1.15


def test_a_step_of_kdfas_daa_is_within_two_hundredths_of_its_parts():
    """Teacher, three times the student, and the attack, by the compiler's count before it optimises."""
    config = kdfas_daa_demo.get_config()
    config.model.depth, config.terms.covariance.stages = 2, ((1, 3), (2, 4))
    one = sharding.make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1])
    made = experiment.of_config(config).unrolled()
    assert set(made.teachers) == {"domains", "spoof"}
    analytic = made.batch_size * made.flops()
    assert 1 <= plan.lower(made, one).step.cost_analysis()["flops"] / analytic <= 1.02
    config.daa.steps = 0
    assert made.flops() > 2 * experiment.of_config(config).flops()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classifier": "nobody"},
            "config.daa.classifier='nobody': expected 'student' or a name of config.teachers (domains)",
        ),
        (
            {"classifier": "student"},
            "config.daa.target='uniform': expected 'confuse', as config.daa.classifier='student'",
        ),
        ({"steps": -1}, "config.daa.steps=-1: expected a whole number"),
        ({"eps": -0.1}, "config.daa.eps=-0.1: expected a finite number, 0 or more"),
        ({"step_size": 0.0}, "config.daa.step_size=0.0: expected a finite number above 0"),
        ({"decay": 0.0}, "config.daa.decay=0.0: expected a number in (0, 1]"),
        ({"target": "all"}, "config.daa.target='all': expected one of uniform, confuse"),
    ],
)
def test_a_wrong_key_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        validate.check(attacked_config(**changes))


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ("label", "label", "config.teachers.domains.config.data.target='label': expected 'domain'"),
        ("domain", "identity", "config.data.target='identity': expected 'label'"),
    ],
)
def test_who_attacks_whom_is_checked(teacher, student, message):
    config = attacked_config()
    config.teachers.domains.config.data.target, config.data.target = teacher, student
    with pytest.raises(ValueError, match=re.escape(message)):
        validate.check(config)


def test_without_a_classifier_or_steps_there_is_no_attack():
    assert perturb.of_config(attacked_config(classifier="")) is None
    assert perturb.of_config(attacked_config(steps=0)) is None


@pytest.mark.parametrize(("platform", "loops"), [("cpu", False), ("tpu", True)])
def test_the_steps_are_a_loop_but_on_a_cpu(platform, loops, monkeypatch):
    """Either way with the same result; `test_the_plan_counts_the_attack` holds what a plan counts."""
    images, weights = example()
    monkeypatch.setattr(perturb.sharding, "platform", lambda: platform)
    traced = jax.jit(lambda x: perturb.daa(functools.partial(network, weights), x, DOMAINS, steps=3))
    assert ("stablehlo.while" in traced.lower(images).as_text()) is loops
    np.testing.assert_allclose(traced(images), attack(weights, images, DOMAINS, steps=3), atol=1e-6)

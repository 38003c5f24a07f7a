import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax import losses
from kdfas_jax.objective import Objective

TERMS = {
    "ce": {"kind": "cross_entropy", "weight": 0.3, "smoothing": 0.1},
    "kl": {"kind": "kl", "weight": 0.7, "teacher": "spoof", "temperature": 3.0},
    "covariance": {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "gram"},
}
TEACHERS = {"spoof": None}


def outputs(seed, width, depth=4, b=6):
    rng = np.random.default_rng(seed)
    shapes = {"logits": (b, 2), "class_tokens": (depth, b, width)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


BATCH = {"label": np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1, 0]]}


def test_the_loss_is_the_weighted_sum_of_the_terms():
    student, teacher = outputs(0, 8), outputs(1, 12)
    loss, values = Objective(TERMS, TEACHERS)(student, {"spoof": teacher}, BATCH)
    expected = {
        "ce": losses.cross_entropy(student["logits"], BATCH["label"], 0.1).mean(),
        "kl": losses.distillation_kl(student["logits"], teacher["logits"], 3.0).mean(),
        "covariance": losses.covariance(student["class_tokens"], teacher["class_tokens"], form="gram").mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)
    np.testing.assert_allclose(loss, 0.3 * expected["ce"] + 0.7 * expected["kl"] + expected["covariance"], rtol=1e-6)


def test_a_weight_of_zero_takes_the_term_and_its_teacher_away():
    off = {name: {**term, "weight": 0.0} if "teacher" in term else term for name, term in TERMS.items()}
    objective = Objective(off, TEACHERS)
    assert objective.teachers == ()
    assert set(objective(outputs(0, 8), {}, BATCH)[1]) == {"ce"}


def test_masked_examples_count_in_no_per_example_term():
    terms = {name: TERMS[name] for name in ("ce", "kl")}
    mask = np.array([1.0, 1, 1, 0, 0, 1])
    keep = mask.astype(bool)
    student, teacher = outputs(0, 8), outputs(1, 12)
    objective = Objective(terms, TEACHERS)
    whole, _ = objective(student, {"spoof": teacher}, {**BATCH, "mask": mask})
    part, _ = objective(
        {"logits": student["logits"][keep]},
        {"spoof": {"logits": teacher["logits"][keep]}},
        {"label": BATCH["label"][keep]},
    )
    np.testing.assert_allclose(whole, part, rtol=1e-6)


def test_arcface_is_the_cross_entropy_of_cosines_with_a_margin_on_the_own_class():
    """In float64 numpy: s cos(theta + m) for the own class, s cos(theta) for the others."""
    rng = np.random.default_rng(3)
    student = {name: rng.standard_normal(shape) for name, shape in (("embedding", (5, 4)), ("centres", (3, 4)))}
    own = np.array([0, 2, 1, 1, 0])
    unit = {name: value / np.linalg.norm(value, axis=1, keepdims=True) for name, value in student.items()}
    angle = np.arccos(unit["embedding"] @ unit["centres"].T)
    angle[np.arange(5), own] += 0.4
    logits = 8 * np.cos(angle)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), own]
    assert angle.max() < np.pi
    term = {"kind": "arcface", "weight": 2.0, "s": 8.0, "m": 0.4}
    given = {name: value.astype(np.float32) for name, value in student.items()}
    loss, values = Objective({"arcface": term}, {})(given, {}, {"identity": own})
    np.testing.assert_allclose(values["arcface"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, 2 * expected.mean(), rtol=1e-5)
    mask = np.array([1.0, 0, 0, 1, 1])
    _, values = Objective({"arcface": term}, {})(given, {}, {"identity": own, "mask": mask})
    np.testing.assert_allclose(values["arcface"], expected[mask > 0].mean(), rtol=1e-5)


def test_arcface_without_class_centres_says_what_makes_them():
    objective = Objective({"arcface": {"kind": "arcface", "weight": 1.0}}, {})
    with pytest.raises(ValueError, match=r"needs class centres; give a face model config\.model\.classes > 0"):
        objective({"embedding": np.ones((2, 4), np.float32)}, {}, {"identity": np.arange(2)})


def test_stages_pair_the_named_blocks():
    terms = {"covariance": {**TERMS["covariance"], "stages": [[1, 2], [4, 6]]}}
    student, teacher = outputs(0, 8, depth=4), outputs(1, 12, depth=6)
    value, _ = Objective(terms, TEACHERS)(student, {"spoof": teacher}, BATCH)
    chosen = losses.covariance(
        student["class_tokens"][np.array([0, 3])], teacher["class_tokens"][np.array([1, 5])], form="gram"
    )
    np.testing.assert_allclose(value, chosen.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "nonsense"},
            "kind='nonsense' is unknown; known kinds: align, arcface, attributes, covariance, critic, cross_entropy, ",
        ),
        ({"weight": -1.0}, "weight=-1.0 is negative"),
        ({"teacher": ""}, "needs a teacher"),
        ({"teacher": "face"}, r"teacher='face' is not in config.teachers \(spoof\)"),
        ({"temprature": 2.0}, "temprature is unknown; options of kind 'kl': temperature"),
    ],
)
def test_a_wrong_term_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Objective({"kl": {**TERMS["kl"], **change}}, TEACHERS)


def test_a_teacher_for_a_term_that_takes_none_is_refused():
    with pytest.raises(ValueError, match="takes no teacher"):
        Objective({"ce": {**TERMS["ce"], "teacher": "spoof"}}, TEACHERS)


def test_all_weights_zero_is_refused():
    with pytest.raises(ValueError, match="every weight is zero"):
        Objective({"ce": {**TERMS["ce"], "weight": 0.0}}, TEACHERS)


@pytest.mark.parametrize(
    ("stages", "depth", "message"), [((), 3, "depths"), (((1, 7),), 4, "must lie within"), (((0, 1),), 4, "must lie")]
)
def test_stages_that_do_not_exist_are_refused(stages, depth, message):
    objective = Objective({"covariance": {**TERMS["covariance"], "stages": stages}}, TEACHERS)
    with pytest.raises(ValueError, match=message):
        objective(outputs(0, 8, depth=4), {"spoof": outputs(1, 12, depth=depth)}, BATCH)


# Terms with parameters of their own

ALIGN = {"kind": "align", "weight": 2.0, "teacher": "face"}
ADVERSARY = {"kind": "domain_adversary", "weight": 1.0, "domains": 3, "hidden": 5}


def maps(seed, channels, side=4, b=6):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.standard_normal((b, side // 2**i, side // 2**i, c)).astype(np.float32) for i, c in enumerate(channels)
    )


def test_alignment_projects_every_stage_to_its_teachers():
    student, teacher = {"stages": maps(0, (3, 6))}, {"stages": maps(1, (4, 8, 7), side=8)}
    objective = Objective({"align": {**ALIGN, "stages": ((1, 2), (2, 3))}}, {"face": None})
    params = objective.init(jax.random.key(0), student, {"face": teacher})
    assert jax.tree.map(jnp.shape, params) == {
        "align": {"stage1_2": {"kernel": (3, 8), "bias": (8,)}, "stage2_3": {"kernel": (6, 7), "bias": (7,)}}
    }
    loss, values = objective(student, {"face": teacher}, {}, params)
    projected = [student["stages"][i] @ params["align"][name]["kernel"] for i, name in enumerate(params["align"])]
    expected = np.mean([losses.align(mine, teacher["stages"][i + 1]).mean() for i, mine in enumerate(projected)])
    np.testing.assert_allclose(values["align"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, 2 * expected, rtol=1e-5)


def test_alignment_takes_no_gradient_to_masked_examples():
    student, teacher = {"stages": maps(0, (3,))}, {"stages": maps(1, (4,))}
    objective = Objective({"align": ALIGN}, {"face": None})
    params = objective.init(jax.random.key(0), student, {"face": teacher})
    mask = np.array([1, 0, 0, 1, 1, 0])
    grads = jax.grad(lambda out: objective(out, {"face": teacher}, {"mask": mask}, params)[0])(student)
    assert [bool(np.any(of_example)) for of_example in grads["stages"][0]] == mask.astype(bool).tolist()


def test_a_vit_is_aligned_by_its_class_tokens():
    """With a teacher of feature maps: their mean over the positions is what one position can match."""
    student, teacher = outputs(0, 8, depth=2), {"stages": maps(1, (4, 8))}
    objective = Objective({"align": ALIGN}, {"face": None})
    params = objective.init(jax.random.key(0), student, {"face": teacher})
    _, values = objective(student, {"face": teacher}, {}, params)
    stages = []
    for token, name, theirs in zip(student["class_tokens"], ("stage1_1", "stage2_2"), teacher["stages"], strict=True):
        mine, target = (
            token @ params["align"][name]["kernel"],
            np.asarray(jax.image.resize(theirs, (6, 1, 1, theirs.shape[-1]), "linear"))[:, 0, 0],
        )
        unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (mine, target)]
        stages.append(((unit[0] - unit[1]) ** 2).sum(-1).mean())
    np.testing.assert_allclose(values["align"], np.mean(stages), rtol=1e-5)


def test_the_projectors_of_a_term_do_not_depend_on_the_other_terms():
    student, teacher = {"stages": maps(0, (3,)), "pre_logits": np.ones((6, 7), np.float32)}, {"stages": maps(1, (4,))}
    alone, beside = (
        Objective(terms, {"face": None}).init(jax.random.key(0), student, {"face": teacher})
        for terms in ({"a": ALIGN}, {"b": {**ALIGN, "weight": 1.0}, "d": ADVERSARY, "a": ALIGN})
    )
    jax.tree.map(np.testing.assert_array_equal, alone["a"], beside["a"])
    assert (beside["a"]["stage1_1"]["kernel"] != beside["b"]["stage1_1"]["kernel"]).any()


def test_terms_without_parameters_have_none():
    assert Objective(TERMS, TEACHERS).init(jax.random.key(0), outputs(0, 8), {"spoof": outputs(1, 12)}) == {}


@pytest.mark.parametrize(
    ("progress", "scale"), [(0.0, 0.0), (0.5, 2 / (1 + np.exp(-5)) - 1), (1.0, 2 / (1 + np.exp(-10)) - 1)]
)
def test_the_domain_head_learns_while_the_student_unlearns(progress, scale):
    """The student's gradient is the head's own, turned round and scaled by Ganin's schedule."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6, 7)).astype(np.float32)
    batch = {"domain": np.array([0, 1, 2, 0, 1, 2])}
    objective = Objective({"d": ADVERSARY}, {})
    params = objective.init(jax.random.key(0), {"pre_logits": features}, {})

    def loss(params, features):
        return objective({"pre_logits": features}, {}, batch, params, progress)[0]

    def plain(params, features):
        tree = params["d"]
        hidden = jax.nn.relu(features @ tree["hidden"]["kernel"] + tree["hidden"]["bias"])
        logits = hidden @ tree["head"]["kernel"] + tree["head"]["bias"]
        return -jax.nn.log_softmax(logits)[jnp.arange(6), batch["domain"]].mean()

    np.testing.assert_allclose(loss(params, features), plain(params, features), rtol=1e-5)
    (of_head, of_student), (head, student) = (jax.grad(f, (0, 1))(params, features) for f in (loss, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), of_head, head)
    np.testing.assert_allclose(of_student, -scale * student, rtol=1e-4, atol=1e-7)


def test_the_terms_layers_are_counted():
    student, teacher = {"stages": maps(0, (3,), b=1)}, {"stages": maps(1, (4,), b=1)}
    objective = Objective({"align": ALIGN, "ce": TERMS["ce"]}, {"face": None})
    assert objective.flops(student, {"face": teacher}) == 3 * 2 * 16 * 3 * 4

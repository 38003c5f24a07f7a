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
    labels = np.eye(3, dtype=np.float32)[own]
    loss, values = Objective({"arcface": term}, {})(given, {}, {"label": labels})
    np.testing.assert_allclose(values["arcface"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(loss, 2 * expected.mean(), rtol=1e-5)
    mask = np.array([1.0, 0, 0, 1, 1])
    _, values = Objective({"arcface": term}, {})(given, {}, {"label": labels, "mask": mask})
    np.testing.assert_allclose(values["arcface"], expected[mask > 0].mean(), rtol=1e-5)


def test_arcface_without_class_centres_says_what_makes_them():
    objective = Objective({"arcface": {"kind": "arcface", "weight": 1.0}}, {})
    with pytest.raises(ValueError, match=r"needs class centres; give an iresnet config\.model\.classes > 0"):
        objective({"embedding": np.ones((2, 4), np.float32)}, {}, {"label": np.eye(2)})


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
        ({"kind": "nonsense"}, "kind='nonsense' is unknown; known kinds: arcface, covariance, cross_entropy, kl"),
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

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax.objective import losses as plain_losses
from kdfas_jax.objective import weighted_sum


class Objective(weighted_sum.Objective):
    """Compiled as a whole, as a step does it: one operation after the other takes three times as long."""

    def __init__(self, terms, teachers):
        super().__init__(terms, teachers)
        self.update = jax.jit(self.update)

    def init(self, key, student, teachers):
        return jax.jit(lambda key: super(Objective, self).init(key, student, teachers))(key)


def compiled(function):
    return lambda *args, **options: jax.jit(functools.partial(function, **options))(*args)


names = ("cross_entropy", "distillation_kl", "covariance", "align", "cosine_distance")
losses = SimpleNamespace(FORMS=plain_losses.FORMS, **{name: compiled(getattr(plain_losses, name)) for name in names})

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
    # Operation by operation, on both sides: programs that are compiled whole may round differently.
    loss, values = weighted_sum.Objective(TERMS, TEACHERS)(student, {"spoof": teacher}, BATCH)
    expected = {
        "ce": plain_losses.cross_entropy(student["logits"], BATCH["label"], 0.1).mean(),
        "kl": plain_losses.distillation_kl(student["logits"], teacher["logits"], 3.0).mean(),
        "covariance": plain_losses.covariance(student["class_tokens"], teacher["class_tokens"], form="gram").mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)
    np.testing.assert_allclose(loss, 0.3 * expected["ce"] + 0.7 * expected["kl"] + expected["covariance"], rtol=1e-6)


def test_an_ensemble_teaches_its_mean_logits_and_the_class_tokens_of_its_first_member():
    terms = {name: {**TERMS[name], "teacher": "spoof+second"} for name in ("kl", "covariance")}
    student, first, second = outputs(0, 8), outputs(1, 12), outputs(2, 16)
    objective = Objective(terms, {"spoof": None, "second": None})
    assert objective.teachers == ("second", "spoof")
    _, values = objective(student, {"spoof": first, "second": second}, BATCH)
    mean = (first["logits"] + second["logits"]) / 2
    np.testing.assert_allclose(values["kl"], losses.distillation_kl(student["logits"], mean, 3.0).mean(), rtol=1e-6)
    tokens = losses.covariance(student["class_tokens"], first["class_tokens"], form="gram").mean()
    np.testing.assert_allclose(values["covariance"], tokens, rtol=1e-6)


def test_an_unknown_member_of_an_ensemble_is_named():
    with pytest.raises(ValueError, match=r"teacher='third' is not in config.teachers"):
        Objective({"kl": {**TERMS["kl"], "teacher": "spoof+third"}}, TEACHERS)


def test_stage_maps_of_a_convolutional_teacher_stand_for_class_tokens():
    student = outputs(0, 8, depth=4)
    teacher = {"stages": maps(1, (4, 8, 16))}
    terms = {"covariance": {**TERMS["covariance"], "stages": [[1, 1], [4, 3]]}}
    value, _ = Objective(terms, TEACHERS)(student, {"spoof": teacher}, BATCH)
    each = [
        losses.covariance(student["class_tokens"][i][None], teacher["stages"][j].mean((1, 2))[None], form="gram")
        for i, j in ((0, 0), (3, 2))
    ]
    np.testing.assert_allclose(value, np.mean(each), rtol=1e-6)


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
    grads = jax.jit(jax.grad(lambda out: objective(out, {"face": teacher}, {"mask": mask}, params)[0]))(student)
    assert [bool(np.any(of_example)) for of_example in grads["stages"][0]] == mask.astype(bool).tolist()


@pytest.mark.parametrize("form", losses.FORMS)
def test_the_covariance_term_reads_lifted_tokens(form):
    """A convolutional student of two widths: each stage, used twice or not at all, has at most one layer."""
    student, teacher = {"stages": maps(0, (3, 6, 5))}, outputs(1, 12, depth=2)
    term = {"kind": "covariance", "weight": 2.0, "teacher": "spoof", "form": form, "lift": 8}
    objective = Objective({"lifted": {**term, "stages": ((1, 1), (2, 1), (2, 2))}}, TEACHERS)
    params = objective.init(jax.random.key(0), student, {"spoof": teacher})
    assert jax.tree.map(jnp.shape, params) == {
        "lifted": {"stage1": {"kernel": (3, 8), "bias": (8,)}, "stage2": {"kernel": (6, 8), "bias": (8,)}}
    }
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # so that the biases count

    def loss(params, student):
        return objective(student, {"spoof": teacher}, {}, params)[0]

    found, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, student)
    layers, expected = params["lifted"], []
    for i, j in ((0, 0), (1, 0), (1, 1)):
        layer = layers[f"stage{i + 1}"]
        tokens = student["stages"][i].mean((1, 2)) @ layer["kernel"] + layer["bias"]
        expected.append(losses.covariance(tokens[None], teacher["class_tokens"][j][None], form=form))
    np.testing.assert_allclose(found, 2 * np.mean(expected), rtol=1e-4)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves((grads[0], grads[1]["stages"][:2])))
    shapes = jax.eval_shape(lambda: ({"stages": maps(0, (3, 6, 5), b=1)}, {"spoof": outputs(1, 12, depth=2, b=1)}))
    assert objective.flops(*shapes) == 3 * 2 * (3 * 8 + 6 * 8)


def test_cka_follows_the_lift_of_a_vit_and_regression_hardly():
    """An invertible map of tokens of many rows, of which the teacher's are a linear function."""
    student = outputs(0, 8, b=400)
    matrix = np.random.default_rng(1).standard_normal((8, 12)).astype(np.float32)
    teacher = {"class_tokens": student["class_tokens"] @ matrix}
    kernel = np.diag(np.geomspace(1, 4, 8)).astype(np.float32)
    params = {"lifted": {f"stage{i}": {"kernel": kernel, "bias": np.zeros(8, np.float32)} for i in range(1, 5)}}
    changes = {}
    for form in ("cka", "regression"):
        term = {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": form}
        plain = Objective({"lifted": term}, TEACHERS)(student, {"spoof": teacher}, {})[0]
        lifted = Objective({"lifted": {**term, "lift": 8}}, TEACHERS)(student, {"spoof": teacher}, {}, params)[0]
        changes[form] = abs(float(lifted - plain))
    assert changes["cka"] > 3 * changes["regression"]


@pytest.mark.parametrize("convolutional", [False, True])
def test_the_map_of_cross_is_a_running_mean_over_batches(convolutional):
    """In float64 numpy: the plain mean of two batches, then half of the third."""
    rng = np.random.default_rng(2)
    batches = [rng.standard_normal((3, 1, 6, width)) for width in (4, 5)]
    term = {"kind": "covariance", "weight": 2.0, "teacher": "spoof", "scale": "batch", "momentum": 0.5}
    objective = Objective({"running": term}, TEACHERS)

    def named(tokens):
        tokens = tokens.astype(np.float32)
        return {"stages": (tokens[0][:, None, None],)} if convolutional else {"class_tokens": tokens}

    first, other = (named(of[0]) for of in batches)
    assert objective.init(jax.random.key(0), first, {"spoof": other}) == {}
    kept = objective.init_statistics(first, {"spoof": other})
    mean, rates = 0.0, (1, 1 / 2, 1 / 2)
    for s, t, rate in zip(*batches, rates, strict=True):
        loss, values, kept = objective.update(named(s), {"spoof": named(t)}, {}, {"statistics": kept})
        a, b = (x[0] / np.linalg.norm(x[0], axis=-1, keepdims=True) for x in (s, t))
        mean = mean + rate * (a.T @ b / 6 - mean)
        np.testing.assert_allclose(loss, 2 * ((b - a @ mean) ** 2).mean(), rtol=1e-5)
        np.testing.assert_allclose(values["running"], loss / 2, rtol=1e-6)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(kept)) == [(), (1, 4, 5)]
    assert [int(leaf) for leaf in jax.tree.leaves(kept) if leaf.ndim == 0] == [3]


def test_a_map_that_never_moves_is_that_of_one_batch():
    """Of `regression`, for the same batch again and again; a form without a map is refused."""
    student, teacher = outputs(0, 4, b=12), outputs(1, 5, b=12)
    term = {"kind": "covariance", "weight": 1.0, "teacher": "spoof", "form": "regression"}
    objective = Objective({"running": {**term, "momentum": 0.9}}, TEACHERS)
    kept = objective.init_statistics(student, {"spoof": teacher})
    expected = losses.covariance(student["class_tokens"], teacher["class_tokens"], form="regression").mean()
    for _ in range(3):
        loss, _, kept = objective.update(student, {"spoof": teacher}, {}, {"statistics": kept})
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"momentum=0\.9 of a 'covariance' term of form 'cka', .*expected form cross or"
    ):
        Objective({"running": {**term, "form": "cka", "momentum": 0.9}}, TEACHERS)


def test_patches_and_features_are_aligned():
    """Patch tokens with a finer map, by area; features of two widths by their cosine."""
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((6, width)).astype(np.float32) for width in (3, 4)]
    tokens = np.zeros((1, 6, 3), np.float32)
    student = {"class_tokens": tokens, "patch_tokens": maps(0, (3,), side=2)[0], "pre_logits": features[0]}
    teacher = {"stages": maps(1, (4,), side=4), "pre_logits": features[1]}
    terms = {of: {**ALIGN, "of": of} for of in ("patches", "features")}
    terms["patches"]["stages"] = ((1, 1),)
    objective = Objective(terms, {"face": None})
    params = objective.init(jax.random.key(0), student, {"face": teacher})
    _, values = objective(student, {"face": teacher}, {}, params)
    kernels = {name: of["stage1_1"]["kernel"] for name, of in params.items()}
    coarse = teacher["stages"][0].reshape(6, 2, 2, 2, 2, 4).mean((2, 4))
    patches = losses.align(student["patch_tokens"] @ kernels["patches"], coarse).mean()
    cosine = losses.cosine_distance(features[0] @ kernels["features"], features[1]).mean()
    np.testing.assert_allclose([values["patches"], values["features"]], [patches, 2 * cosine], rtol=1e-5)
    with pytest.raises(ValueError, match="of='tokens' of an 'align' term; expected one of stages, patches, features"):
        Objective({"align": {**ALIGN, "of": "tokens"}}, {"face": None}).init(
            jax.random.key(0), student, {"face": teacher}
        )


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
            theirs.mean((1, 2)),
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

    found, (of_head, of_student) = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, features)
    expected, (head, student) = jax.jit(jax.value_and_grad(plain, (0, 1)))(params, features)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), of_head, head)
    np.testing.assert_allclose(of_student, -scale * student, rtol=1e-4, atol=1e-7)


def test_the_terms_layers_are_counted():
    student, teacher = {"stages": maps(0, (3,), b=1)}, {"stages": maps(1, (4,), b=1)}
    objective = Objective({"align": ALIGN, "ce": TERMS["ce"]}, {"face": None})
    assert objective.flops(student, {"face": teacher}) == 3 * 2 * 16 * 3 * 4


# MTAKD: who it is and whether it is live are known of some examples each (`where`).
BOTH = {
    "arcface": {"kind": "arcface", "weight": 1.0, "where": "identity", "s": 8.0, "m": 0.4},
    "embedding": {"kind": "embedding", "weight": 5.0, "teacher": "recognition", "where": "identity"},
    "align_recognition": {"kind": "align", "weight": 1.0, "teacher": "recognition", "where": "identity"},
    "ce": {"kind": "cross_entropy", "weight": 1.0, "smoothing": 0.1, "where": "label"},
    "kl": {"kind": "kl", "weight": 1.0, "teacher": "spoof", "temperature": 3.0, "where": "label"},
    "align_spoof": {"kind": "align", "weight": 1.0, "teacher": "spoof", "where": "label"},
}
RECOGNITION = ("arcface", "embedding", "align_recognition")
# A recognition image, an attack, a live face that somebody knows, one that nobody knows, and an image of neither.
MIXED = {
    "identity": np.array([2, -1, 0, -1, -1, 1], np.int32),
    "label": np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0, 0], [0, 0]], np.float32),
}
KNOWN = {"identity": MIXED["identity"] >= 0, "label": MIXED["label"].any(1)}


def two_tasks():
    """(student, teachers) of random outputs: one student of both heads, and what each teacher gives of them."""
    rng = np.random.default_rng(5)
    shapes = {"logits": (6, 2), "embedding": (6, 4), "centres": (3, 4)}
    student = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    student["stages"] = maps(2, (3,))
    teachers = {
        "recognition": {"embedding": rng.standard_normal((6, 4)).astype(np.float32), "stages": maps(3, (5,))},
        "spoof": {
            "logits": rng.standard_normal((6, 2)).astype(np.float32),
            "class_tokens": outputs(4, 7, 1)["class_tokens"],
        },
    }
    return student, teachers


def objective_of(name, student, teachers):
    objective = Objective({name: BOTH[name]}, teachers)
    return objective, objective.init(jax.random.key(0), student, teachers)


@pytest.mark.parametrize("name", BOTH)
def test_examples_of_which_it_is_not_known_add_exactly_nothing(name):
    student, teachers = two_tasks()
    known = KNOWN["identity" if name in RECOGNITION else "label"]
    objective, params = objective_of(name, student, teachers)
    given = {key: value for key, value in student.items() if key != "centres"}

    def loss(given):
        return objective(student | given, teachers, MIXED, params)[0]

    both = jax.jit(jax.value_and_grad(loss))
    value, gradient = both(given)
    touched = sum(np.abs(leaf).reshape(6, -1).sum(1) for leaf in jax.tree.leaves(gradient))
    assert (touched[known] > 0).all()
    assert (touched[~known] == 0).all()
    broken = jax.tree.map(lambda leaf: np.where(known.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.nan), given)
    of_broken, gradient = both(broken)
    np.testing.assert_array_equal(of_broken, value)
    assert all(np.isfinite(leaf[known]).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", BOTH)
def test_a_term_is_the_mean_over_the_examples_that_it_counts(name):
    student, teachers = two_tasks()
    known = KNOWN["identity" if name in RECOGNITION else "label"]
    objective, params = objective_of(name, student, teachers)

    def rows(leaf):
        return leaf[:, known] if leaf.shape[1:] == (6, 7) else leaf[known]  # class tokens: stages first

    centres = {"centres": student["centres"]}
    part = {key: jax.tree.map(rows, value) for key, value in student.items() if key != "centres"} | centres
    whole, _ = objective(student, teachers, MIXED, params)
    alone, _ = objective(
        part, jax.tree.map(rows, teachers), {key: value[known] for key, value in MIXED.items()}, params
    )
    np.testing.assert_allclose(whole, alone, rtol=1e-5)


@pytest.mark.parametrize("absent", ["identity", "label"])
def test_a_batch_with_none_of_one_kind_gives_finite_losses(absent):
    student, teachers = two_tasks()
    objective = Objective(BOTH, teachers)
    params = objective.init(jax.random.key(0), student, teachers)
    batch = {**MIXED, absent: np.full(6, -1, np.int32) if absent == "identity" else np.zeros((6, 2), np.float32)}
    whole = jax.value_and_grad(lambda given: objective(given, teachers, batch, params), has_aux=True)
    (loss, values), grads = jax.jit(whole)(student)
    assert np.isfinite(loss)
    assert {name for name, value in values.items() if value == 0} == {
        name for name in BOTH if (name in RECOGNITION) == (absent == "identity")
    }
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"where": "face"}, r"terms\.kl\.where='face': expected for a term of kind 'kl': '', 'label', 'identity'"),
        ({"kind": "covariance", "where": "label"}, r"where='label': expected .* none, as it sees the whole batch"),
    ],
)
def test_where_names_what_is_known_of_an_example(changes, words):
    term = {"kind": "kl", "weight": 1.0, "teacher": "spoof", **changes}
    with pytest.raises(ValueError, match=words):
        Objective({"kl": term}, TEACHERS)


def test_embeddings_of_other_lengths_are_refused():
    student, teachers = two_tasks()
    teachers["recognition"]["embedding"] = np.ones((6, 5), np.float32)
    with pytest.raises(ValueError, match=r"student's has 4 numbers, the teacher's 5; set config\.model\.embedding"):
        Objective({"embedding": BOTH["embedding"]}, teachers)(student, teachers, MIXED)


def test_the_spectrum_of_the_image_is_learnt_from_a_feature_map():
    """A zero head misses a standardised target by 1; the best map has its peaks where the stripes' frequency is."""
    term = {"spectrum": {"kind": "spectrum", "weight": 0.5, "stage": 1, "hidden": 4}}
    objective = Objective(term, {})
    x = np.arange(32)
    image = np.uint8(127 + 100 * np.cos(2 * np.pi * x / 4))[None, None, :, None] * np.ones((2, 32, 1, 3), np.uint8)
    student, batch = {"stages": (np.ones((2, 32, 32, 4), np.float32),)}, {"image": image}
    params = objective.init(jax.random.key(0), student, {})
    zero = jax.tree.map(np.zeros_like, params)
    loss, values = objective(student, {}, batch, zero)
    np.testing.assert_allclose([loss, values["spectrum"]], [0.5, 1.0], rtol=1e-4)

    def of_map(wanted):  # a head that passes its map through, so that the loss is the distance from it
        head = {"hidden": zero["spectrum"]["hidden"], "head": zero["spectrum"]["head"]}
        head["hidden"] = {"kernel": np.zeros((3, 3, 4, 4), np.float32), "bias": np.zeros(4, np.float32)}
        head["hidden"]["kernel"][1, 1, 0, 0] = 1
        head["head"] = {"kernel": np.eye(4, 1, dtype=np.float32)[None, None], "bias": np.zeros(1, np.float32)}
        maps = np.zeros((2, 32, 32, 4), np.float32)
        maps[..., 0] = wanted
        return objective({"stages": (maps,)}, {}, batch, {"spectrum": head})[1]["spectrum"]

    peaks = np.zeros((32, 32))
    peaks[16, [8, 24]] = 10.0  # a period of four pixels, beside zero frequency in the middle
    elsewhere = np.roll(peaks, 3, axis=0)
    assert of_map(peaks) < 1.0 < of_map(elsewhere)


def test_truth_maps_are_learnt_from_a_feature_map():
    """Zero logits: ln 2 for any truth of a half; the gradient reaches the feature map; another model is refused."""
    term = {"truth": {"kind": "truth", "weight": 2.0, "stage": 2, "hidden": 4}}
    objective = Objective(term, {})
    maps = (np.ones((3, 8, 8, 2), np.float32), np.ones((3, 4, 4, 5), np.float32))
    student, batch = {"stages": maps}, {"truth": np.full((3, 16, 16, 3), 127.5).astype(np.float32)}
    params = objective.init(jax.random.key(0), student, {})
    assert {name: leaf["kernel"].shape for name, leaf in params["truth"].items()} == {
        "hidden": (3, 3, 5, 4),
        "head": (1, 1, 4, 3),
    }
    blank = jax.tree.map(np.zeros_like, params)
    loss, values = objective(student, {}, batch, blank)
    np.testing.assert_allclose([loss, values["truth"]], [2 * np.log(2), np.log(2)], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda of: objective({"stages": (maps[0], of)}, {}, batch, params)[0]))(maps[1])
    assert np.abs(gradient).max() > 0
    with pytest.raises(ValueError, match="needs a feature map 2; the student has 0"):
        objective.init(jax.random.key(0), {"logits": np.zeros((3, 2))}, {})

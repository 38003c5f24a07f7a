import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax.objective import losses

# Eager dispatch is slow.
covariance = jax.jit(losses.covariance, static_argnames=("form", "centre", "scale"))
cross_entropy = jax.jit(losses.cross_entropy)
distillation_kl = jax.jit(losses.distillation_kl)


def tokens(seed, stages=3, b=8, width=16):
    return np.random.default_rng(seed).standard_normal((stages, b, width)).astype(np.float32)


def rows(x):
    return x / (x**2).sum(-1, keepdims=True) ** 0.5


def gram_by_definition(s, t, centre=False):
    """mean((S S^T - T T^T)^2) with its b x b matrices, in the precision of its arguments."""
    s, t = rows(s), rows(t)
    if centre:
        s, t = s - s.mean(axis=1, keepdims=True), t - t.mean(axis=1, keepdims=True)
    difference = jnp.einsum("nbd,ncd->nbc", s, s) - jnp.einsum("nbd,ncd->nbc", t, t)
    return jnp.mean(difference**2, axis=(1, 2))


def test_cross_entropy_by_hand():
    logits = np.log(np.float32([[0.25, 0.75], [0.5, 0.5]]))
    labels = np.float32([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(cross_entropy(logits, labels), [-np.log(0.75), -np.log(0.5)], rtol=1e-6)
    smoothed = -(0.95 * np.log(0.75) + 0.05 * np.log(0.25))
    np.testing.assert_allclose(cross_entropy(logits, labels, smoothing=0.1)[0], smoothed, rtol=1e-6)


def test_cross_entropy_of_soft_targets_is_linear_in_them():
    logits = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    one, other = np.eye(3, dtype=np.float32)[[[0, 1, 2, 0], [1, 1, 0, 2]]]
    mixed, of_one, of_other = (cross_entropy(logits, labels) for labels in (0.3 * one + 0.7 * other, one, other))
    np.testing.assert_allclose(mixed, 0.3 * np.asarray(of_one) + 0.7 * np.asarray(of_other), rtol=1e-5)


def test_kl_by_hand_and_its_temperature():
    student, teacher = np.zeros((1, 2), np.float32), np.float32([[np.log(3.0), 0.0]])
    found = np.asarray(distillation_kl(student, teacher))
    np.testing.assert_allclose(found[0], 0.75 * np.log(1.5) + 0.25 * np.log(0.5), rtol=1e-6)
    assert distillation_kl(teacher, teacher, temperature=3.0)[0] == pytest.approx(0, abs=1e-7)
    scaled = distillation_kl(3 * student, 3 * teacher, temperature=3.0)
    np.testing.assert_allclose(scaled, 9 * found, rtol=1e-6)


def test_kl_gradients_stay_finite_when_a_teacher_probability_underflows():
    student, teacher = np.float32([[0.3, -0.2]]), np.float32([[120.0, -120.0]])
    grads = jax.jit(jax.grad(lambda s, t: losses.distillation_kl(s, t).sum(), argnums=(0, 1)))(student, teacher)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_masked_mean_ignores_what_is_masked_even_a_nan():
    values, mask = np.float32([1.0, np.nan, 3.0, 100.0]), np.float32([1.0, 0.0, 1.0, 0.0])
    masked_mean = jax.jit(jax.value_and_grad(losses.masked_mean))
    mean, grad = masked_mean(values, mask)
    assert float(mean) == 2.0
    assert masked_mean(values, np.zeros_like(mask))[0] == 0
    np.testing.assert_array_equal(grad, [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("scale", ["none", "batch"])
def test_cross_equals_its_definition(centre, scale):
    s, t = tokens(0, width=12), tokens(1, width=20)
    expected = []
    for a, b in zip(rows(s), rows(t), strict=True):
        if centre:
            a, b = a - a.mean(0), b - b.mean(0)
        c = a.T @ b / (len(a) if scale == "batch" else 1)
        expected.append(((b - a @ c) ** 2).mean())
    found = covariance(s, t, form="cross", centre=centre, scale=scale)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(("b", "ds", "dt"), [(2, 5, 24), (7, 24, 5), (40, 16, 24)])
def test_gram_of_dxd_matrices_equals_the_bxb_definition(b, ds, dt, centre):
    s, t = tokens(0, 2, b, ds), tokens(1, 2, b, dt)
    of_losses = jax.value_and_grad(lambda x: covariance(x, t, form="gram", centre=centre).sum())
    by_definition = jax.value_and_grad(lambda x: gram_by_definition(x, t, centre).sum())
    found, expected = jax.jit(lambda x: (of_losses(x), by_definition(x)))(s)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-7)


def test_gram_keeps_its_precision_for_nearly_identical_tokens():
    """Where the plain d x d identity returns noise, and even a negative distance."""
    s, t = 1 + 0.02 * tokens(0, 1, 64, 24), 1 + 0.02 * tokens(1, 1, 64, 48)
    a, b = (rows(x.astype(np.float64)) for x in (s, t))
    exact = np.mean((a[0] @ a[0].T - b[0] @ b[0].T) ** 2)
    assert 0 < exact < 1e-6
    np.testing.assert_allclose(covariance(s, t, form="gram")[0], exact, rtol=1e-3)


def test_gram_and_its_gradient_are_those_of_float64_at_a_small_spread():
    """A relative spread of 1e-3 about each side's mean, as class tokens have early in training."""
    rng = np.random.default_rng(3)
    s, t = ((rng.normal(size=(1, 1, d)) + 1e-3 * rng.normal(size=(1, 64, d))).astype(np.float32) for d in (192, 384))
    value, slope = jax.jit(jax.value_and_grad(lambda x: covariance(x, t, form="gram").sum()))(s)
    with jax.enable_x64(True):
        by_definition = jax.jit(jax.value_and_grad(lambda x, t: gram_by_definition(x, t).sum()))
        exact, exact_slope = (np.asarray(leaf) for leaf in by_definition(s.astype(float), t.astype(float)))
    assert exact_slope.dtype == np.float64
    np.testing.assert_allclose(value, exact, rtol=1e-4)
    assert np.linalg.norm(slope - exact_slope) < 1e-3 * np.linalg.norm(exact_slope)


@pytest.mark.parametrize(("b", "ds", "dt"), [(7, 24, 5), (40, 16, 24)])
def test_cka_equals_its_bxb_definition(b, ds, dt):
    """The cosine of the two centred similarity matrices [b, b], in float64."""
    s, t = tokens(0, 2, b, ds), tokens(1, 2, b, dt)
    expected = []
    for one, other in zip(rows(s.astype(float)), rows(t.astype(float)), strict=True):
        k, m = (x @ x.T for x in (one - one.mean(0), other - other.mean(0)))
        expected.append(1 - (k * m).sum() / np.sqrt((k**2).sum() * (m**2).sum()))
    np.testing.assert_allclose(covariance(s, t, form="cka"), expected, rtol=1e-4)


def test_cka_is_zero_for_rotated_tokens_at_any_spread_and_at_most_one():
    rotation = np.linalg.qr(tokens(2, 1, 16, 16)[0])[0]
    for spread in (1.0, 1e-2):
        s = 1 + spread * tokens(0, width=16)
        np.testing.assert_allclose(covariance(s @ rotation, s, form="cka"), 0, atol=1e-4)
    assert covariance(tokens(0, 1, 400, 4), tokens(1, 1, 400, 4), form="cka")[0] > 0.95


def test_regression_is_the_variance_that_least_squares_leaves():
    """By NumPy's solver in float64, with the ridge as rows below the tokens."""
    s, t = tokens(0, 2, 40, 16), tokens(1, 2, 40, 24)
    expected = []
    for a, b in zip(rows(s.astype(float)), rows(t.astype(float)), strict=True):
        a, b = a - a.mean(0), b - b.mean(0)
        ridge = np.sqrt(losses.RIDGE * (a**2).sum() / 16) * np.eye(16)
        c = np.linalg.lstsq(np.vstack([a, ridge]), np.vstack([b, np.zeros((16, 24))]), rcond=None)[0]
        expected.append(((b - a @ c) ** 2).sum() / (b**2).sum())
    np.testing.assert_allclose(covariance(s, t, form="regression"), expected, rtol=1e-4)


def test_regression_is_near_zero_where_the_student_determines_the_teacher():
    s = tokens(0, 1, 200, 16)
    unit = s / np.linalg.norm(s, axis=-1, keepdims=True)
    wide = np.concatenate([unit, unit[..., ::-1]], -1)  # rows of one length, linear in the student's
    assert covariance(s, wide, form="regression")[0] < 1e-3


def test_all_forms_see_the_student_only_through_its_gram_matrix():
    s, t = tokens(0, width=16), tokens(1, width=16)
    rotation = np.linalg.qr(tokens(2, 1, 16, 16)[0])[0]
    for form in losses.FORMS:
        np.testing.assert_allclose(covariance(s @ rotation, t, form=form), covariance(s, t, form=form), rtol=1e-4)


def test_scale_of_near_identical_tokens_with_the_batch():
    """The value of `cross` grows with the batch, `gram` and the batch-scaled form do not."""

    @jax.jit
    def values(s, t):
        return [losses.covariance(s, t, **options)[0] for options in ({}, {"scale": "batch"}, {"form": "gram"})]

    small, large = (values(1 + 0.05 * tokens(0, 1, b, 24), 1 + 0.05 * tokens(1, 1, b, 48)) for b in (8, 128))
    assert large[0] > 100 * small[0]
    assert large[1] < 2 * small[1]
    assert large[2] < 5 * small[2]


def test_gradient_flows_through_the_covariance_matrix():
    s, t = tokens(0), tokens(1)

    def frozen_matrix(x):
        a, b = rows(x), rows(t)
        c = jax.lax.stop_gradient(jnp.einsum("nbs,nbt->nst", a, b))
        return jnp.mean((b - jnp.einsum("nbs,nst->nbt", a, c)) ** 2, axis=(1, 2)).sum()

    slopes = jax.jit(lambda x: [jax.grad(loss)(x) for loss in (lambda x: covariance(x, t).sum(), frozen_matrix)])(s)
    assert not np.allclose(*slopes, rtol=1e-2)


def test_zero_tokens_give_finite_gradients():
    t = tokens(1)

    def sums(x):
        return jnp.stack([covariance(x, t, form=form).sum() for form in losses.FORMS])

    grads = jax.jit(jax.jacrev(sums))(np.zeros_like(t))
    assert len(grads) == len(losses.FORMS)
    assert np.isfinite(grads).all()


@pytest.mark.parametrize("options", [{"form": "other"}, {"scale": "other"}, {"form": "gram", "scale": "batch"}])
def test_unknown_forms_are_refused(options):
    with pytest.raises(ValueError, match="known are cross"):
        losses.covariance(tokens(0), tokens(1), **options)

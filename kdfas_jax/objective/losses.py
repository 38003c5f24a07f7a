"""Loss functions: plain arrays in, per-example losses or a mean out; no config, no I/O.

Per-example losses have shape [b] and are averaged in one place, `masked_mean`. The covariance losses see the whole
global batch: under a batch sharded over any mesh, contractions over `b` become all-reduces of d x d matrices.

Marks: [S] a source states it, [I] inferred, [C] our own choice (docs/methods.md).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

FORMS = ("cross", "gram", "cka", "regression")  # readings of the covariance term
MAPS = ("cross", "regression")  # those with a map C from the student's space into the teacher's
RIDGE = 1e-2  # of the least-squares map, relative to the mean variance of the student's tokens [C]


def masked_mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean of `values` [b] over the examples whose `mask` [b] is non-zero; 0 where all are masked.

    A masked value contributes neither a NaN nor a gradient.
    """
    if mask is None:
        return values.mean()
    counted = mask.astype(bool)
    count = counted.sum(dtype=jnp.float32)
    return jnp.where(counted, values, 0).sum() / jnp.maximum(count, 1)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy [b], in nats, of `logits` [b, k] to soft targets `labels` [b, k] whose rows sum to one.

    `smoothing` s in [0, 1) mixes the targets with the uniform distribution: (1 - s) y + s / k
    (Szegedy et al. 2016, section 7).
    """
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(labels, smoothing))


def distillation_kl(student_logits: jax.Array, teacher_logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """tau^2 KL(softmax(teacher / tau) || softmax(student / tau)), [b], in nats; both logits are [b, k].

    tau^2 keeps the gradient's size independent of tau (Hinton et al. 2015). The teacher enters as log-probabilities,
    so an underflowed teacher probability gives neither a NaN value nor a NaN gradient.
    """
    student = jax.nn.log_softmax(student_logits / temperature)
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(student, teacher)


def covariance(
    student: jax.Array,
    teacher: jax.Array,
    *,
    form: str = "cross",
    centre: bool = False,
    scale: str = "none",
    average: Callable[[jax.Array], jax.Array] = lambda c: c,
) -> jax.Array:
    """Matches class tokens through a covariance matrix (KDFAS in docs/methods.md) -> [n], one value per stage pair.

    `student` [n, b, d_s] and `teacher` [n, b, d_t] are the class tokens of n pairs of stages over the global batch, of
    any two widths. Their rows are L2-normalised in fp32 into S and T; `centre` [C] then subtracts the batch mean.

    - `cross`: mean((T - S C)^2) over b x d_t with C = S^T T. C carries the student's space into the teacher's, so no
      projection head is learned; the gradient flows through C too (stated for HaTFAS, inferred for KDFAS). S C sums
      over the batch, so the value grows with it: `scale="batch"` [C] uses C / b.
    - `gram`: mean((S S^T - T T^T)^2) over b x b, the manifold-distillation reading [I], see `_gram_distance`. It does
      not grow with the batch and takes no `scale`.
    - `cka`: 1 - |S'^T T'|^2 / (|S'^T S'| |T'^T T'|) in Frobenius norms, with S' and T' centred: one minus the linear
      centred kernel alignment (Kornblith et al., ICML 2019) [C]. It lies in [0, 1] and depends on neither the batch
      nor the spread of the tokens, so it takes no `scale`, and `centre` changes nothing.
    - `regression`: |T' - S' C|^2 / |T'|^2 with the least-squares map C = (S'^T S' + r I)^-1 S'^T T', r = RIDGE of the
      mean variance of S', and S' and T' centred: the share of the teacher's variance that no linear map of the
      student's tokens explains [C]. It lies in [0, 1]. It says little where the batch has fewer rows than S columns.

    `average` [C] maps C [n, d_s, d_t] of `cross` or `regression` to the C that is used, such as a running mean over
    batches. With a C of other batches the value of `regression` may exceed 1.

    Raises ValueError for an unknown form or scale.
    """
    check_covariance(form, scale)
    s, t = _unit_rows(student), _unit_rows(teacher)
    if form == "gram":
        return _gram_distance(s, t, centre)
    if centre or form in ("cka", "regression"):
        s, t = (tokens - tokens.mean(axis=-2, keepdims=True) for tokens in (s, t))
    if form == "cka":
        norms = jnp.sqrt(_square(_covariance(s, s)) * _square(_covariance(t, t)) + 1e-30)  # equal tokens have no slope
        return 1 - _square(_covariance(s, t)) / norms
    if form == "regression":
        left = t - jnp.einsum("nbs,nst->nbt", s, average(_least_squares(s, t)), precision=jax.lax.Precision.HIGHEST)
        return _square(left) / (_square(t) + 1e-12)
    covariance_matrix = _covariance(s, t) / (s.shape[-2] if scale == "batch" else 1)
    residual = t - jnp.einsum("nbs,nst->nbt", s, average(covariance_matrix))
    return jnp.mean(residual**2, axis=(-2, -1))


def check_covariance(form: str, scale: str) -> None:
    """ValueError for an unknown form or scale of `covariance`."""
    if form not in FORMS or scale not in (("none", "batch") if form == "cross" else ("none",)):
        raise ValueError(
            f"covariance form={form!r}, scale={scale!r}: known are {', '.join(FORMS)}; scale batch for cross alone"
        )


def _gram_distance(s: jax.Array, t: jax.Array, centre: bool) -> jax.Array:
    """mean((S S^T - T T^T)^2) -> [n], computed from d x d matrices; no b x b array is formed.

    ||S S^T - T T^T||^2 = ||S^T S||^2 - 2 ||S^T T||^2 + ||T^T T||^2 cancels catastrophically where the class tokens are
    nearly equal, as they are early in training. So the means m are split off first, which is exact: with
    S = 1 m_s^T + S', delta = |m_s|^2 - |m_t|^2 and u = S' m_s - T' m_t, the distance is
    delta^2 + 2 mean(u^2) + mean((S' S'^T - T' T'^T)^2), and centring leaves the last part [C].

    `s` and `t` must have unit rows. A unit row s_i satisfies |m_s|^2 = 1 - mean |s'|^2 and
    s'_i m_s = (mean |s'|^2 - |s'_i|^2) / 2, so that delta and u follow from the small centred tokens without
    cancellation. Relative to float64, for 64 independent tokens with a relative spread of 1e-3 about their mean, the
    error of the value is below 2e-5 and that of the gradient below 1e-4.
    """
    b = s.shape[-2]
    s, t = (tokens - tokens.mean(axis=-2, keepdims=True) for tokens in (s, t))
    squares = _square(_covariance(s, s)) - 2 * _square(_covariance(s, t)) + _square(_covariance(t, t))
    if centre:
        return squares / b**2
    excess = jnp.sum(t**2, axis=-1) - jnp.sum(s**2, axis=-1)  # |t'_i|^2 - |s'_i|^2; its mean is delta
    delta = excess.mean(axis=-1, keepdims=True)
    u = (excess - delta) / 2
    return delta[..., 0] ** 2 + 2 * jnp.mean(u**2, axis=-1) + squares / b**2


def _least_squares(s: jax.Array, t: jax.Array) -> jax.Array:
    """The map [n, d_s, d_t] of the ridge regression of `t` on `s`, both centred."""
    own, shared = _covariance(s, s), _covariance(s, t)
    ridge = RIDGE * jnp.trace(own, axis1=-2, axis2=-1) / own.shape[-1] + 1e-12
    own = own + ridge[:, None, None] * jnp.eye(own.shape[-1])
    return jnp.linalg.solve(own, shared)


def _unit_rows(tokens: jax.Array) -> jax.Array:
    tokens = tokens.astype(jnp.float32)
    return tokens * jax.lax.rsqrt(jnp.maximum(jnp.sum(tokens**2, axis=-1, keepdims=True), 1e-12))


def _covariance(a: jax.Array, b: jax.Array) -> jax.Array:
    # Products in fp32, because the matrix unit's bf16 default would lose the small differences in `gram`.
    return jnp.einsum("nbs,nbt->nst", a, b, precision=jax.lax.Precision.HIGHEST)


def _square(matrices: jax.Array) -> jax.Array:
    return jnp.sum(matrices**2, axis=(-2, -1))


def arcface_logits(
    embedding: jax.Array, weights: jax.Array, labels: jax.Array, *, s: float = 64.0, m: float = 0.5
) -> jax.Array:
    """Logits [b, k], fp32, with an additive angular margin for a cross-entropy (ArcFace, Deng et al. 2019).

    `embedding` [b, d] and the class centres `weights` [k, d] are L2-normalised here; theta is the angle between the
    two. The logit of the true class, the integers `labels` [b], is s cos(theta + m), and of the other classes
    s cos(theta); a label outside [0, k) gets no margin. Scale `s` > 0, margin `m` in radians, in [0, pi / 2].

    Beyond theta = pi - m the cosine would rise again; there the true class's logit is s (cos(theta) - m sin(m)), which
    keeps falling [S, the authors' code]. The gradient is finite everywhere.

    theta is computed from its fp32 cosine, which cannot resolve an embedding that nearly coincides with its centre:
    the error of the true class's logit is at most 4e-4 s, and the gradient vanishes below theta = 1e-4; the relative
    error of the gradient is 10 % at 1e-3, 0.2 % at 0.01 and 2e-5 at 0.1 (measured against float64, d = 512). An exact
    form needs the centre of every example's class, which a device with a share of the classes does not hold; training
    stays far from such angles [C].
    """
    cos = jnp.einsum("bd,kd->bk", _unit_rows(embedding), _unit_rows(weights), precision=jax.lax.Precision.HIGHEST)
    sin = jnp.sqrt(jnp.maximum((1 - cos) * (1 + cos), 1e-12))  # the root's slope is infinite at zero
    margin = jnp.where(cos > -jnp.cos(m), cos * jnp.cos(m) - sin * jnp.sin(m), cos - m * jnp.sin(m))
    own = labels[:, None] == jnp.arange(weights.shape[0])
    return s * jnp.where(own, margin, cos)


def cosine_distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """One minus the cosine [b], in [0, 2], of two embeddings [b, d]; ValueError where their lengths differ."""
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"embedding: the student's has {student.shape[-1]} numbers, the teacher's {teacher.shape[-1]}; set "
            "config.model.embedding to the teacher's"
        )
    return 1 - jnp.sum(_unit_rows(student) * _unit_rows(teacher), axis=-1)


def align(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared distance [b], in [0, 4], of two feature maps whose positions are L2-normalised over channels [C].

    `student` [b, h, w, c], `teacher` [b, h', w', c]; the result is the mean over positions of |s - t|^2.
    The finer of two grids is first averaged over the cells of the coarser by area; a position that lies in two cells
    counts in each by its share. A map of one position, such as a class token, is compared with the mean of the other
    map. Raises ValueError where the channels differ; a 1x1 projector on the student makes them equal.
    """
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"align: the student's feature map has {student.shape[-1]} channels, the teacher's {teacher.shape[-1]}; "
            "project the student's to the teacher's"
        )
    grid = tuple(map(min, student.shape[1:3], teacher.shape[1:3]))
    student, teacher = (_area_average(x.astype(jnp.float32), grid) for x in (student, teacher))
    return jnp.sum((_unit_rows(student) - _unit_rows(teacher)) ** 2, axis=-1).mean(axis=(1, 2))


def _area_average(maps: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """`maps` [b, h, w, c] averaged by area over the cells of a coarser `grid` (h', w') -> [b, h', w', c]."""
    if maps.shape[1:3] == grid:
        return maps
    rows, columns = (_overlap(cells, size) for cells, size in zip(grid, maps.shape[1:3], strict=True))
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, maps, precision=jax.lax.Precision.HIGHEST)


def _overlap(cells: int, size: int) -> np.ndarray:
    """Returns the share of each of `cells` equal cells that each of `size` positions covers, fp32 [cells, size]."""
    edges = np.arange(cells + 1)[:, None] * size / cells
    position = np.arange(size)
    shared = np.minimum(edges[1:], position + 1) - np.maximum(edges[:-1], position)
    return (np.maximum(shared, 0) * cells / size).astype(np.float32)


def reverse_gradient(values: jax.Array, scale: jax.Array | float) -> jax.Array:
    """Returns `values` unchanged, and multiplies their gradient by -`scale` (Ganin and Lempitsky, ICML 2015)."""
    return (1 + scale) * jax.lax.stop_gradient(values) - scale * values


def wgan_critic(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Loss [b] of a Wasserstein critic: mean(fake) - mean(real) over its patches (Arjovsky et al. 2017).

    `real`, `fake` [b, ...]: the critic's values on real and generated images.
    """
    return _per_example(fake) - _per_example(real)


def wgan_generator(fake: jax.Array) -> jax.Array:
    """Loss [b] of a Wasserstein generator: minus the mean over patches of the critic's values `fake` [b, ...]."""
    return -_per_example(fake)


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, key: jax.Array, *, std: float = 1.0
) -> jax.Array:
    """(|gradient of the critic| - 1)^2, [b], between real and generated images (Gulrajani et al. 2017).

    `critic` maps images [b, h, w, c] to values [b, ...], each example independently. The gradient is of the sum over
    an example's patches [S, StarGAN's code], at a real + (1 - a) fake with a drawn from U(0, 1) once per example.
    The slope of 1 is per unit of the network's normalised input: `std` is the value by which the critic divides the
    images first, such as 0.5 for images in [0, 1]; 1 where it does not normalise.
    """
    a = jax.random.uniform(key, (len(real), 1, 1, 1))
    slope = std * jax.grad(lambda images: critic(images).sum())(a * real + (1 - a) * fake)
    # The gradient of the norm is 0 / 0 where the critic is flat; the constant keeps the root off zero [C].
    return (jnp.sqrt(jnp.sum(slope**2, axis=(1, 2, 3)) + 1e-12) - 1) ** 2


def attribute_cross_entropy(logits: jax.Array, attributes: jax.Array) -> jax.Array:
    """Binary cross-entropy [b], in nats, of attribute `logits` [b, k] to `attributes` [b, k] in [0, 1].

    Summed over attributes, as in StarGAN's code [S].
    """
    return optax.sigmoid_binary_cross_entropy(logits, attributes).sum(axis=-1)


def reconstruction(images: jax.Array, restored: jax.Array) -> jax.Array:
    """Mean absolute difference [b] of `images` and `restored` [b, h, w, c], in their unit.

    StarGAN's weight of 10 is for images in [-1, 1]; for images in [0, 1] the same difference is half as large.
    """
    return _per_example(jnp.abs(images - restored))


def _per_example(values: jax.Array) -> jax.Array:
    return values.reshape(len(values), -1).mean(axis=1)

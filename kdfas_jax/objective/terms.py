"""The kinds of terms that a loss is made of, except StarGAN's (`adversarial`).

A kind is a function whose keyword-only parameters are its options, or, where it has parameters that are trained with
the student or statistics that it keeps from batch to batch, a Flax module whose fields are its options. Parameters
named `student`, `teacher`, `batch` and `progress` are injected: the named outputs of the two models, the batch, and the
share of the run that is done. A kind returns its mean over the examples of the batch, an fp32 scalar. [S] marks what a
source states, [C] our own choice.

Adding a kind: write it here, on a formula in `losses`, and add one line to `weighted_sum.KINDS`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from kdfas_jax.models.records import Batch, Outputs, class_tokens
from kdfas_jax.objective import losses

STATISTICS = "statistics"  # the Flax collection of what a term keeps from batch to batch
FEATURES = ("stages", "patches", "features")  # what `Align` compares


def cross_entropy(student: Outputs, batch: Batch, *, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of the student's logits to the batch's labels [b, k]."""
    return losses.masked_mean(losses.cross_entropy(student["logits"], batch["label"], smoothing), batch.get("mask"))


def arcface(student: Outputs, batch: Batch, *, s: float = 64.0, m: float = 0.5) -> jax.Array:
    """ArcFace: cross-entropy of the cosines of embedding and class centres to the batch's `identity` [b].

    The cosines are scaled by `s`, with a margin of `m` radians on the example's class (`losses.arcface_logits`). Both
    defaults are the paper's [S]. ValueError for a student without class centres.
    """
    if "centres" not in student:
        raise ValueError("a term of kind 'arcface' needs class centres; give a face model config.model.classes > 0")
    own = batch["identity"]
    logits = losses.arcface_logits(student["embedding"], student["centres"], own, s=s, m=m)
    values = losses.cross_entropy(logits, jax.nn.one_hot(own, logits.shape[-1]))
    return losses.masked_mean(values, batch.get("mask"))


def kl(student: Outputs, batch: Batch, teacher: Outputs, *, temperature: float = 1.0) -> jax.Array:
    """KL divergence of the teacher's softened class distribution to the student's."""
    values = losses.distillation_kl(student["logits"], teacher["logits"], temperature)
    return losses.masked_mean(values, batch.get("mask"))


def embedding(student: Outputs, batch: Batch, teacher: Outputs) -> jax.Array:
    """One minus the cosine of the student's and the teacher's embedding."""
    values = losses.cosine_distance(student["embedding"], teacher["embedding"])
    return losses.masked_mean(values, batch.get("mask"))


class Covariance(nn.Module):
    """Class tokens matched through a covariance matrix, averaged over the stages (`losses.covariance`).

    The stage maps of a convolutional network, averaged over their positions, count as class tokens [C]. `stages` lists
    (student stage, teacher stage) pairs, counted from 1. Empty [C] means all stages, one to one, which needs equal
    depths. `form`, `centre` and `scale` as in `losses.covariance`.

    With `lift` > 0 the tokens of each student stage first pass a dense layer with `lift` channels, which is trained
    with the student and never exported [C]; 0 switches it off. The layer is linear, so that only its bias and the
    normalisation of the rows after it can raise the rank of the tokens. `cka` depends on the scalar products of the
    tokens and therefore changes with the layer, which frees the student's metric. `regression` is invariant under an
    invertible linear map of the tokens, up to the normalisation of the rows and the ridge, and changes little.

    With `momentum` m in (0, 1) the map C of `cross` or `regression` is its running mean over batches [C]: the mean of
    all batches until there are 1 / (1 - m) of them, from then on m times the old mean and 1 - m times C of the batch.
    The gradient flows through the share of the batch alone. ValueError for another form, which has no C.
    """

    form: str = "cross"
    centre: bool = False
    scale: str = "none"
    stages: tuple[tuple[int, int], ...] = ()
    lift: int = 0
    momentum: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        losses.check_covariance(self.form, self.scale)
        if self.momentum and self.form not in losses.MAPS:
            raise ValueError(
                f"config.terms: momentum={self.momentum} of a 'covariance' term of form {self.form!r}, which has no C "
                f"to average; expected form {' or '.join(losses.MAPS)}, or momentum=0"
            )

    @nn.compact
    def __call__(self, student, teacher):
        """Returns the mean over the stages."""
        mine, theirs = class_tokens(student), class_tokens(teacher)
        pairs = _pairs("covariance", self.stages, mine, theirs)
        options = {"form": self.form, "centre": self.centre, "scale": self.scale}
        if self.lift:
            mine = tuple(
                nn.Dense(self.lift, name=f"stage{i + 1}")(tokens) if i in pairs[:, 0] else tokens
                for i, tokens in enumerate(mine)
            )
        if isinstance(mine, tuple) or isinstance(theirs, tuple):  # stages of different widths
            each = [
                losses.covariance(mine[i][None], theirs[j][None], **options, average=self._average(f"{i + 1}_{j + 1}"))
                for i, j in pairs
            ]
            return jnp.concatenate(each).mean()
        if self.stages:  # without a list all stages are used, and no gather is needed
            mine, theirs = mine[pairs[:, 0]], theirs[pairs[:, 1]]
        return losses.covariance(mine, theirs, **options, average=self._average("all")).mean()

    def _average(self, stages: str) -> Callable[[jax.Array], jax.Array]:
        """Returns the function from C of a batch to the C that is used; a running mean is stored for these `stages`."""

        def average(c: jax.Array) -> jax.Array:
            if not self.momentum:
                return c
            mean = self.variable(STATISTICS, f"mean{stages}", jnp.zeros, c.shape)
            count = self.variable(STATISTICS, f"count{stages}", jnp.zeros, (), jnp.int32)
            if self.is_initializing():
                return c
            count.value += 1
            mean.value += jnp.maximum(1 - self.momentum, 1 / count.value) * (c - mean.value)
            return mean.value

        return average


def _pairs(kind: str, stages, mine, theirs) -> np.ndarray:
    """`stages` counted from 0, int [n, 2]; all stages one to one where it is empty. ValueError for a missing stage."""
    depths = (len(mine), len(theirs))
    if not stages and depths[0] != depths[1]:
        raise ValueError(f"{kind}: depths {depths} differ; set stages to (student stage, teacher stage) pairs")
    pairs = np.asarray(stages) - 1 if stages else np.repeat(np.arange(depths[0])[:, None], 2, axis=1)
    if (pairs < 0).any() or (pairs >= depths).any():
        raise ValueError(f"{kind}: stages {stages} must lie within 1..{depths[0]} and 1..{depths[1]}")
    return pairs


def feature_maps(out: Outputs, of: str = "stages") -> tuple[jax.Array, ...]:
    """A model's feature maps, [b, h, w, c] each.

    of: 'stages', of each stage, where a ViT's class tokens count as maps of one position [C]; 'patches', the same but
    for a ViT, whose one map are its patch tokens after the last block; 'features', the input of the head as one map of
    one position. ValueError for another name.
    """
    if of not in FEATURES:
        raise ValueError(f"config.terms: of={of!r} of an 'align' term; expected one of {', '.join(FEATURES)}")
    if of == "features":
        return (out["pre_logits"][:, None, None],)
    if "stages" in out:
        return out["stages"]
    tokens = tuple(token[:, None, None] for token in out["class_tokens"])
    return (out["patch_tokens"],) if of == "patches" else tokens


class Align(nn.Module):
    """Feature maps matched stage by stage through 1x1 projectors, averaged over the stages (`losses.align`) [C].

    The projectors carry the student's channels into the teacher's; they are trained with the student and never
    exported. `stages` as in `covariance`, and `of` as in `feature_maps`: with 'features' the term is twice one minus
    the cosine of the projected features and the teacher's.
    """

    stages: tuple[tuple[int, int], ...] = ()
    of: str = "stages"

    @nn.compact
    def __call__(self, student, batch, teacher):
        """Returns the mean over examples and stages."""
        mine, theirs = feature_maps(student, self.of), feature_maps(teacher, self.of)
        distances = [
            losses.align(nn.Dense(theirs[j].shape[-1], name=f"stage{i + 1}_{j + 1}")(mine[i]), theirs[j])
            for i, j in _pairs("align", self.stages, mine, theirs)
        ]
        return losses.masked_mean(sum(distances) / len(distances), batch.get("mask"))


class Truth(nn.Module):
    """Dense supervision by what a renderer knows: depth, instrument and its outline, from one of the student's maps.

    A light head, a 3x3 convolution of `hidden` channels and a 1x1 convolution, reads the feature map of `stage`,
    counted from 1. It is trained with the student and never exported. Depth as supervision: Liu, Jourabloo and Liu,
    CVPR 2018 (arXiv 1803.11097); the other two maps, and cross-entropy for all three, are our own choice [C].
    """

    stage: int = 3
    hidden: int = 32

    @nn.compact
    def __call__(self, student, batch):
        """Returns the mean cross-entropy of maps in [0, 1] to the batch's `truth`, resized to the feature map."""
        maps = student.get("stages", ())
        if not 1 <= self.stage <= len(maps):
            raise ValueError(f"a term of kind 'truth' needs a feature map {self.stage}; the student has {len(maps)}")
        x = nn.relu(nn.Conv(self.hidden, (3, 3), name="hidden")(maps[self.stage - 1]))
        logits = nn.Conv(3, (1, 1), name="head")(x)
        truth = jax.image.resize(batch["truth"].astype(jnp.float32) / 255, logits.shape, "linear")
        values = optax.sigmoid_binary_cross_entropy(logits, truth).mean((1, 2, 3))
        return losses.masked_mean(values, batch.get("mask"))


class Spectrum(nn.Module):
    """Auxiliary supervision by the spectrum of the image that the student reads, from one of its feature maps.

    The repeated patterns of prints and displays are peaks in a spectrum. A light head as `Truth`'s, never exported,
    predicts the log-magnitude of the Fourier transform of the grey image, with zero frequency in the middle. As
    Silent-Face-Anti-Spoofing (Minivision, 2020) does [S]; its standardisation and the size of the head are [C].
    """

    stage: int = 3
    hidden: int = 32

    @nn.compact
    def __call__(self, student, batch):
        """Returns the mean squared error to the standardised log-spectrum of the batch's `image`."""
        maps = student.get("stages", ())
        if not 1 <= self.stage <= len(maps):
            raise ValueError(f"a term of kind 'spectrum' needs a feature map {self.stage}; the student has {len(maps)}")
        x = nn.relu(nn.Conv(self.hidden, (3, 3), name="hidden")(maps[self.stage - 1]))
        found = nn.Conv(1, (1, 1), name="head")(x)[..., 0]
        grey = batch["image"].astype(jnp.float32).mean(-1) / 255
        size = jnp.log1p(jnp.abs(jnp.fft.fftshift(jnp.fft.fft2(grey), axes=(1, 2))))
        size = jax.image.resize(size, found.shape, "linear")
        wanted = (size - size.mean((1, 2), keepdims=True)) / (size.std((1, 2), keepdims=True) + 1e-6)
        return losses.masked_mean(((found - jax.lax.stop_gradient(wanted)) ** 2).mean((1, 2)), batch.get("mask"))


class DomainAdversary(nn.Module):
    """Domain-adversarial training (DAT; Ganin and Lempitsky, ICML 2015), which DAA claims to replace.

    A head with one hidden layer [C] learns the domain from the input of the student's head (`pre_logits`). The
    gradient that reaches the student is reversed and scaled by 2 / (1 + exp(-gamma progress)) - 1 [S], which rises
    from 0 to 1 over the run.
    """

    domains: int
    hidden: int = 128
    gamma: float = 10.0

    @nn.compact
    def __call__(self, student, batch, progress):
        """Returns the mean cross-entropy of the head to the batch's `domain`."""
        scale = 2 / (1 + jnp.exp(-self.gamma * progress)) - 1
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(losses.reverse_gradient(student["pre_logits"], scale)))
        logits = nn.Dense(self.domains, name="head")(hidden)
        own = jax.nn.one_hot(batch["domain"], self.domains)
        return losses.masked_mean(losses.cross_entropy(logits, own), batch.get("mask"))

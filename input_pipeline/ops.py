"""Decoding and augmentation of one example or one batch, as TensorFlow graph functions.

Every random choice is a pure function of a key (two int32): the same key gives the same pixels, so a stream that is
rebuilt from its seed goes on identically. The random image operations are Keras layers; they draw through
`KeyedSeeds`, which answers from the key instead of a counter variable. Images are float32 [h, w, 3] in 0..255 here.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import tensorflow as tf

VALUE_RANGE = (0, 255)
ERASED_AREA = (0.02, 0.33)  # share of the image, each side drawn on its own (Zhong et al. 2020)


class KeyedSeeds(keras.random.SeedGenerator):
    """A seed generator without state: draw n of `key` is `fold_in(key, n)`."""

    def __init__(self, key: tf.Tensor):
        self._key, self._draws = key, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """The next seed, int32 [2]; `ordered` has no meaning here."""
        del ordered
        self._draws += 1
        return tf.random.experimental.stateless_fold_in(self._key, self._draws)


def example_key(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The key of example `index` in `epoch` of the run with `seed`."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int32), epoch)
    return tf.random.experimental.stateless_fold_in(key, index)


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """JPEG bytes of a square crop -> float32 [size, size, 3]; antialiased where it shrinks."""
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.ensure_shape(image, (size, size, 3))


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Rounded and clipped to 0..255: a quarter of the bytes on the way to the device."""
    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)


class Augmentation:
    """The random view of a training example, as `config` (data.augment) says.

    - `crop` a in (0, 1]: a random crop of area a..1 and aspect 3/4..4/3, resized back; 1 switches it off.
    - `flip`: a mirror image half of the time.
    - `colour` s: brightness moved by up to s / 2, contrast and saturation by up to s.
    - `randaugment` {ops, magnitude}: that many random operations at magnitude 0..10 (Cubuk et al. 2020).
    - `erasing` p: with probability p a rectangle is filled with noise (Zhong et al. 2020).
    - `mixup`, `cutmix`: the alphas of their Beta distributions; 0 is off.
    """

    def __init__(self, config):
        """Builds the layers: Keras makes variables for its own counters, which no graph function may do."""
        self._config = config
        self._colour = _colour_layers(config.colour) if config.colour else ()
        self._operations = _rand_augment_layers(config.randaugment.magnitude / 10)
        p = config.erasing
        erasing = keras.layers.RandomErasing((p, p), scale=ERASED_AREA, value_range=VALUE_RANGE, dtype="float32")
        self._erasing = (erasing,) if p else ()
        mixup = (keras.layers.MixUp(config.mixup, dtype="float32"),) if config.mixup else ()
        cutmix = (keras.layers.CutMix((config.cutmix,) * 2, dtype="float32"),) if config.cutmix else ()
        self._mixing = mixup + cutmix

    def view(self, image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """One random view [h, w, 3] of an image, a pure function of both arguments."""
        seeds = KeyedSeeds(key)
        if self._config.crop < 1:
            image = _random_crop(image, self._config.crop, seeds.next())
        if self._config.flip:
            image = tf.image.stateless_random_flip_left_right(image, seeds.next())
        for layer in self._colour:
            image = _apply(layer, image, seeds)
        for _ in range(self._config.randaugment.ops):
            image = self._random_operation(image, seeds)
        for layer in self._erasing:
            image = _apply(layer, image, seeds)
        return image

    def mix(self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixup or cutmix of a batch, by a fair coin where both are on (the DeiT recipe).

        `images` [b, h, w, 3], `labels` [b, k] one-hot -> the mixed images and soft labels.
        """
        if not self._mixing:
            return images, labels
        seeds = KeyedSeeds(key)
        coin = tf.random.stateless_uniform((), seeds.next())

        def mixed(layer):
            drawn = layer.get_random_transformation({"images": images}, seed=seeds)
            return layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)

        return tf.cond(coin < 0.5, lambda: mixed(self._mixing[0]), lambda: mixed(self._mixing[-1]))

    def _random_operation(self, image: tf.Tensor, seeds: KeyedSeeds) -> tf.Tensor:
        # Keras' own RandAugment layer computes every operation and keeps one; a switch computes the one drawn.
        choice = tf.random.stateless_uniform((), seeds.next(), maxval=len(self._operations), dtype=tf.int32)
        return tf.switch_case(choice, [lambda layer=layer: _apply(layer, image, seeds) for layer in self._operations])


def _apply(layer, image: tf.Tensor, seeds: KeyedSeeds) -> tf.Tensor:
    batch = image[None]
    drawn = layer.get_random_transformation(batch, training=True, seed=seeds)
    return tf.ensure_shape(layer.transform_images(batch, drawn)[0], image.shape)


def _random_crop(image: tf.Tensor, area: float, seed: tf.Tensor) -> tf.Tensor:
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(area, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.ensure_shape(tf.image.resize(tf.slice(image, begin, size), image.shape[:2]), image.shape)


def _colour_layers(strength: float):
    ranged = {"value_range": VALUE_RANGE, "dtype": "float32"}
    return (
        keras.layers.RandomBrightness(strength / 2, **ranged),
        keras.layers.RandomContrast(strength, **ranged),
        keras.layers.RandomColorDegeneration(strength, **ranged),
    )


def _rand_augment_layers(m: float):
    """Keras layers with timm's ranges at magnitude m in 0..1: m9 shears by 0.27 and rotates by 27 degrees."""
    ranged = {"value_range": VALUE_RANGE, "dtype": "float32"}
    fill = {"fill_mode": "constant", "fill_value": 128.0, "dtype": "float32"}
    return (
        keras.layers.RandomShear(x_factor=0.3 * m, y_factor=0.0, **fill),
        keras.layers.RandomShear(x_factor=0.0, y_factor=0.3 * m, **fill),
        keras.layers.RandomTranslation(height_factor=0.0, width_factor=0.45 * m, **fill),
        keras.layers.RandomTranslation(height_factor=0.45 * m, width_factor=0.0, **fill),
        keras.layers.RandomRotation(factor=30 / 360 * m, **fill),
        keras.layers.RandomBrightness(0.45 * m, **ranged),
        keras.layers.RandomContrast(0.9 * m, **ranged),
        keras.layers.RandomColorDegeneration(0.9 * m, **ranged),
        keras.layers.RandomSharpness((0.5 - 0.45 * m, 0.5 + 0.45 * m), **ranged),
        keras.layers.RandomPosterization(8 - round(4 * m), **ranged),
        keras.layers.Solarization(threshold_factor=(1 - m, 1.0), **ranged),
        keras.layers.AutoContrast(**ranged),
        keras.layers.Equalization(**ranged),
    )

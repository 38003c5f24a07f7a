from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import ops, pipeline

KEY = ops.example_key(0, tf.constant(3, tf.int64), tf.constant(11, tf.int64))
LIGHT = {"randaugment": {"ops": 0, "magnitude": 9}, "mixup": 0.0, "cutmix": 0.0}
FULL = {"crop": 0.5, "flip": True, "colour": 0.3, "erasing": 1.0, "mixup": 0.8, "cutmix": 1.0}


def augmentation(config, **changes):
    config.data.augment.update(changes)
    return ops.Augmentation(config.data.augment)


def batches(data, config, start, steps, **options):
    return list(pipeline.train_batches(data, config.data, batch_size=16, seed=5, start=start, steps=steps, **options))


@pytest.fixture
def data(tiny):
    return pipeline.open_data(tiny.data)


def test_the_stream_is_a_function_of_seed_and_step(tiny, data):
    """Rebuilt at any step it goes on identically, across epochs (3 steps each), mixing and RandAugment included."""
    whole = batches(data, tiny, 0, 8)
    resumed = batches(data, tiny, 4, 8)
    assert len(whole) == 8
    assert len(resumed) == 4
    for one, other in zip(whole[4:], resumed, strict=True):
        for name in ("image", "label", "index"):
            np.testing.assert_array_equal(one[name], other[name])


def test_every_epoch_is_a_new_order_of_the_training_examples(tiny, data):
    tiny.data.augment.update(LIGHT)
    first, second = batches(data, tiny, 0, 3), batches(data, tiny, 3, 6)
    orders = [np.concatenate([batch["index"] for batch in epoch]) for epoch in (first, second)]
    wanted = np.flatnonzero(data.has_face("train"))
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), wanted)
    assert (orders[0] != orders[1]).any()


def test_an_example_gets_a_new_view_in_every_epoch(tiny, data):
    tiny.data.augment.update(LIGHT)
    views = [
        {
            i: image
            for batch in batches(data, tiny, start, start + 3)
            for i, image in zip(batch["index"], batch["image"], strict=True)
        }
        for start in (0, 3)
    ]
    assert sum((views[0][i] != views[1][i]).any() for i in views[0]) > len(views[0]) // 2


def test_labels_are_the_tables(tiny, data):
    tiny.data.augment.update(LIGHT)
    for batch in batches(data, tiny, 0, 3):
        live = data.table["label"].to_numpy()[batch["index"]]
        np.testing.assert_array_equal(batch["label"], np.stack([1 - live, live], axis=1))


def test_two_hosts_share_the_batch_of_one(tiny, data):
    tiny.data.augment.update(LIGHT)
    one = batches(data, tiny, 0, 3)
    hosts = [batches(data, tiny, 0, 3, shard=(host, 2)) for host in (0, 1)]
    for whole, *parts in zip(one, *hosts, strict=True):
        assert [len(part["index"]) for part in parts] == [8, 8]
        images = {i: image for part in parts for i, image in zip(part["index"], part["image"], strict=True)}
        assert set(images) == set(whole["index"])
        for i, image in zip(whole["index"], whole["image"], strict=True):
            np.testing.assert_array_equal(images[i], image)


@pytest.mark.parametrize("hosts", [1, 2])
def test_the_test_stream_shows_every_example_once_and_pads(tiny, data, hosts):
    shards = [
        list(pipeline.test_batches(data, "dev", tiny.data, batch_size=20, shard=(host, hosts))) for host in range(hosts)
    ]
    assert {len(shard) for shard in shards} == {3}  # 48 examples, 20 a step: the same number of steps on every host
    rows = [batch for shard in shards for batch in shard]
    assert {batch["image"].shape for batch in rows} == {(20 // hosts, 16, 16, 3)}
    seen = np.concatenate([batch["index"][batch["mask"] > 0] for batch in rows])
    np.testing.assert_array_equal(np.sort(seen), np.flatnonzero(data.has_face("dev")))


def test_a_video_without_a_face_is_a_non_response(data):
    table = data.table.copy()
    lost = table.index[table["role"] == "test"][:2]
    table.loc[lost, "found"] = False
    assert data._replace(table=table).non_responses("test") == 2
    assert data._replace(table=table).count("test") == data.count("test") - 2


def test_a_protocol_that_selects_nothing_is_refused(tiny):
    tiny.data.protocol = "subjects"
    tiny.data.subjects = {"train": "1-2"}
    with pytest.raises(ValueError, match="subjects"):
        pipeline.open_data(tiny.data)


def test_damaged_records_are_named(tiny, data, tmp_path):
    tiny.data.augment.update(LIGHT)
    damaged = tmp_path / "damaged.tfrecord"
    bytes_ = bytearray(Path(data.prepared.files[0]).read_bytes())
    bytes_[len(bytes_) // 2] ^= 0xFF
    damaged.write_bytes(bytes_)
    broken = data._replace(prepared=data.prepared.__class__(**{**vars(data.prepared), "files": [str(damaged)]}))
    with pytest.raises(ValueError, match=r"damaged.tfrecord: .*prepare again"):
        batches(broken, tiny, 0, 3)


def test_a_corrupt_image_among_the_records_is_named(tiny, data, tmp_path):
    tiny.data.augment.update(LIGHT)
    records = list(tf.data.TFRecordDataset(data.prepared.files).as_numpy_iterator())
    example = tf.train.Example.FromString(records[7])
    image = example.features.feature["image"].bytes_list.value
    image[0] = image[0][:40]
    path = str(tmp_path / "corrupt.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for number, record in enumerate(records):
            writer.write(example.SerializeToString() if number == 7 else record)
    broken = data._replace(prepared=data.prepared.__class__(**{**vars(data.prepared), "files": [path]}))
    with pytest.raises(ValueError, match=r"corrupt.tfrecord: record 7 is not the one.*prepare again"):
        batches(broken, tiny, 0, 3)


def test_views_are_a_function_of_the_key(tiny):
    image = tf.random.stateless_uniform((16, 16, 3), (1, 2), 0, 255)
    view = tf.function(augmentation(tiny, **FULL).view)
    other = ops.example_key(0, tf.constant(4, tf.int64), tf.constant(11, tf.int64))
    np.testing.assert_array_equal(view(image, KEY), view(image, KEY))
    assert (view(image, KEY) != view(image, other)).numpy().any()


def test_everything_off_leaves_the_image_alone(tiny):
    off = {"crop": 1.0, "flip": False, "colour": 0.0, "erasing": 0.0, "randaugment": {"ops": 0, "magnitude": 9}}
    image = tf.random.stateless_uniform((16, 16, 3), (1, 2), 0, 255)
    np.testing.assert_array_equal(augmentation(tiny, **off).view(image, KEY), image)


def test_every_rand_augment_operation_changes_the_image_within_its_range():
    """A smooth ramp, so that a shift, a tone change and a filter are all visible."""
    ramp = np.linspace(20, 235, 32)
    image = tf.constant(
        np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, 0.5 * (ramp[:, None] + ramp)], -1), tf.float32
    )
    changed = {}
    for layer in ops._rand_augment_layers(0.9):
        seen = [
            ops._apply(layer, image, ops.KeyedSeeds(ops.example_key(0, tf.constant(k, tf.int64), KEY[0])))
            for k in range(6)
        ]
        assert all(x.numpy().min() >= 0 and x.numpy().max() <= 255 for x in seen), layer.name
        changed[layer.name] = max(float(np.abs(x - image).mean()) for x in seen)
    flat = [name for name, difference in changed.items() if difference < 0.2]
    assert not flat, changed


def test_erasing_covers_the_stated_share(tiny):
    layer = augmentation(tiny, erasing=1.0)._erasing[0]
    black = tf.fill((64, 64, 3), -1.0)
    shares = []
    for k in range(40):
        erased = ops._apply(layer, black, ops.KeyedSeeds(ops.example_key(0, tf.constant(k, tf.int64), KEY[0])))
        shares.append(float((erased.numpy() >= 0).all(-1).mean()))
    assert min(shares) > 0.01
    assert max(shares) < 0.34


def test_mixing_keeps_label_rows_summing_to_one_and_matches_the_images(tiny):
    """Live images are white, attacks black: a mixed image's brightness is its label."""
    labels = tf.one_hot([0, 1, 1, 0, 1, 0, 0, 1], 2)
    images = tf.ones((8, 16, 16, 3)) * labels[:, 1][:, None, None, None] * 255
    for options in ({"mixup": 0.8, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        mixed, soft = augmentation(tiny, **options).mix(images, labels, KEY)
        np.testing.assert_allclose(tf.reduce_sum(soft, 1), 1, atol=1e-5)
        brightness = tf.reduce_mean(mixed, (1, 2, 3)) / 255
        np.testing.assert_allclose(brightness, soft[:, 1], atol=0.13)  # cutmix cuts whole pixels: 1 / 8 of 16 at most
        assert np.abs(soft - labels).max() > 0.05


def test_to_uint8_rounds_and_clips():
    np.testing.assert_array_equal(ops.to_uint8(tf.constant([-3.0, 0.5, 1.5, 254.6, 300.0])), [0, 0, 2, 255, 255])

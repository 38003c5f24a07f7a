"""The streams: pure in seed and step, the same on any number of hosts, balanced, every test example once. 15 s."""

import dataclasses
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from input_pipeline.datasets import simulated
from input_pipeline.prepare import records
from input_pipeline.select import protocols
from input_pipeline.select.examples import Data, attributes, domain_classes, identity_classes
from input_pipeline.simulate import scene
from input_pipeline.stream import pieces as stream
from input_pipeline.stream import pipeline
from kdfas_jax import targets

LIGHT = {"randaugment": {"ops": 0, "magnitude": 9}, "mixup": 0.0, "cutmix": 0.0}


def batches(data, config, start, steps, **options):
    return list(
        pipeline.train_batches(
            data,
            config.data,
            targets.get(config.data.target),
            batch_size=16,
            seed=5,
            start=start,
            steps=steps,
            **options,
        )
    )


@pytest.fixture
def data(tiny):
    return pipeline.open_data(tiny.data, targets.get(tiny.data.target))


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


def test_an_example_drawn_twice_in_an_epoch_gets_two_views(tiny, data):
    """Balanced, the five examples of a small domain are drawn again and again; each draw has a view of its own."""
    tiny.data.augment.update(LIGHT)
    tiny.data.balance = "domain"
    data.table.loc[np.flatnonzero(data.has_face("train"))[:5], "domain"] = "elsewhere"
    views = {}
    for batch in batches(data, tiny, 0, 3):
        for row, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            views.setdefault(row, []).append(image.tobytes())
    repeated = [seen for seen in views.values() if len(seen) > 1]
    assert sum(map(len, repeated)) >= 20
    assert all(len(set(seen)) == len(seen) for seen in repeated)


def test_labels_are_the_tables_and_zeros_where_unknown(tiny, data):
    tiny.data.augment.update(LIGHT)
    data.table.loc[data.table.index % 5 == 0, "label"] = -1
    for batch in batches(data, tiny, 0, 3):
        known = data.table["label"].to_numpy()[batch["index"]]
        np.testing.assert_array_equal(batch["label"], np.stack([known == 0, known == 1], axis=1))


def test_labels_say_who_it_is_or_which_domain_where_that_is_the_target(tiny, data):
    tiny.data.augment.update(LIGHT)
    train = np.flatnonzero(data.has_face("train"))
    data.table.loc[train[1::2], "domain"] = "elsewhere"
    for target, column in (("identity", "subject"), ("domain", "domain")):
        tiny.data.target = target
        names, of = (identity_classes if target == "identity" else domain_classes)(data)
        assert names == sorted(names)
        assert [name.removeprefix("folder/") for name in names] == sorted(set(data.table[column][train]))
        assert len(names) == (8 if target == "identity" else 2)
        for batch in batches(data, tiny, 0, 3):
            own = batch["identity"] if target == "identity" else batch["label"].argmax(1)
            np.testing.assert_array_equal(own, of[batch["index"]])
            rows, known = data.table.iloc[batch["index"]], own >= 0
            assert (known == (rows["label"] == 1)).all() if target == "identity" else known.all()  # attacks are nobody
            shown = [names[number].removeprefix("folder/") for number in own[known]]
            assert shown == rows[column][known].tolist()
            assert set(batch) == {"image", "index", "identity" if target == "identity" else "label"}
            if target == "domain":
                np.testing.assert_array_equal(batch["label"].sum(1), np.ones(16))
                assert batch["label"].shape == (16, len(names))
    assert (identity_classes(data)[1][data.has_face("dev")] == -1).all()


def with_attributes(data, *names):
    """`data` whose training rows are all Male=0 or 1 by turns and Young=1, which asks for `names`."""
    train = np.flatnonzero(data.has_face("train"))
    said = pd.Series("", index=data.table.index)
    said[train] = [f"Male={place % 2};Mouth_Slightly_Open=0;Young=1" for place in range(len(train))]
    return data._replace(table=data.table.assign(attributes=said), attributes=names)


def test_labels_say_which_attributes_a_face_has_in_the_order_asked_for(tiny, data):
    tiny.data.augment.update(LIGHT)
    tiny.data.target = "attributes"
    data = with_attributes(data, "Young", "Male")
    values = attributes(data)
    assert np.isnan(values[data.has_face("test")]).all()
    train = np.flatnonzero(data.has_face("train"))
    np.testing.assert_array_equal(values[train], np.stack([np.ones(len(train)), np.arange(len(train)) % 2], axis=1))
    for batch in batches(data, tiny, 0, 3):
        np.testing.assert_array_equal(batch["label"], values[batch["index"]])
        assert batch["label"].dtype == np.float32
    targets.get("attributes").check_classes(data, 2)
    with pytest.raises(ValueError, match=r"classes=5, but target 'attributes' has 2 classes"):
        targets.get("attributes").check_classes(data, 5)


def test_an_attribute_that_the_data_do_not_know_is_refused(tiny, data, monkeypatch):
    tiny.data.update({"target": "attributes", "attributes": ("Male",)})
    with pytest.raises(ValueError, match=r"attributes=\('Male',\): expected .* that the data know: none"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    table = with_attributes(data).table
    monkeypatch.setattr(pipeline, "prepared_sets", lambda _: [records.Prepared("", data.files, table, "")])
    assert pipeline.open_data(tiny.data, targets.get(tiny.data.target)).attributes == ("Male",)
    for wrong in ((), ("Male", "Old")):
        tiny.data.attributes = wrong
        with pytest.raises(ValueError, match=r"that the data know: Male, Mouth_Slightly_Open, Young"):
            pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    table.loc[np.flatnonzero(data.has_face("train"))[:2], "attributes"] = "Young=1"
    tiny.data.attributes = ("Young", "Male")
    with pytest.raises(ValueError, match=r"2 of 48 training examples have no value of one of them \(from folder\)"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))


@pytest.mark.parametrize("hosts", [1, 2])
def test_batches_labelled_live_or_attack_carry_the_domain_of_each_row(tiny, data, hosts):
    """Mixing is on; a domain that nobody trains on is not counted."""
    train = np.flatnonzero(data.has_face("train"))
    data.table.loc[train[::3], "domain"] = "another"
    data.table.loc[data.has_face("test"), "domain"] = "a domain before them all"
    for host in range(hosts):
        for batch in batches(data, tiny, 0, 3, shard=(host, hosts)):
            names = np.array(["another", "folder"])[batch["domain"]]
            assert names.tolist() == data.table["domain"][batch["index"]].tolist()
            assert batch["domain"].dtype == np.int32


@pytest.mark.parametrize(("target", "number"), [("label", 2), ("identity", 8), ("domain", 1)])
def test_a_model_needs_as_many_classes_as_the_target_has(data, target, number):
    targets.get(target).check_classes(data, number)
    with pytest.raises(ValueError, match=rf"classes={number + 1}, but target '{target}' has {number} classes"):
        targets.get(target).check_classes(data, number + 1)


def test_a_target_that_is_unknown_or_cannot_be_attacked_is_refused(tiny, data):
    tiny.data.target = "identity"
    tiny.data.attack.recapture = 0.5
    with pytest.raises(ValueError, match=r"data\.attack makes attacks for target 'label', not 'identity'"):
        batches(data, tiny, 0, 1)
    tiny.data.target = "colour"
    with pytest.raises(
        ValueError, match=r"target='colour' is unknown; known: label, identity, label\+identity, domain"
    ):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))


def test_faces_of_unknown_liveness_train_recognition_alone_and_unsplit_sets_are_split_by_person(tiny, monkeypatch):
    rows = [(f"p{person:02d}", picture) for person in range(23) for picture in range(2)]
    table = pd.DataFrame(rows, columns=["subject", "frame"])
    table = table.assign(
        dataset="identity", domain="lfw", split="", lists="", species="", label=-1, video="", found=True, file=0
    )
    split = table.assign(dataset="other", split="train")
    prepared = [records.Prepared("", ["a"], part, "") for part in (table, split)]
    monkeypatch.setattr(pipeline, "prepared_sets", lambda config: prepared)
    tiny.data.target = "identity"
    found = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    roles = found.table.groupby(["dataset", "subject"])["role"].agg(["first", "nunique"])
    assert (roles["nunique"] == 1).all()
    assert roles.loc["other", "first"].eq("train").all()
    people = roles.loc["identity", "first"]
    assert people.value_counts().to_dict() == {"train": 19, "dev": 2, "test": 2}
    assert people[["p08", "p18", "p09", "p19"]].tolist() == ["dev", "dev", "test", "test"]
    assert (found.table["label"] == -1).all()  # as it was
    assert len(identity_classes(found)[0]) == 19 + 23
    tiny.data.target = "label"
    with pytest.raises(ValueError, match="selects no train example"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))


@pytest.mark.parametrize("piece", [4, 6, 16])
def test_two_hosts_make_the_batch_of_one(tiny, data, monkeypatch, piece):
    """Row by row, with mixup and cutmix on, however a host cuts its rows into pieces."""
    one = batches(data, tiny, 0, 3)
    monkeypatch.setattr(stream, "PIECE", piece)
    hosts = [batches(data, tiny, 0, 3, shard=(host, 2)) for host in (0, 1)]
    for whole, *parts in zip(one, *hosts, strict=True):
        assert [len(part["index"]) for part in parts] == [8, 8]
        for name in ("image", "label", "index"):
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_attacks_are_told_the_place_of_a_hosts_rows_in_the_batch(tiny, data, monkeypatch):
    told = []

    def simulate(rows, step, first):
        told.append((step, first, len(rows["index"])))
        return rows

    monkeypatch.setattr(stream, "PIECE", 6)
    monkeypatch.setattr(pipeline.attacked, "simulator", lambda config, seed: {5: simulate}[seed])
    batches(data, tiny, 0, 2, shard=(1, 2))
    assert sorted(told) == [(0, 8, 6), (0, 14, 2), (1, 8, 6), (1, 14, 2)]


def test_the_end_of_the_process_waits_for_the_workers(monkeypatch):
    """A stream is not read to its end; a worker that needs the interpreter later would abort the process."""
    running, made, ends = [], [], []
    monkeypatch.setattr(stream.atexit, "register", ends.append)

    def piece(step, first, last):
        running.append(step)
        time.sleep(0.05)
        made.append(running.pop())
        return {"index": np.arange(first, last), "mask": np.ones(last - first)}

    batch = next(batches := stream.batches(piece, piece(0, 0, 0), (0, 1000), 4, (0, 1)))
    assert batch["index"].tolist() == [0, 1, 2, 3]
    (end,) = (end for end in ends if end.__module__ == stream.__name__)
    end()
    number = len(made)
    assert running == []
    time.sleep(0.2)
    assert len(made) == number < 1000
    batches.close()


@pytest.mark.slow
@pytest.mark.parametrize("recapture", [0.0, 0.5])
def test_worker_processes_and_threads_give_the_same_batches(tiny, data, recapture):
    """With mixing, from the middle of an epoch on, for the second of two hosts; no process outlives its stream."""
    tiny.data.update({"image_size": 32, "attack": {"recapture": recapture}})
    threads = batches(data, tiny, 4, 8, shard=(1, 2))
    tiny.data.workers = 2
    stream = pipeline.train_batches(
        data, tiny.data, targets.LABEL, batch_size=16, seed=5, start=4, steps=8, shard=(1, 2)
    )
    made = [next(stream)]
    assert len(multiprocessing.active_children()) == 2
    made += stream
    assert multiprocessing.active_children() == []
    for ours, theirs in zip(threads, made, strict=True):
        assert list(ours) == list(theirs)
        for name, array in ours.items():
            np.testing.assert_array_equal(theirs[name], array)
            assert theirs[name].dtype == array.dtype


def test_an_epoch_draws_every_example_of_a_group_before_any_twice():
    groups = [np.arange(3), np.arange(100, 140), np.array([7])]
    order = pipeline.epoch_order(groups, 32, np.random.default_rng(0))
    assert len(order) == 32
    counts = [np.bincount(order, minlength=140)[group] for group in groups]
    assert sorted(count.sum() for count in counts) == [10, 11, 11]
    assert all(np.ptp(count) <= 1 for count in counts)


@pytest.mark.parametrize("balance", ["label", "domain+label"])
def test_balanced_groups_get_equal_shares_of_an_epoch(tiny, data, balance):
    tiny.data.augment.update(LIGHT)
    tiny.data.balance = balance
    train = np.flatnonzero(data.has_face("train"))
    data.table.loc[train[5:], "domain"] = "elsewhere"  # 5 examples here, all live
    drawn = np.concatenate([batch["index"] for batch in batches(data, tiny, 0, 3)])
    shares = data.table.loc[drawn].groupby(balance.split("+")).size()
    assert len(shares) == (2 if balance == "label" else 3)
    assert set(shares) == ({24} if balance == "label" else {16})
    tiny.data.balance = "colour"
    with pytest.raises(ValueError, match=r"balance='colour': no column \['colour'\]; known: dataset, domain"):
        batches(data, tiny, 0, 1)


@pytest.mark.parametrize("hosts", [1, 2])
def test_the_test_stream_shows_every_example_once_and_pads(tiny, data, hosts):
    shards = [
        list(pipeline.test_batches(data, data.rows("dev"), tiny.data, batch_size=20, shard=(host, hosts)))
        for host in range(hosts)
    ]
    assert {len(shard) for shard in shards} == {3}  # 48 examples, 20 a step: the same number of steps on every host
    rows = [batch for shard in shards for batch in shard]
    assert {batch["image"].shape for batch in rows} == {(20 // hosts, 16, 16, 3)}
    assert all((batch["image"][batch["mask"] == 0] == 0).all() for batch in rows)
    seen = np.concatenate([batch["index"][batch["mask"] > 0] for batch in rows])
    np.testing.assert_array_equal(np.sort(seen), np.flatnonzero(data.has_face("dev")))


def test_a_test_stream_is_of_the_rows_that_it_is_given(tiny, data):
    """Of whatever role, in the order asked for."""
    rows = np.concatenate([data.rows("test")[5:2:-1], data.rows("train")[:2]])
    (batch,) = pipeline.test_batches(data, rows, tiny.data, batch_size=5, shard=(0, 1))
    assert batch["index"].tolist() == rows.tolist()


def test_rows_of_presentations_are_those_of_known_liveness(data):
    dev = data.rows("dev")
    data.table.loc[dev[:3], "label"] = -1
    assert data.rows("dev", presentations=True).tolist() == dev[3:].tolist()
    unseen = data._replace(table=data.table.assign(found=False))
    videos = data.table.iloc[dev].groupby(["dataset", "video"])["label"].max()
    assert unseen.non_responses("dev") == len(videos)
    assert unseen.non_responses("dev", presentations=True) == (videos >= 0).sum()


def test_a_video_without_a_face_is_a_non_response(data):
    table = data.table.copy()
    lost = table.index[table["role"] == "test"][:2]
    table.loc[lost, "found"] = False
    assert data._replace(table=table).non_responses("test") == 2
    assert data._replace(table=table).count("test") == data.count("test") - 2


def test_missing_files_are_counted_by_the_role_that_they_would_have(tiny, data, monkeypatch):
    """None of them changes the role of another row; records of an earlier version do not know which they are."""
    lost = [*np.flatnonzero(data.has_face("test"))[:3], *np.flatnonzero(data.has_face("train"))[:2]]
    missing = data.table.iloc[lost].drop(columns="role").assign(reason=["absent", *["corrupt"] * 2, *["absent"] * 2])
    known = records.Prepared("", data.files, data.table.drop(columns="role"), "", missing)
    monkeypatch.setattr(pipeline, "prepared_sets", lambda _: [known])
    found = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    assert found.missing_files("test") == {"absent": 1, "corrupt": 2}
    assert found.missing_files("train") == {"absent": 2, "corrupt": 0}
    assert found.missing_files("dev") == {"absent": 0, "corrupt": 0}
    pd.testing.assert_series_equal(found.table["role"], data.table["role"])
    earlier = dataclasses.replace(known, missing=None)
    monkeypatch.setattr(pipeline, "prepared_sets", lambda _: [known, earlier])
    assert pipeline.open_data(tiny.data, targets.get(tiny.data.target)).missing_files("test") == {}


def test_several_sets_are_one_table(tiny, data, monkeypatch):
    def black(*numbers, size, **_):  # in place of a renderer that takes half a minute to compile
        return np.zeros((np.broadcast(*numbers).size, size, size, 3), np.uint8)

    monkeypatch.setattr(scene, "render", black)
    simulated.render_chunk.cache_clear()
    tiny.data.dataset = "folder+simulated"
    tiny.data.options = {"subject_level": 1, "users": (1, 2), "phones": (1,), "sessions": (1,), "size": 32}
    tiny.data.raw_dir = ""
    both = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    simulated.render_chunk.cache_clear()
    assert both.table["dataset"].value_counts().to_dict() == {"folder": 144, "simulated": 10}
    assert len(both.files) == len(data.files) + 1
    assert both.table["file"].max() == len(both.files) - 1
    assert both.fingerprint != data.fingerprint
    assert both.sources["train"] == ["folder", "simulated"]
    tiny.data.augment.update(LIGHT)
    last = {**batches(both, tiny, 0, 3)[0]}
    assert last["image"].shape == (16, 16, 16, 3)
    tiny.data.dataset = "folder+nuaa"
    tiny.data.raw_dir = "somewhere"
    with pytest.raises(ValueError, match=r"write \{dataset\} for the name of each set"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    tiny.data.options = {"subject_lvl": 1}
    tiny.data.raw_dir = ""
    with pytest.raises(ValueError, match=r"folder\+nuaa has no option \['subject_lvl'\]"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))


def test_training_may_be_kept_to_some_species(tiny, data):
    tiny.data.train_species = ("live",)
    tiny.data.attack.probability = 0.5
    kept = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    assert kept.count("train") == data.count("train") // 2
    assert kept.table["label"][kept.table["role"] == "train"].eq(1).all()
    assert kept.count("dev") == data.count("dev")


@pytest.mark.parametrize(("species", "missing"), [("live", "attack"), ("print", "live face")])
def test_training_needs_live_faces_and_attacks(tiny, species, missing):
    """Attacks may be simulated of live faces while it trains; nothing makes a live face of an attack."""
    tiny.data.train_species = (species,)
    with pytest.raises(ValueError, match=rf"train_species=\('{species}',\) .* leave no {missing} to train on"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    tiny.data.target = "domain"
    assert pipeline.open_data(tiny.data, targets.get(tiny.data.target)).count("train")


def test_a_protocol_that_selects_nothing_is_refused(tiny):
    tiny.data.protocol = "subjects"
    tiny.data.subjects = {"train": "1-2"}
    with pytest.raises(ValueError, match="subjects"):
        pipeline.open_data(tiny.data, targets.get(tiny.data.target))


def test_damaged_records_are_named(tiny, data, tmp_path):
    content = bytearray(Path(data.files[0]).read_bytes())
    row = np.flatnonzero(data.has_face("train"))[0]
    content[data.table["offset"][row] + 20] ^= 0xFF
    damaged = tmp_path / "damaged.tfrecord"
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.tfrecord: the record at byte \d+ is damaged; .* prepare again"):
        batches(data._replace(files=[str(damaged)]), tiny, 0, 3)


def test_a_model_of_two_tasks_gets_recognition_images_attacks_and_live_faces_with_both_labels(tiny, monkeypatch):
    rows = [(f"p{person:02d}", picture) for person in range(23) for picture in range(2)]
    collected = pd.DataFrame(rows, columns=["subject", "frame"]).assign(
        dataset="identity", domain="lfw", split="", species="", label=-1
    )
    rows = [(f"u{person}", live, split) for split in protocols.SPLITS for person in range(3) for live in (0, 1)]
    shown = pd.DataFrame(rows, columns=["subject", "label", "split"]).assign(dataset="folder", domain="folder", frame=0)
    shown["species"] = np.where(shown["label"] == 1, "live", "print")
    table = pd.concat([collected, shown], ignore_index=True).assign(lists="", video="", found=True, file=0)
    everything = Data(table, [], "", {})
    monkeypatch.setattr(pipeline, "gather", lambda _: everything)
    tiny.data.target, tiny.data.dataset = "label+identity", "identity+folder"

    data = pipeline.open_data(tiny.data, targets.get(tiny.data.target))

    roles = data.table["role"]
    assert (roles[data.table["dataset"] == "folder"] == shown["split"].to_numpy()).all()
    assert data.table[data.table["dataset"] == "identity"].groupby("role")["subject"].nunique().to_dict() == {
        "dev": 2,
        "test": 2,
        "train": 19,
    }
    names, own = identity_classes(data)
    assert len(names) == 19 + 3
    targets.LABEL_IDENTITY.check_classes(data, 22)
    train = roles == "train"
    kinds = pd.DataFrame({"label": data.table["label"], "known": own >= 0})[train].value_counts().to_dict()
    assert kinds == {(-1, True): 38, (1, True): 3, (0, False): 3}
    labels_of = targets.LABEL_IDENTITY.labels(data)
    np.testing.assert_array_equal(labels_of(np.array([0, 46, 47])), [[0, 0], [1, 0], [0, 1]])

    tiny.data.target = "identity"  # its recogniser learns the same people
    assert identity_classes(pipeline.open_data(tiny.data, targets.get(tiny.data.target)))[0] == names
    with pytest.raises(ValueError, match=r"mixes no people; set mixup and cutmix to 0"):
        batches(data, tiny, 0, 1)

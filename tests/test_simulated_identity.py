"""The simulated identities: who is in which picture, lazily, and the same bytes however they are asked for."""

import pickle

import numpy as np
import pytest

from input_pipeline import datasets, schema
from input_pipeline.datasets import simulated, simulated_identity
from input_pipeline.simulate import scene
from tests.conftest import listed_table

READER = datasets.get("simulated_identity")


def table(**options):
    return listed_table(READER.read(**options))


def image(presentation):
    (frame,) = presentation.load()
    return frame.image


def test_people_are_numbered_and_split_by_their_last_digit():
    rows = table(identities=120, pictures=3)
    assert rows["subject"].nunique() == 120
    assert (rows.groupby("subject").size() == 3).all()
    assert rows["video"].is_unique
    assert set(rows["label"]) == {-1}
    people = rows.drop_duplicates("subject").set_index("subject")["split"]
    assert people.value_counts().to_dict() == {"train": 96, "dev": 12, "test": 12}
    assert (people["00008"], people["00019"], people["00117"]) == ("dev", "test", "train")
    assert (rows.groupby("subject")["split"].nunique() == 1).all()


def test_first_continues_the_same_people():
    whole, rest = table(identities=70, pictures=2), table(identities=20, pictures=2, first=50)
    assert rest.equals(whole.iloc[100:].reset_index(drop=True))


def test_pictures_of_a_person_vary_phone_and_session():
    rows = table(identities=2, pictures=18)
    for _, person in rows.groupby("subject"):
        assert len(person[["sensor", "session"]].drop_duplicates()) == 18
    assert len({simulated_identity.numbers_of(3, picture) for picture in range(40)}) == 40
    twelve = table(identities=2, pictures=12).groupby("subject")
    assert (twelve["sensor"].nunique() == 6).all()
    assert (twelve["session"].nunique() == 3).all()


def test_other_groups_and_other_seeds_are_other_people(monkeypatch):
    """Persons 7 and 62 are both user 8, of different seeds; so is person 7 of another seed, and the simulated set's."""
    seeds = {simulated_identity.seed_of_group(seed, group) for seed in range(20) for group in range(200)}
    assert len(seeds) == 4000
    assert min(seeds) > 1000  # the seeds that people give to `simulated`
    asked = []

    def render(user, *others, seed, **options):
        asked.append((sorted(set(user.tolist())), seed))
        return np.zeros((len(user), 32, 32, 3), np.uint8)

    monkeypatch.setattr(scene, "render", render)
    simulated.render_chunk.cache_clear()
    for presentation in READER.read(identities=110, pictures=5, size=32):
        image(presentation)
    simulated.render_chunk.cache_clear()
    assert len(asked) == 2 * -(-55 * 5 // scene.REQUEST)  # rendered in chunks, and each once
    assert {seed for _, seed in asked} == {simulated_identity.seed_of_group(0, group) for group in (0, 1)}
    users = [set().union(*(user for user, of in asked if of == seed)) for seed in {seed for _, seed in asked}]
    assert users == [set(range(1, 56))] * 2


def test_attributes_are_those_of_the_numbers_that_a_picture_is_drawn_with(monkeypatch):
    """Persons 54 to 56 are of two seeds; three pictures each."""
    rows = table(identities=3, pictures=3, first=54)
    for first, seed in ((0, simulated_identity.seed_of_group(0, 0)), (3, simulated_identity.seed_of_group(0, 1))):
        numbers = [simulated_identity.numbers_of(54 + i // 3, i % 3) for i in range(9)]
        drawn = scene.attributes(*np.resize(numbers, (scene.REQUEST, 5)).T, seed=seed)
        for i in range(first, 3 if first == 0 else 9):
            assert rows["attributes"][i] == schema.attributes({name: int(drawn[name][i]) for name in drawn})
    assert {pair.partition("=")[2] for said in rows["attributes"] for pair in said.split(";")} == {"0", "1"}
    asked = []
    monkeypatch.setattr(scene, "attributes", lambda user, *_, seed: asked.append(len(user)) or {"Male": user % 2})
    table(identities=110, pictures=5)
    assert asked == [scene.REQUEST] * 2 * -(-55 * 5 // scene.REQUEST)  # by chunk, and each once


@pytest.mark.slow
def test_a_picture_is_the_same_alone_among_others_and_in_another_process():
    few, more = (list(READER.read(identities=n, pictures=4, size=32, first=first)) for n, first in ((2, 55), (4, 54)))
    assert few[5].video == more[9].video == "00056/001"
    once = image(few[5])
    np.testing.assert_array_equal(once, image(more[9]))
    np.testing.assert_array_equal(once, image(pickle.loads(pickle.dumps(few[5]))))
    user, phone, session, access, frame = simulated_identity.numbers_of(56, 1)
    assert (user, access, few[5].sensor, few[5].session) == (2, 1, str(phone), str(session))
    expected = scene.render(user, phone, session, access, frame, size=32, seed=simulated_identity.seed_of_group(0, 1))
    np.testing.assert_array_equal(once, expected[0])
    assert (image(few[1]) != once).any()


@pytest.mark.parametrize(
    "options", [{"identities": 1}, {"pictures": 0}, {"size": 16}, {"seed": -1}, {"first": -1}], ids=str
)
def test_an_option_out_of_range_is_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=rf"simulated_identity: expected .*{name} >= \d+.* got .*{name}={value}"):
        next(iter(READER.read(**options)))

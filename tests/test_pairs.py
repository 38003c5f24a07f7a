"""Pairs of faces: LFW's list format, row numbers of a metadata table, and drawn pairs."""

import pandas as pd
import pytest

from input_pipeline.datasets import identity
from input_pipeline.select import pairs
from input_pipeline.select.pairs import Pair
from tests.conftest import listed_table

LINES = [
    "2\t2",
    "Abel_Pacheco\t1\t4",
    "Zico\t2\t1",
    "Abdel_Madi_Shabneh\t1\tDean_Barker\t1",
    "Zico\t1\tAbel_Pacheco\t10",
    "Zico\t1\t3",
    "Akhmed_Zakayev\t1\t3",
    "Akhmed_Zakayev\t2\tZico\t3",
    "Dean_Barker\t1\tAbel_Pacheco\t1",
]


def write(tmp_path, lines, end="\n"):
    path = tmp_path / "pairs.txt"
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def metadata(*videos, missing=()):
    """A metadata table of an identity set, without faces in the rows `missing`."""
    return pd.DataFrame(
        {
            "video": videos,
            "subject": [video.split("/")[0] for video in videos],
            "found": [row not in missing for row in range(len(videos))],
        }
    )


def people(number, images):
    return metadata(*(f"p{person:02d}/{image}.jpg" for person in range(number) for image in range(images)))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_of_folds_is_read_in_its_order(tmp_path, end):
    assert pairs.read(write(tmp_path, LINES, end)) == [
        Pair("Abel_Pacheco/Abel_Pacheco_0001", "Abel_Pacheco/Abel_Pacheco_0004", True, 0),
        Pair("Zico/Zico_0002", "Zico/Zico_0001", True, 0),
        Pair("Abdel_Madi_Shabneh/Abdel_Madi_Shabneh_0001", "Dean_Barker/Dean_Barker_0001", False, 0),
        Pair("Zico/Zico_0001", "Abel_Pacheco/Abel_Pacheco_0010", False, 0),
        Pair("Zico/Zico_0001", "Zico/Zico_0003", True, 1),
        Pair("Akhmed_Zakayev/Akhmed_Zakayev_0001", "Akhmed_Zakayev/Akhmed_Zakayev_0003", True, 1),
        Pair("Akhmed_Zakayev/Akhmed_Zakayev_0002", "Zico/Zico_0003", False, 1),
        Pair("Dean_Barker/Dean_Barker_0001", "Abel_Pacheco/Abel_Pacheco_0001", False, 1),
    ]


def test_a_view_of_one_fold_has_the_number_of_pairs_alone(tmp_path):
    path = write(tmp_path, ["1", "Zico 1 3", "Li Na\t2\tZico\t1"])
    assert pairs.read(path) == [
        Pair("Zico/Zico_0001", "Zico/Zico_0003", True, 0),
        Pair("Li Na/Li Na_0002", "Zico/Zico_0001", False, 0),
    ]


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, "", r"line 1: expected the numbers of folds and of pairs, such as 10 300, got ''"),
        (1, "10\t300\t1", r"line 1: expected the numbers of folds and of pairs"),
        (1, "2\t0", r"line 1: expected the numbers of folds and of pairs"),
        (1, "two\t2", r"line 1: expected the numbers of folds and of pairs"),
        (1, "2\t3", r"line 1: 2 folds of 3 same and 3 different pairs are 12 lines, but 8 follow"),
        (2, "Abel_Pacheco\t1\tZico\t4", r"line 2: expected name n1 n2, of one person, got 'Abel_Pacheco\t1\tZico"),
        (2, "Abel_Pacheco\t1", r"line 2: expected name n1 n2, of one person"),
        (2, "Abel_Pacheco\t1\tx", r"line 2: expected name n1 n2, of one person"),
        (3, "", r"line 3: expected name n1 n2, of one person, got ''"),
        (3, "Zico\t0\t1", r"line 3: expected name n1 n2, of one person"),
        (3, "Zico\t2\t2", r"line 3: Zico/Zico_0002 is paired with itself"),
        (5, "Zico\t1\t2", r"line 5: expected name1 n1 name2 n2, of two persons"),
        (9, "Zico\t1\tZico\t2", r"line 9: expected name1 n1 name2 n2, of two persons"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, number, line, message):
    path = write(tmp_path, [*LINES[: number - 1], line, *LINES[number:]])
    with pytest.raises(ValueError, match=rf"pairs\.txt, {message}"):
        pairs.read(path)


def test_an_empty_or_absent_list_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"pairs\.txt, line 1: expected the numbers"):
        pairs.read(write(tmp_path, []))
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        pairs.read(tmp_path / "absent.txt")


def test_pairs_become_row_numbers_and_those_without_both_faces_are_counted(tmp_path):
    table = metadata(
        "Abel_Pacheco/Abel_Pacheco_0001.png",
        "Zico/Zico_0001.jpg",
        "Zico/Zico_0002.JPG",
        "Zico/Zico_0003.jpg",
        "Abel_Pacheco/Abel_Pacheco_0004.png",
        "Dean_Barker/Dean_Barker_0001.jpg",
        missing=[3],
    )
    found, left_out = pairs.indices(pairs.read(write(tmp_path, LINES)), table.set_index([[7, 8, 9, 10, 11, 12]]))
    assert found.to_dict("list") == {
        "first": [0, 2, 5],
        "second": [4, 1, 0],
        "same": [True, True, False],
        "fold": [0, 0, 1],
    }
    assert left_out == 5


def test_pairs_fit_the_table_of_the_identity_reader(tmp_path):
    for name in ("Zico/Zico_0001.jpg", "Zico/Zico_0003.jpg", "Dean_Barker/Dean_Barker_0001.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = listed_table(identity.read(str(tmp_path))).assign(found=True)
    found, left_out = pairs.indices(pairs.read(write(tmp_path, LINES)), table)
    assert table["video"][found["first"]].tolist() == ["Zico/Zico_0001.jpg"]
    assert table["video"][found["second"]].tolist() == ["Zico/Zico_0003.jpg"]
    assert left_out == 7


def test_a_list_of_another_data_set_and_two_images_of_one_name_are_refused(tmp_path):
    listed = pairs.read(write(tmp_path, LINES))
    with pytest.raises(ValueError, match=r"none of the 8 pairs has both images.*such as \['p00/0'\]; the list belongs"):
        pairs.indices(listed, people(2, 2))
    with pytest.raises(ValueError, match=r"1 images, such as Zico/Zico_0001, are in the data twice"):
        pairs.indices(listed, metadata("Zico/Zico_0001.jpg", "Zico/Zico_0003.jpg", "Zico/Zico_0001.png"))


def test_drawn_pairs_are_balanced_distinct_and_of_disjoint_people():
    table = people(12, 4)
    drawn = pairs.draw(table, folds=3, pairs_per_fold=10, seed=0)
    assert [(pair.fold, pair.same) for pair in drawn] == [
        (fold, same) for fold in range(3) for same in (True, False) for _ in range(10)
    ]
    assert len({frozenset((pair.first, pair.second)) for pair in drawn}) == 60
    for pair in drawn:
        first, second = pair.first.split("/")[0], pair.second.split("/")[0]
        assert (first == second) == pair.same
        assert pair.first != pair.second
    people_of = [{name.split("/")[0] for pair in drawn if pair.fold == fold for name in pair[:2]} for fold in range(3)]
    assert [len(of) for of in people_of] == [4, 4, 4]
    assert len(set.union(*people_of)) == 12
    found, left_out = pairs.indices(drawn, table)
    assert (len(found), left_out) == (60, 0)


def test_drawn_pairs_depend_on_the_images_and_the_seed_alone():
    table = people(6, 3)
    drawn = pairs.draw(table, folds=2, pairs_per_fold=4, seed=5)
    assert pairs.draw(table[::-1], folds=2, pairs_per_fold=4, seed=5) == drawn
    assert pairs.draw(table, folds=2, pairs_per_fold=4, seed=6) != drawn


def test_images_without_a_face_are_not_drawn():
    table = people(4, 3)
    table.loc[[0, 5], "found"] = False
    drawn = pairs.draw(table, folds=1, pairs_per_fold=8, seed=0)
    assert sum(pair.same for pair in drawn) == 8  # all there are: 1 + 1 + 3 + 3
    assert not {"p00/0", "p01/2"} & {name for pair in drawn for name in pair[:2]}


def test_more_pairs_than_there_are_are_refused():
    table = people(4, 3)
    table.loc[[0, 5], "found"] = False
    with pytest.raises(
        ValueError, match=r"^9 same and as many .* too many for fold 0 of 1, whose 4 people make 8 and 37"
    ):
        pairs.draw(table, folds=1, pairs_per_fold=9, seed=0)
    with pytest.raises(ValueError, match="whose 1 people make 1 and 0"):
        pairs.draw(people(3, 2), folds=3, pairs_per_fold=1, seed=0)


@pytest.mark.parametrize(("number", "folds", "each"), [(30, 1, 180), (100, 10, 60), (500, 10, 300)])
def test_as_many_pairs_as_lfw_has_or_as_the_people_can_give(number, folds, each):
    """4 images make 6 pairs of a person; fewer than 100 people are one fold."""
    drawn = pairs.draw_most(people(number, 4))
    assert {pair.fold for pair in drawn} == set(range(folds))
    assert [sum(pair.same for pair in drawn), len(drawn)] == [folds * each, 2 * folds * each]
    assert drawn == pairs.draw_most(people(number, 4)[::-1])


def test_one_image_of_each_person_makes_no_pairs():
    with pytest.raises(ValueError, match="whose 12 people make 0 and 66"):
        pairs.draw_most(people(12, 1))

"""Which teachers have seen what their student is judged on: by protocols, by what a run notes, and what is refused."""

import copy
import json
import shutil

import numpy as np
import pytest

from configs.teachers import domains_demo
from input_pipeline import datasets
from input_pipeline.select import protocols
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import folds, join, provenance, train
from kdfas_jax.report import made, summary
from kdfas_jax.report.render import html
from kdfas_jax.runs import files, identity, workdir
from kdfas_jax.training import teachers
from tests.conftest import listed_table

USERS = {"users": (1, 2, 21, 36)}
FACTS = {
    "run": "runs/icm",
    "step": 40,
    "protocol": "ocim:ICM-O",
    "sources": {"train": ["msu"]},
    "parameters": 5,
    "training_only_parameters": 2,
    "config": "12345678",
    "overlap": "none",
}


def data_of(protocol, subjects=None, keep=None, **options):
    """Simulated presentations under a protocol, without a picture; `keep` chooses rows of the table."""
    table = listed_table(datasets.get("simulated").read(**(options or USERS))).assign(found=True)
    table = table[keep(table)] if keep else table
    return Data(table.assign(role=protocols.assign(table, protocol, subjects)), [], "", {})


def met(teacher, student):
    return provenance.meetings(provenance.examples(teacher), student.table)


def test_a_teacher_of_the_students_own_protocol_meets_nothing():
    for protocol in ("1", "2", "3.2", "4.5"):
        assert met(data_of(protocol), data_of(protocol)) == []


def test_a_teacher_of_another_fold_was_trained_on_what_this_one_withholds():
    """Fold 3.1 trains on the phone 2 that fold 3.2 tests on, with other people: the withheld videos are theirs."""
    (found,) = met(data_of("3.1"), data_of("3.2"))
    assert found.startswith(
        "it was trained on 30 videos that are no training data here (such as withheld: subject 01 of"
    )


def test_a_teacher_that_was_trained_on_the_target_domain_is_found():
    student, teacher = (data_of(f"ocim:{name}", domains=domains_demo.DOMAINS) for name in ("OCI-M", "ICM-O"))
    found = met(teacher, student)
    assert "it was trained on" in found[0]
    assert any("of domain simulated-msu)" in words for words in found)
    assert met(student, student) == met(teacher, teacher) == []


def test_a_teacher_whose_checkpoint_was_chosen_on_the_test_set_is_found():
    teacher = data_of("subjects", {"train": "1,2", "dev": "36", "test": "21"})
    student = data_of("subjects", {"train": "1,2", "dev": "21", "test": "36"})
    (found,) = met(teacher, student)
    assert found.startswith("its checkpoint was chosen on 90 videos that are tested here (such as test: subject 36 of")


def test_a_teacher_that_knows_the_people_of_the_test_set_by_other_videos_is_found():
    people = {"train": "36", "dev": "2", "test": "1"}
    teacher = data_of("subjects", people, keep=lambda table: table["session"] == "1")
    student = data_of("1", keep=lambda table: table["session"] != "1")
    student.table["role"] = student.table["split"].where(student.table["session"] == "3", "")
    student.table.loc[student.table["subject"] == "36", "role"] = "test"
    assert met(teacher, student) == ["it was trained on 1 people who are dev or test here (such as test: subject 36 of "
                                     "domain simulated)"]  # fmt: skip
    student.table.loc[student.table.index[student.table["subject"] == "36"][:3], "role"] = "train"
    assert met(teacher, student) == []  # the student's own training data show this person


def test_a_video_of_which_only_some_frames_are_trained_on_is_training_data():
    data = data_of("1")
    first = data.table["role"].eq("train").idxmax()
    half = data.table.loc[[first]].assign(role="", frame=99)
    more = pipeline.pd.concat([data.table, half])
    assert met(data, data._replace(table=more)) == []


def test_data_sets_that_the_student_does_not_have_and_rows_without_a_label_are_of_no_account():
    teacher, student = data_of("3.1"), data_of("3.2")
    other = student._replace(table=student.table.assign(dataset="other"))
    assert met(teacher, other) == []
    collected = student._replace(table=student.table.assign(role="", label=-1))
    assert met(teacher, collected) == []


def test_what_a_run_has_seen_is_read_back_with_what_its_teachers_have(tmp_path):
    own, taught = (provenance.examples(data_of(name)) for name in ("3.1", "3.2"))
    provenance.record(str(tmp_path / "teacher"), [taught], {})
    facts = {
        "spoof": FACTS | {"run": str(tmp_path / "teacher")},
        "file": {"run": "x.pth", "overlap": provenance.PUBLISHED},
    }
    provenance.record(str(tmp_path / "run"), [own], facts)
    assert provenance.taught_by(str(tmp_path / "run")) == facts
    seen = provenance.seen_by(str(tmp_path / "run"))
    for role in ("train", "dev"):
        for unit in ("video", "subject"):
            np.testing.assert_array_equal(seen[role][unit], np.union1d(own[role][unit], taught[role][unit]))
    assert len(seen["train"]["subject"]) == 2
    assert provenance.taught_by(str(tmp_path / "nobody")) == {}


@pytest.fixture
def given(tiny, tmp_path):
    """(config, home): the tiny student and a finished run, given as its teacher, that was trained on the test set."""
    home = str(tmp_path / "teacher")
    workdir.claim(tiny.teachers.spoof.config, home, "none")
    data = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    tested = data.table.assign(role=data.table["role"].map({"test": "train", "train": "", "dev": ""}))
    provenance.record(home, [provenance.examples(data._replace(table=tested))], {})
    results = {"config": identity.plain(tiny.teachers.spoof.config), "finished": True, "step": 7, "protocol": "mine"}
    results |= {
        "sources": {"train": ["folder"]},
        "folds": [],
        "params": {"student": 3, "training_only": {"student": 1}},
    }
    files.write_atomically(f"{home}/eval/results.json", json.dumps(results))
    tiny.teachers.spoof.checkpoint = home
    return tiny, home


def test_a_teacher_that_was_trained_on_the_test_set_is_refused_before_anything_is_written(given, tmp_path):
    config, home = given
    with pytest.raises(ValueError, match="must not teach under protocol 'official'") as error:
        train.train(config, str(tmp_path / "student"))
    message = str(error.value)
    assert message.startswith(f"config.teachers.spoof: {home} ")
    assert "it was trained on 48 videos that are no training data here (such as test: subject" in message
    assert "it was trained on 8 people who are dev or test here" in message
    assert "--config.teachers.spoof.allow_overlap=True" in message
    assert "\n" not in message
    assert not (tmp_path / "student").exists()


def test_an_overlap_that_is_allowed_is_named(given):
    config, home = given
    config.teachers.spoof.allow_overlap = True
    facts = provenance.check(config, {"spoof": home})["spoof"]
    assert facts["overlap"].startswith("allowed: it was trained on 48 videos")
    assert (facts["run"], facts["step"], facts["protocol"]) == (home, 7, "mine")
    assert (facts["parameters"], facts["training_only_parameters"]) == (3, 1)
    assert facts["config"] == identity.digest(config.teachers.spoof.config)
    results = {"test": {}, "dev": {}, "threshold": {}, "step": 1, "folds": [], "teachers": {"spoof": facts}}
    assert summary.selection_note(results).endswith("of domain folder).")
    assert "Teacher spoof may have seen what this run is judged on" in summary.selection_note(results)
    page = html.document("page", [made.taught({"spoof": facts})])
    assert home in page
    assert facts["overlap"] in page


def test_a_run_that_was_trained_on_the_test_set_is_no_start(given, tmp_path):
    config, home = given
    config.teachers.spoof.checkpoint, config.init = "", home
    with pytest.raises(
        ValueError, match=rf"^config\.init: {home} must not be the start .*--config\.init_allow_overlap="
    ):
        train.train(config, str(tmp_path / "student"))
    assert not (tmp_path / "student").exists()
    config.init_allow_overlap = True
    facts = provenance.start(config, str(tmp_path / "student"))
    assert facts["overlap"].startswith("allowed: it was trained on 48 videos")
    results = {"test": {}, "dev": {}, "threshold": {}, "step": 1, "folds": [], "init": facts}
    assert f"The run {home}, from which training started, may have seen" in summary.selection_note(results)


def test_a_run_has_seen_what_its_start_has_seen_and_then_needs_it_no_more(given, tmp_path):
    config, home = given
    config.init, config.init_allow_overlap = home, True
    folder = tmp_path / "student"
    facts = provenance.start(config, str(folder))
    provenance.record(str(folder), [], {}, facts)
    np.testing.assert_array_equal(
        provenance.seen_by(str(folder))["train"]["video"], provenance.seen_by(home)["train"]["video"]
    )
    (folder / "checkpoints" / "7").mkdir(parents=True)
    shutil.rmtree(home)
    assert provenance.start(config, str(folder)) == provenance.started_from(str(folder)) == facts
    provenance.record(str(folder), [], {}, facts)
    assert len(provenance.seen_by(str(folder))["train"]["video"]) == 48


def test_a_teacher_of_which_nobody_knows_what_it_has_seen_is_refused(given, tmp_path):
    """It was made before runs noted that, and its data are not those of its config any more."""
    config, home = given
    (tmp_path / "teacher" / "provenance.json").unlink()
    with pytest.raises(ValueError, match=r"nobody knows what it was trained on.*allow_overlap=True"):
        provenance.check(config, {"spoof": home})
    data = pipeline.open_data(config.data, targets.get(config.data.target))
    note = workdir.read(home) | {"data_fingerprint": data.fingerprint}
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(note))
    assert provenance.check(config, {"spoof": home})["spoof"]["overlap"] == "none"  # by the data of its config


def test_published_weights_are_allowed_and_said_to_be_unknown(tiny, tmp_path):
    path = tmp_path / "weights.pth"
    path.touch()
    facts = provenance.check(tiny, {"spoof": str(path)})["spoof"]
    assert (facts["run"], facts["overlap"]) == (str(path), "unknown: published weights")
    assert "not known" in html.document("page", [made.taught({"spoof": facts})])


def test_the_whole_of_a_teacher_of_other_folds_is_no_teacher(given, tmp_path):
    config, home = given
    results = workdir.evaluated(home) | {"folds": [{"protocol": "3.1"}]}
    (tmp_path / "teacher" / "eval" / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"has the folds 3\.1, none of which is the student's 'official'"):
        provenance.check(config, {"spoof": home})


def test_folds_are_taught_by_their_own_fold_of_a_teacher_or_by_one_run_that_is_checked_for_each(tmp_path):
    (tmp_path / "all" / "siw-3.1").mkdir(parents=True)
    homes = {"spoof": str(tmp_path / "all"), "file": str(tmp_path / "x.pth")}
    assert train.homes_of_fold(homes, "siw:3.1") == {**homes, "spoof": str(tmp_path / "all" / "siw-3.1")}
    assert train.homes_of_fold(homes, "siw:3.2") == homes


def test_facts_of_the_whole_are_those_that_all_folds_share():
    by_fold = [{"spoof": FACTS | {"run": f"runs/t/3.{fold}", "protocol": f"3.{fold}", "step": fold}} for fold in (1, 2)]
    expected = FACTS | {"run": "runs/t", "protocol": None, "step": None}
    assert folds.shared_facts(by_fold) == {"spoof": expected}
    by_fold[1]["spoof"] |= {"run": "elsewhere/x", "overlap": "allowed: y"}
    assert folds.shared_facts(by_fold)["spoof"]["overlap"] == "none; allowed: y"
    assert folds.shared_facts(by_fold)["spoof"]["run"] is None


def test_join_checks_the_teachers_that_the_run_had(given, tmp_path):
    """Those that it notes, and not those that its config would have by default."""
    config, home = given
    config.teachers.recognition = copy.deepcopy(config.teachers.spoof)
    config.teachers.spoof.checkpoint = ""
    student = str(tmp_path / "student")
    workdir.claim(config, student, "none")
    provenance.record(student, [], {name: FACTS | {"run": home} for name in ("spoof", "recognition")})
    with pytest.raises(ValueError, match=rf"config\.teachers\.spoof: {home} must not teach"):
        join.join(student, str(tmp_path / "joined"))
    assert not (tmp_path / "joined").exists()
    (tmp_path / "student" / "provenance.json").unlink()
    assert join.homes_of_teachers(config, student) == {
        "spoof": teachers.home(config.teachers.spoof, student),
        "recognition": home,
    }

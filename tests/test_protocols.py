"""Protocols: published counts of full name lists, list files against predicates, and small tables by hand."""

import itertools

import pandas as pd
import pytest

from input_pipeline import datasets, schema
from input_pipeline.select import protocols
from tests import video_files
from tests.conftest import listed_table

OULU = {  # (live, attack) videos of train, dev, test: the table of OULU-NPU's README
    "1": ((240, 960), (180, 720), (120, 480)),
    "2": ((360, 720), (270, 540), (360, 720)),
    **{f"3.{k}": ((300, 1200), (225, 900), (60, 240)) for k in range(1, 7)},
    **{f"4.{k}": ((200, 400), (150, 300), (20, 40)) for k in range(1, 7)},
}
USERS = {"train": range(1, 21), "dev": range(21, 36), "test": range(36, 56)}


def read(name, root):
    return listed_table(datasets.get(name).read(str(root)))


def counts(table, roles):
    """{role: (live, attack) videos}."""
    labels = table["label"]
    return {
        role: tuple(int((labels[roles == role] == label).sum()) for label in (1, 0)) for role in sorted({*roles} - {""})
    }


@pytest.fixture(scope="module")
def oulu_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("oulu")
    video_files.oulu_tree(root)
    return root


@pytest.fixture(scope="module")
def oulu(oulu_root) -> pd.DataFrame:
    table = read("oulu", oulu_root)
    return table.set_index(table.index + 7)  # an index that is not the row number


@pytest.mark.parametrize("protocol", OULU)
def test_oulu_video_counts(oulu, protocol):
    roles = protocols.assign(oulu, protocol)
    assert counts(oulu, roles) == dict(zip(("train", "dev", "test"), OULU[protocol], strict=True))
    assert set(roles) == {"train", "dev", "test", ""}
    assert roles.index.equals(oulu.index)


@pytest.mark.parametrize("protocol", OULU)
def test_oulu_users_are_disjoint_and_test_is_unseen(oulu, protocol):
    roles = protocols.assign(oulu, protocol)
    assert {name: set(oulu["subject"][roles == name].astype(int)) for name in USERS} == {
        name: set(users) for name, users in USERS.items()
    }
    seen, tested = oulu[roles.isin(["train", "dev"])], oulu[roles == "test"]
    if protocol[0] in "14":
        assert set(tested["session"]) == {"3"}
        assert set(seen["session"]) == {"1", "2"}
    if protocol[0] in "24":
        assert set(tested["species"]) == {"live", "print2", "replay2"}
        assert set(seen["species"]) == {"live", "print1", "replay1"}
    if protocol[0] in "34":
        assert set(tested["sensor"]) == {protocol[-1]}
        assert protocol[-1] not in set(seen["sensor"])
        assert len(set(seen["sensor"])) == 5


def test_oulu_lists_and_predicates_agree_on_every_name(oulu, oulu_root):
    """The list files are written from the table of docs/datasets.md by plain loops, with LF and CRLF, and read back."""
    for protocol, split in itertools.product(OULU, USERS):
        number, _, k = protocol.partition(".")
        tested = split == "test"
        phones = [phone for phone in range(1, 7) if not k or (phone == int(k)) == tested]
        sessions = ([3] if tested else [1, 2]) if number in "14" else [1, 2, 3]
        accesses = ([1, 3, 5] if tested else [1, 2, 4]) if number in "24" else [1, 2, 3, 4, 5]
        lines = [
            f"{'+1' if access == 1 else '-1'},{phone}_{session}_{user:02d}_{access}"
            for phone, session, user, access in itertools.product(phones, sessions, USERS[split], accesses)
        ]
        path = oulu_root / "Protocols" / f"Protocol_{number}" / (split.capitalize() + (f"_{k}" if k else "") + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(("\r\n" if tested else "\n").join(lines).encode())
    listed = read("oulu", oulu_root)
    assert not set(oulu["lists"]) - {""}
    assert "3.2=train" in listed["lists"].iloc[0]
    for protocol in OULU:
        by_list = dict(zip(listed["video"], protocols.assign(listed, protocol), strict=True))
        assert by_list == dict(zip(oulu["video"], protocols.assign(oulu, protocol), strict=True)), protocol


def test_replay_attack_casia_and_msu_by_their_own_splits(tmp_path):
    for name in ("replay", "casia", "msu"):
        (tmp_path / name).mkdir()
        getattr(video_files, f"{name}_tree")(tmp_path / name)
    replay, casia, msu = (read(name, tmp_path / name) for name in ("replay", "casia", "msu"))
    found = counts(replay, protocols.assign(replay, "official"))
    assert found == {"train": (60, 300), "dev": (60, 300), "test": (80, 400)}
    roles = protocols.assign(casia, "official")
    assert counts(casia, roles) == {"train": (60, 180), "test": (90, 270)}
    assert casia["subject"].groupby(roles).nunique().to_dict() == {"train": 20, "test": 30}
    roles = protocols.assign(msu, "official")
    assert msu["subject"].groupby(roles).nunique().to_dict() == {"train": 15, "test": 20}
    assert counts(msu, roles) == {"train": (30, 90), "test": (40, 120)}


def rows(**columns):
    """A table of the given columns (lists, or a value for all rows); subjects '0', '1', ... unless given."""
    length = max(len(column) for column in columns.values() if isinstance(column, list))
    defaults = {name: "" for name, kind in schema.COLUMNS.items() if kind is str}
    defaults |= {"frame": 0, "label": 1, "subject": [str(i) for i in range(length)]}
    return pd.DataFrame(defaults | columns, index=range(length))


SIW = rows(
    dataset="siw",
    domain="siw",
    split=["train"] * 5 + ["test"] * 5,
    species=["live", "live", "print", "replay", "replay"] * 2,
    label=[1, 1, 0, 0, 0] * 2,
    medium=["", "", "1", "1", "2"] * 2,
    frame=[59, 60, 0, 0, 300] * 2,
)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("siw:1", "train . train train . test test test test test"),
        ("siw:2.1", "train train . . train test test . test ."),
        ("siw:2.2", "train train . train . test test . . test"),
        ("siw:2.4", "train train . train train test test . . ."),
        ("siw:3.1", "train train train . . test test . test test"),
        ("siw:3.2", "train train . train train test test test . ."),
    ],
)
def test_siw_protocols_by_hand(protocol, expected):
    """Rows: live at frames 59 and 60, print, replay on medium 1, on medium 2 at frame 300; train, then test."""
    assert [role or "." for role in protocols.assign(SIW, protocol)] == expected.split()


def test_siw_protocols_of_the_full_set(tmp_path):
    video_files.siw_tree(tmp_path)
    siw = read("siw", tmp_path).assign(frame=0)
    roles = protocols.assign(siw, "siw:1")
    assert siw["subject"].groupby(roles).nunique().to_dict() == {"train": 90, "test": 75}
    replay = siw["medium"][siw["species"] == "replay"]
    for fold in protocols.folds("siw:2"):
        roles = protocols.assign(siw, fold)
        assert set(replay[roles == "test"]) == {fold[-1]}
        assert set(replay[roles == "train"]) == set(replay) - {fold[-1]}
        assert set(siw["species"][roles != ""]) == {"live", "replay"}


CELEBA = {"dataset": "celeba_spoof", "domain": "celeba_spoof"}


def test_celeba_spoof_follows_its_lists():
    table = rows(**CELEBA, split=["train", "train", "test"], lists=["intra_test=train", "protocol1=test", ""])
    assert protocols.assign(table, "celeba_spoof:intra_test").tolist() == ["train", "", ""]
    assert protocols.assign(table, "celeba_spoof:protocol1").tolist() == ["", "test", ""]


def test_celeba_spoof_without_lists_has_its_folders_only():
    table = rows(**CELEBA, split=["train", "test"], lists=["protocol1=train", ""])
    assert protocols.assign(table, "celeba_spoof:intra_test").tolist() == ["train", "test"]
    with pytest.raises(ValueError, match=r"needs metas/protocol2/far/\{train,test\}_label.json.*there: protocol1$"):
        protocols.assign(table, "celeba_spoof:protocol2.far")


def test_lists_decide_over_the_predicate_for_their_protocol_alone():
    """User 1 is one to train on; the list of protocol 3.2 says otherwise, and protocol 2 has no list."""
    table = rows(
        dataset="oulu",
        domain="oulu",
        subject=["01", "01"],
        sensor="1",
        session="1",
        species="live",
        lists=["1=train;3.2=dev", "1=train"],
    )
    assert protocols.assign(table, "3.2").tolist() == ["dev", ""]
    assert protocols.assign(table, "2").tolist() == ["train", "train"]


DOMAINS = rows(  # oulu with three splits, casia and msu with two, replay with dev, own without any
    domain=["oulu"] * 4 + ["casia"] * 2 + ["msu"] * 3 + ["replay"] * 3 + ["own"] * 2,
    split=["train", "dev", "test", "", "train", "test", "train", "test", "", "train", "dev", "test", "", ""],
)


def by_domain(roles, table=DOMAINS):
    return {domain: " ".join(role or "." for role in group) for domain, group in roles.groupby(table["domain"])}


def test_a_cross_test_is_tuned_on_the_sources_and_tested_on_the_targets_test():
    """Replay has a dev, so its test is left out; casia and msu have none: their test is dev."""
    found = by_domain(protocols.assign(DOMAINS, "cross:casia+msu+replay-oulu"))
    assert found == {
        "casia": "train dev",
        "msu": "train dev .",
        "replay": "train dev .",
        "oulu": ". . test .",
        "own": ". .",
    }
    assert by_domain(protocols.assign(DOMAINS, "cross:casia-own"))["own"] == "test test"
    whole, tested = (protocols.assign(DOMAINS, f"cross:casia-oulu{suffix}") for suffix in (":all", ""))
    assert (whole[DOMAINS["domain"] == "oulu"] == "test").all()
    assert (tested == "test").sum() < (whole == "test").sum()
    without_splits = by_domain(protocols.assign(DOMAINS, "cross:own-casia"))
    assert (without_splits["own"], without_splits["casia"]) == ("train train", ". test")


def test_leave_one_out_tests_all_videos_of_the_target():
    found = by_domain(protocols.assign(DOMAINS, "ocim:OCI-M"))
    assert found == {
        "oulu": "train dev . .",
        "casia": "train dev",
        "replay": "train dev .",
        "msu": "test test test",
        "own": ". .",
    }
    assert by_domain(protocols.assign(DOMAINS, "ocim:ICO-M")) == found


def test_limited_sources():
    found = by_domain(protocols.assign(DOMAINS, "limited:MI-C"))
    assert found == {
        "msu": "train dev .",
        "replay": "train dev .",
        "casia": "test test",
        "oulu": ". . . .",
        "own": ". .",
    }


def test_a_rehearsal_stands_in_for_the_domain():
    table = DOMAINS.assign(domain="simulated-" + DOMAINS["domain"])
    assert protocols.assign(table, "ocim:OCI-M").tolist() == protocols.assign(DOMAINS, "ocim:OCI-M").tolist()


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("cross:casia-siw", r"no domain 'siw' in the data, which has casia, msu, oulu, own, replay; .*joined by '\+'"),
        ("cross:casia+casia-msu", "names a domain twice"),
        ("ocim:OCI-C", "names a domain twice"),
    ],
)
def test_domains_that_do_not_fit(protocol, message):
    with pytest.raises(ValueError, match=message):
        protocols.assign(DOMAINS, protocol)


def test_extra_sources_join_train_and_nothing_else():
    """Oulu's train alone; all of own, which has no splits."""
    plain = by_domain(protocols.assign(DOMAINS, "limited:MI-C"))
    found = by_domain(protocols.assign(DOMAINS, "limited:MI-C", extra=("oulu", "own")))
    assert found == plain | {"oulu": "train . . .", "own": "train train"}


@pytest.mark.parametrize(
    ("protocol", "extra", "message"),
    [
        ("limited:MI-C", "msu", "extra_sources: the protocol has msu already"),
        ("limited:MI-C", "casia", "extra_sources: the protocol has casia already"),
        ("limited:MI-C", "celeba_spoof", "no domain 'celeba_spoof' in the data"),
        ("official", "own", "protocol 'official' is not one across domains"),
    ],
)
def test_extra_sources_that_do_not_fit(protocol, extra, message):
    with pytest.raises(ValueError, match=message):
        protocols.assign(DOMAINS, protocol, extra=(extra,))


def test_a_share_of_the_training_subjects_becomes_dev():
    """0.2 of 10 subjects of casia, with two rows each, are numbers 2 and 7; of 3 of msu the middle one."""
    casia, msu = [f"c{i}" for i in range(10)], ["m0", "m1", "m2"]
    table = rows(domain=["casia"] * 20 + ["msu"] * 3 + ["casia"], split="train", subject=casia * 2 + msu + ["x"])
    table.loc[23, "split"] = "test"
    roles = protocols.assign(table, "official", dev_share=0.2)
    assert sorted(table["subject"][roles == "dev"]) == ["c2", "c2", "c7", "c7", "m1"]
    assert sorted(table["subject"][roles == "train"].unique()) == [
        "c0",
        "c1",
        "c3",
        "c4",
        "c5",
        "c6",
        "c8",
        "c9",
        "m0",
        "m2",
    ]
    assert roles[23] == "test"
    shuffled = table.sample(frac=1, random_state=0)
    assert protocols.assign(shuffled, "official", dev_share=0.2).loc[table.index].tolist() == roles.tolist()


def test_a_dev_share_keeps_one_subject_on_either_side():
    table = rows(domain="casia", split=["train"] * 4)
    assert (protocols.assign(table, "official", dev_share=0.01) == "dev").sum() == 1
    assert (protocols.assign(table, "official", dev_share=0.99) == "train").sum() == 1
    assert set(protocols.assign(table, "official")) == {"train"}
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"dev_share=.*expected a share"):
            protocols.assign(table, "official", dev_share=share)


def test_a_dev_share_is_taken_only_where_there_is_no_dev_and_never_of_extra_sources():
    with_dev = protocols.assign(DOMAINS, "limited:MI-C", dev_share=0.5)
    assert by_domain(with_dev) == by_domain(protocols.assign(DOMAINS, "limited:MI-C"))
    table = rows(domain=["own"] * 2 + ["other"] * 4 + ["target"])
    roles = protocols.assign(table, "cross:own-target", extra=("other",), dev_share=0.5)
    assert roles.tolist() == ["train", "dev", "train", "train", "train", "train", "test"]


def test_unlabelled_rows_have_no_role():
    table = rows(domain=["faces", "faces", "msu"], split=["train", "", "test"], label=[-1, -1, 1])
    assert protocols.assign(table, "official").tolist() == ["", "", "test"]
    assert protocols.assign(table, "cross:msu-faces").tolist() == ["", "", "dev"]


def test_sources_name_the_domains_of_each_role():
    roles = protocols.assign(DOMAINS, "limited:MI-C", extra=("own",))
    assert protocols.sources(DOMAINS, roles, ("own",)) == {
        "train": ["msu", "own", "replay"],
        "dev": ["msu", "replay"],
        "test": ["casia"],
        "extra": ["own"],
    }


def test_official_is_the_sets_own_split():
    splits = ["train", "test", "", "train"]
    assert protocols.assign(rows(split=splits), "official").tolist() == splits
    with pytest.raises(ValueError, match=r"'split' holds \['devel'\]"):
        protocols.assign(rows(split=["devel"]), "official")


def test_subject_ranges():
    ranges = {"train": "1-3, 9", "dev": "4", "test": "6-7"}
    table = rows(subject=["0001", "0003", "0004", "0005", "0007", "0009", "0010"])
    assert protocols.assign(table, "subjects", ranges).tolist() == ["train", "train", "dev", "", "test", "train", ""]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"train": "1-5", "test": "5-8"}, "5 is in both train and test"),
        ({"train": "5-1"}, "'5-1' is not a list of ranges"),
        ({"train": "1-x"}, "'1-x' is not a list of ranges"),
        ({"train": "-3"}, "'-3' is not a list of ranges"),
        ({"train": "1-2-3"}, "'1-2-3' is not a list of ranges"),
        ({"valid": "1"}, r"unknown split \['valid'\]; known: train, dev, test"),
        (None, "needs ranges"),
    ],
)
def test_bad_subject_ranges(ranges, message):
    with pytest.raises(ValueError, match=message):
        protocols.assign(rows(subject=["1"]), "subjects", ranges)


def test_subjects_must_be_numbers_for_ranges():
    with pytest.raises(ValueError, match=r"need numbers as subjects; found \['anna'\]"):
        protocols.assign(rows(subject=["1", "anna"]), "subjects", {"train": "1"})


def test_folds():
    assert protocols.folds("3") == ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6")
    assert protocols.folds("4") == ("4.1", "4.2", "4.3", "4.4", "4.5", "4.6")
    assert protocols.folds("siw:2") == ("siw:2.1", "siw:2.2", "siw:2.3", "siw:2.4")
    assert protocols.folds("siw:3") == ("siw:3.1", "siw:3.2")
    assert protocols.folds("ocim") == ("ocim:OCI-M", "ocim:OMI-C", "ocim:OCM-I", "ocim:ICM-O")
    for one in ("1", "4.2", "official", "siw:1", "ocim:OCI-M", "limited:MI-O", "cross:casia-replay"):
        assert protocols.folds(one) == (one,)


@pytest.mark.parametrize("protocol", ["5", "3.7", "siw:4", "ocim:OC-M", "cross:casia", "celeba_spoof:", "Official"])
def test_an_unknown_protocol_names_the_known(protocol):
    for function in (protocols.folds, lambda name: protocols.assign(DOMAINS, name)):
        with pytest.raises(
            ValueError, match=rf"unknown protocol '{protocol}'; known: 1, 2, 3\.1 to .*folds: 3, 4, siw:2"
        ):
            function(protocol)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("1", "defined for oulu and simulated, not for nuaa"),
        ("siw:1", "defined for siw, not for nuaa"),
        ("siw:2.1", "defined for siw, not for nuaa"),
        ("siw:3.1", "defined for siw, not for nuaa"),
        ("celeba_spoof:intra_test", "defined for celeba_spoof, not for nuaa"),
    ],
)
def test_a_protocol_of_another_set_is_refused(protocol, message):
    with pytest.raises(ValueError, match=message):
        protocols.assign(rows(dataset="nuaa", split=["train"]), protocol)

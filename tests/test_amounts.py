"""What a run says of too little data and too few steps, and the config that fits itself to the data. 1 s."""

import pandas as pd
import pytest

from configs import own
from kdfas_jax.metrics import amounts


def table_of(**counts):
    """A table of {role_species: presentations}, three people in each role."""
    rows = [
        {"role": role, "species": species, "video": f"{key}{n}", "subject": f"{role}{n % 3}"}
        for key, number in counts.items()
        for role, species in [key.split("_")]
        for n in range(number)
    ]
    table = pd.DataFrame(rows, columns=["role", "species", "video", "subject"]).assign(dataset="folder", found=True)
    return table.assign(label=(table["species"] == "live").astype(int))


def test_each_split_is_described():
    table = table_of(dev_live=4, dev_print=2)
    assert amounts.described(table, "dev") == "dev: 6 presentations of 3 people (live 4, print 2)"
    assert amounts.described(table, "test") == "test: 0 presentations of unknown people (none)"
    unknown = table.assign(subject=table["video"])
    assert amounts.described(unknown, "dev").startswith("dev: 6 presentations of unknown people")
    assert "5 presentations" in amounts.described(table.assign(found=table["video"] != "dev_live0"), "dev")


def test_too_little_is_a_warning_each():
    assert amounts.warnings(table_of(dev_live=1, dev_print=36, dev_replay=40), 200) == []
    steps, species = amounts.warnings(table_of(dev_live=50, dev_print=10, dev_replay=40), 199)
    assert steps.startswith("config.train is 199 steps; expected 200 or more")
    assert species.startswith(
        "dev has 10 attacks of species print: even if none is accepted, its APCER may be up to 31%"
    )
    assert "no dev set" in amounts.warnings(table_of(train_live=4), 500)[0]


def raw_of(folder, **counts):
    for key, number in counts.items():
        for n in range(number):
            path = folder / key.replace("_", "/") / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder


def test_the_steps_of_your_own_config_follow_the_number_of_pictures(tmp_path, monkeypatch):
    raw = raw_of(tmp_path / "raw", train_live=30, train_spoof_print=34, dev_live=9)
    config = own.get_config(f"raw_dir={raw}")
    assert (config.train.batch_size, config.train.epochs * (64 // 16)) == (16, own.STEPS)
    assert (config.model.width, config.optim.lr * 16 / 512) == (96, own.PEAK)
    monkeypatch.setattr(own, "LARGE", 64)
    config = own.get_config(f"raw_dir={raw},subject_level=0")
    assert (config.train.batch_size, config.train.epochs, config.model.width) == (64, own.STEPS, 192)
    table = raw / "table.csv"
    table.write_text("path,label,split\n" + "".join(f"{n}.png,live,train\n" for n in range(40)))
    config = own.get_config(f"raw_dir={table}")
    assert (config.data.dataset, config.train.epochs) == ("csv", own.STEPS / 2)
    assert own.get_config("raw_dir=/not/there,subject_level=1").data.options.subject_level == 1


def test_pictures_without_a_training_split_are_refused(tmp_path):
    raw = raw_of(tmp_path, live=2, spoof=3)
    with pytest.raises(
        ValueError, match=r"raw_dir=.*: found 5 pictures or videos, but none in the split train; expect"
    ):
        own.get_config(f"raw_dir={raw}")

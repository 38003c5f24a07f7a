"""The command line in one process: modes, the help, configs found from anywhere, and overrides of optional keys."""

import sys
from pathlib import Path

import pytest

from configs import ablation, kdfas_demo, kdfas_oulu
from kdfas_jax.commands.cli import cli, configs, flags, verbs

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it
DEMO = "--config=configs/kdfas_demo.py"


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ([DEMO, "--config.model.remat=full"], "model.remat", "full"),
        ([DEMO, "--config.model.gelu=tanh"], "model.gelu", "tanh"),
        ([DEMO, "--config.model.mean=(0.1, 0.2, 0.3)"], "model.mean", (0.1, 0.2, 0.3)),
        ([DEMO, "--config.model.dropout=0.1"], "model.dropout", 0.1),
        ([DEMO, "--config.model.lora.rank=8"], "model.lora.rank", 8),
        ([DEMO, "--config.model.lora.targets=('qkv',)"], "model.lora.targets", ("qkv",)),
        (["--config=configs/teachers/foundation.py", "--config.model.lora.rank=4"], "model.lora.rank", 4),
        ([DEMO, "--config.model.unroll"], "model.unroll", True),
        ([DEMO, "--config.teachers.spoof.config.model.mean=0.4"], "teachers.spoof.config.model.mean", 0.4),
        ([DEMO, "--config.data.options.cue=0.5"], "data.options.cue", 0.5),
        ([DEMO, "--config.data.options.phones=(1, 2)"], "data.options.phones", (1, 2)),
        (["--config=configs/kdfas_oulu.py:raw_dir=/x", "--config.data.options.frames=4"], "data.options.frames", 4),
        (["--config=configs/ablation.py", "--config.base.model.remat=full"], "base.model.remat", "full"),
    ],
)
def test_options_that_a_config_does_not_preset_can_be_overridden(parsed, arguments, key, value):
    config = parsed(*arguments)
    for name in key.split("."):
        config = config[name]
    assert config == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.model.remt=1"], r"^--config\.model\.remt: no key 'remt' there; known: .*\bclasses\b.*\bremat\b"),
        (["--config.data.options.subject_level=1"], r"no key 'subject_level' there; known: .*\busers\b.*\bcue\b"),
        (["--config.data.dataset=folder", "--config.data.options.users=1"], r"no key 'users' .*subject_level"),
        (["--config.data.dataset=foldr"], r"^unknown data set 'foldr'; known: camera, casia"),
        (["--config.model.lora.rnk=1"], r"no key 'rnk' there; known: .*rank, alpha, targets"),
        (["--config.model.gelu.rank=1"], r"no key 'gelu' there"),
        (["--config.optm.lr=1"], r"no key 'optm' there; known: .*optim"),
        (["--config.model.dropout=much"], r"much"),
    ],
)
def test_unknown_keys_are_named_beside_the_known_ones(parsed, arguments, message):
    with pytest.raises(ValueError, match=message):
        parsed(DEMO, *arguments)


def test_another_data_set_drops_the_options_of_the_one_that_it_replaces(parsed):
    """The demo presets options of the renderer; a set of images has others, and the teacher reads the same data."""
    assert {"frames", "size", "users"} == set(parsed(DEMO).data.options)
    config = parsed(DEMO, "--config.data.dataset=folder", "--config.data.options.subject_level=1")
    for data in (config.data, config.teachers.spoof.config.data):
        assert (data.dataset, data.options.to_dict()) == ("folder", {"subject_level": 1})
    config = parsed(DEMO, "--config.data.dataset=simulated+folder")
    assert {"frames", "size", "users"} == set(config.data.options)


def test_a_config_without_such_overrides_stays_as_it_is(parsed):
    for name, module in (("kdfas_demo", kdfas_demo), ("kdfas_oulu", kdfas_oulu), ("ablation", ablation)):
        config = parsed(f"--config=configs/{name}.py", *["--config.seed=0"] * (name != "ablation"))
        assert config.to_dict() == module.get_config().copy_and_resolve_references().to_dict()


def test_a_mode_may_be_the_first_argument_and_configs_are_found_from_anywhere(parsed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = parsed("speed", "--config=configs/teachers/domains.py", "--batch=1,4")
    assert (cli.MODE.value, config.name, flags.numbers(flags.BATCH, (1,))) == ("speed", "domains", (1, 4))
    Path("configs").mkdir()
    Path("configs", "kdfas_demo.py").write_text("import ml_collections\nget_config = ml_collections.ConfigDict\n")
    assert parsed("--config=configs/kdfas_demo.py").to_dict() == {}
    assert configs.located("configs/none.py:a=b") == "configs/none.py:a=b"
    parsed("--mode=train", "--batch=0", f"--config={ROOT}/configs/kdfas_demo.py")
    with pytest.raises(ValueError, match=r"--batch=0: expected whole numbers of 1 or more, joined by commas"):
        flags.numbers(flags.BATCH, (1,))


def test_the_help_names_every_mode_flag_and_config(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdfas", "predict", "--help"])
    cli.run()
    shown = capsys.readouterr().out
    assert all(f"\n  {mode} " in shown for mode in verbs.MODES)
    assert all(f"\n  --{name} " in shown for name in ("workdir", "config", "options", "topology"))
    assert "configs/teachers/domains.py" in shown
    assert max(map(len, shown.splitlines())) <= 100

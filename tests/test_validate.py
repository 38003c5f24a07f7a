"""A value that no run can use is refused before anything starts, with its key, what was found, what is expected."""

import math
import re

import pytest

from input_pipeline.stream import pipeline
from kdfas_jax.commands import ablation, train
from kdfas_jax.commands.benchmark import benchmark
from kdfas_jax.performance import plan
from kdfas_jax.training import validate
from tests.test_configs import CONFIGS, load

WRONG = (
    ("seed", -1, "a whole number, 0 or more"),
    ("mesh.fsdp", 0, "a whole number, 1 or more, or -1"),
    ("mesh.data", -2, "a whole number, 1 or more, or -1"),
    ("model.classes", -1, "a whole number, 0 or more"),
    ("train.batch_size", 0, "a whole number, 1 or more"),
    ("train.epochs", math.nan, "a finite number above 0"),
    ("train.epochs", 0.0, "a finite number above 0"),
    ("train.eval_epochs", 0.0, "a finite number above 0"),
    ("eval.batch_size", 0, "a whole number, 1 or more"),
    ("eval.stability", -1, "a whole number, 0 or more"),
    ("optim.lr", -1e-3, "a finite number above 0"),
    ("optim.lr", math.inf, "a finite number above 0"),
    ("optim.min_lr", -1e-5, "a finite number, 0 or more"),
    ("optim.warmup_epochs", -1.0, "a finite number, 0 or more"),
    ("optim.weight_decay", -0.05, "a finite number, 0 or more"),
    ("optim.b1", 2.0, "a number in [0, 1)"),
    ("optim.b2", 1.0, "a number in [0, 1)"),
    ("optim.clip_norm", -1.0, "a finite number, 0 or more"),
    ("optim.accumulate", 0, "a whole number, 1 or more"),
    ("optim.every.generator", 0, "steps between two updates"),
    ("terms.ce.weight", math.nan, "a finite number, 0 (off) or more"),
    ("terms.kl.weight", -1.0, "a finite number, 0 (off) or more"),
    ("terms.kl.temperature", -3.0, "a finite number above 0"),
    ("terms.ce.smoothing", 2.0, "a number in [0, 1)"),
    ("terms.covariance.form", "croos", "one of cross, gram, cka, regression"),
    ("terms.covariance.lift", -1, "a whole number, 0 or more"),
    ("terms.covariance.momentum", 1.0, "a number in [0, 1)"),
    ("daa.target", "all", "one of uniform, confuse"),
    ("data.target", "colour", "one of label, identity"),
    ("data.image_size", 0, "a whole number, 1 or more"),
    ("data.record_size", 0, "a whole number, 1 or more"),
    ("data.scale", 0.0, "a finite number above 0"),
    ("data.dev_share", 1.0, "a number in [0, 1)"),
    ("data.augment.crop", 0.0, "a number in (0, 1]"),
    ("data.augment.box.scale", -0.1, "a finite number, 0 or more"),
    ("data.augment.box.shift", 1.0, "a number in [0, 1)"),
    ("data.augment.erasing", 1.5, "a number in [0, 1]"),
    ("data.augment.degrade", -0.1, "a number in [0, 1]"),
    ("data.augment.mixup", -0.8, "a finite number, 0 or more"),
    ("data.augment.cutmix", math.nan, "a finite number, 0 or more"),
    ("data.augment.randaugment.magnitude", 11, "a number in [0, 10]"),
    ("data.attack.probability", 1.0, "a number in [0, 1)"),
    ("data.attack.recapture", 1.1, "a number in [0, 1]"),
)


def changed(config, key, value):
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid(name):
    validate.check(load(name))


@pytest.mark.parametrize("base", ["kdfas_demo", "kdfas_light", "kdfas_daa_demo", "dtda_demo", "mtkd_demo"])
def test_every_variant_of_an_ablation_is_valid(base):
    study = load("ablation", f"base={base},seeds=1")
    validate.check(study)
    for name in study.names:
        validate.check(ablation.variant(study.base, study.variants[name], 0))


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_a_wrong_value_is_named_in_one_line(key, value, words):
    with pytest.raises(ValueError, match=re.escape(f"config.{key}={value!r}: expected {words}")) as caught:
        validate.check(changed(load("kdfas_daa_demo"), key, value))
    assert "\n" not in str(caught.value)


def test_two_axes_cannot_both_take_what_is_left():
    with pytest.raises(ValueError, match=r"config\.mesh=\{'data': -1, 'fsdp': -1\}: expected -1 for one axis"):
        validate.check(changed(load("kdfas_demo"), "mesh.fsdp", -1))


def test_a_weight_of_an_average_that_forgets_nothing_is_refused():
    """`optim.ema` is checked where a config has it."""
    validate.check(changed(load("kdfas_demo"), "optim.ema", 0.999))
    with pytest.raises(ValueError, match=r"config\.optim\.ema=1\.0: expected a number in \[0, 1\)"):
        validate.check(changed(load("kdfas_demo"), "optim.ema", 1.0))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("teachers.spoof.config.optim.lr", -1.0, "config.teachers.spoof.config.optim.lr=-1.0: expected"),
        ("teachers.spoof.config.model.name", "vti", "config.teachers.spoof.config: unknown model name 'vti'"),
        ("teachers.domains.config.terms.ce.kind", "ec", "config.teachers.domains.config: config.terms.ce.kind='ec'"),
        ("terms.covariance.scale", "batch", "covariance form='cka', scale='batch': known are cross, gram, cka, "),
        ("terms.kl.teacher", "face", "config.terms.kl.teacher='face' is not in config.teachers"),
    ],
)
def test_the_configs_of_teachers_are_checked_too(key, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        validate.check(changed(load("kdfas_daa_demo"), key, value))


def test_a_teacher_is_not_called_as_the_student():
    config = load("kdfas_daa_demo")
    with config.unlocked():
        config.teachers["student"] = config.teachers.domains
    with pytest.raises(ValueError, match=r"^config\.teachers\.student: expected another name, as config\.daa"):
        validate.check(config)


@pytest.mark.parametrize(
    "start",
    [
        lambda config, folder: train.train(config, folder),
        lambda config, _: plan.plan(config, "cpu:1"),
        lambda config, _: plan.largest_batch(config, "v5e:2x2"),
        lambda config, _: benchmark.benchmark(config, ["input"]),
    ],
    ids=["train", "plan", "sweep", "benchmark"],
)
def test_no_verb_begins_with_a_wrong_config(start, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "gather", lambda _: pytest.fail("data were opened"))
    with pytest.raises(ValueError, match=r"^config\.teachers\.spoof\.config\.optim\.b1=2\.0: expected"):
        start(changed(load("kdfas_demo"), "teachers.spoof.config.optim.b1", 2.0), str(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base.optim.lr", 0.0, "config.base.optim.lr=0.0: expected"),
        ("variants.none.terms.ce.weight", -1.0, "config.variants.none.terms.ce.weight=-1.0: expected"),
        ("seeds", (), "config.seeds=(): expected one seed or more"),
        ("seeds", (0, -1), "config.seeds=(0, -1): expected"),
    ],
)
def test_an_ablation_checks_its_base_and_all_variants_first(key, value, message, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("a run was started"))
    study = changed(load("ablation", "base=kdfas_demo,seeds=2,variants=none+kl"), key, value)
    with pytest.raises(ValueError, match=re.escape(message)):
        ablation.ablate(study, str(tmp_path))
    assert not list(tmp_path.iterdir())

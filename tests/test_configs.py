"""Every config builds, and every name in it resolves."""

import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd
import pytest

from input_pipeline import datasets
from input_pipeline.select import protocols, roles
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import rehearse
from kdfas_jax.commands.export import export
from kdfas_jax.objective import passes, perturb
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.training import experiment, step, teachers
from tests.conftest import listed_table

ROOT = Path(__file__).resolve().parents[1]
OF_A_VIT = ("kdfas_nuaa", "kdfas_oulu", "kdfas_pod", "kdfas_huge")  # each with a config of its teacher
STUDENTS = ("kdfas_demo", "kdfas_light", "released", *OF_A_VIT)
DAA = ("kdfas_daa_demo", "kdfas_daa")
DUAL = ("dtda_demo", "dtda_ocim")
BOTH = ("mtkd_demo", "mtkd_celeba_spoof")
FOUNDATION = ("foundation_ocim",)
ROBUST = ("robust_demo",)
ATTACKED = (*DAA, *DUAL, *ROBUST)
CONFIGS = tuple(name.replace("/", ".") for name in rehearse.names())  # all of configs/


def load(name, argument=""):
    return importlib.import_module(f"configs.{name}").get_config(argument)


@functools.cache
def outputs(model, size):
    """Shapes of a model's named outputs for two images; several configs share a teacher."""
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0][1], images)


def trained_outputs(config):
    """Shapes of what the terms read of a student."""
    model, size = models.create(config.model), config.data.image_size
    images, labels = jnp.zeros((2, size, size, 3)), jnp.zeros((2, model.classes))

    def run():
        return passes.training_pass(model, step.init_variables(model, size, 0), images, labels, jax.random.key(0))[0]

    return jax.eval_shape(run)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_name_in_a_config_resolves(name):
    config = load(name)
    model = models.create(config.model)
    objective = Objective(config.terms, config.teachers)
    taught = {name: config.teachers[name].config for name in objective.teachers}
    outs = {name: outputs(models.create(teacher.model), teacher.data.image_size) for name, teacher in taught.items()}
    student = trained_outputs(config)
    width = student["logits"].shape[-1] if "logits" in student else 0
    batch = {"label": jax.ShapeDtypeStruct((2, width), jnp.float32)}
    batch |= {name: jax.ShapeDtypeStruct((2,), jnp.int32) for name in ("domain", "identity")}
    batch["truth"] = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8)
    params = jax.eval_shape(lambda: objective.init(jax.random.key(0), student, outs))
    loss, _ = jax.eval_shape(objective, student, outs, batch, params)
    assert loss.shape == ()
    assert (perturb.of_config(config) is not None) == (name in ATTACKED)
    assert set(config.data.dataset.split("+")) <= set(datasets.READERS)
    assert protocols.folds(config.data.protocol)
    assert config.data.image_size % getattr(model, "patch", 1) == 0
    jax.eval_shape(lambda: step.init(experiment.of_config(config)))
    assert config.data.target in targets.TARGETS
    for teacher in config.teachers.values():
        assert not teacher.config.teachers or name in FOUNDATION


@pytest.mark.parametrize("name", [*STUDENTS, *DAA])
def test_the_teacher_sees_the_data_and_the_seed_of_its_student(name):
    config = load(name)
    config.data.protocol = "changed"
    config.seed = 17
    assert config.teachers.spoof.config.data.protocol == "changed"
    assert config.teachers.spoof.config.data.options == config.data.options
    assert config.teachers.spoof.config.seed == 17


def test_the_teacher_alone_is_the_teacher_of_the_student():
    for name in OF_A_VIT:
        assert load(f"teachers.{name}").to_dict() == load(name).teachers.spoof.config.to_dict()


def test_published_parameter_counts():
    """The published checkpoint sizes are the sizes of B/16 and S/16 with two classes (docs/methods.md)."""
    config = load("kdfas_oulu")
    assert models.count(config.model, 224) == 21_666_434
    assert models.count(config.teachers.spoof.config.model, 224) == 85_800_194


def test_the_recipe_is_the_published_one():
    config = load("kdfas_oulu")
    assert (config.train.batch_size, config.train.epochs) == (128, 300)
    assert (config.terms.ce.weight, config.terms.kl.weight, config.terms.covariance.weight) == (0.3, 0.7, 1.0)
    assert config.terms.kl.temperature == 3.0
    assert config.terms.ce.smoothing == 0.1
    augment = config.data.augment
    assert (augment.mixup, augment.cutmix, augment.erasing) == (0.8, 1.0, 0.25)
    assert augment.randaugment.magnitude == 9
    assert (config.optim.lr, config.optim.weight_decay, config.optim.min_lr) == (5e-4, 0.05, 1e-5)
    assert config.optim.warmup_epochs == 5


@pytest.mark.parametrize("name", [*CONFIGS, "ablation"])
def test_a_docstring_says_how_to_run_it(name):
    module = importlib.import_module(f"configs.{name}")
    commands = re.findall(r"python main\.py.*?--config=(configs/\S+?\.py)", module.__doc__)
    assert commands or "python main.py" in module.__doc__
    assert all((ROOT / path).exists() for path in commands)


def test_the_face_teachers_may_be_published_weights(tmp_path):
    """The published checkpoint of the discriminator is a separate file."""
    files = [tmp_path / name for name in ("iresnet18.pth", "200000-D.ckpt")]
    files[1].touch()
    config = load("dtda_ocim", f"protocol=OMI-C,raw_dir=sets,perceptual={files[0]},generative={files[1]}")
    assert [config.teachers[name].checkpoint for name in ("perceptual", "generative")] == [str(path) for path in files]
    assert config.teachers.generative.config.model.name == "stargan_discriminator"
    assert config.teachers.perceptual.config.model.variant == "18"
    assert config.teachers.domains.config.data.protocol == "ocim:OMI-C"


def test_the_domain_classifier_sees_the_data_and_the_seed_of_its_student():
    for name in (*DAA, *DUAL):
        config = load(name)
        config.data.protocol, config.seed = "ocim:ICM-O", 17
        classifier = config.teachers.domains.config
        assert (classifier.data.protocol, classifier.data.target, classifier.seed) == ("ocim:ICM-O", "domain", 17)
        if name in DUAL:
            perceptual = config.teachers.perceptual.config
            assert (perceptual.seed, perceptual.data.protocol) == (0, "official")


def test_no_two_models_of_a_config_begin_alike():
    """The domain classifier, the teachers and the student of one seed have seeds of their own, by role."""
    for name in (*STUDENTS, *DAA, *DUAL, *BOTH, *FOUNDATION):
        config = load(name)
        runs = [config, *(teacher.config for teacher in config.teachers.values())]
        assert len({experiment.seed_of(run) for run in runs}) == len(runs) > 1, name


@pytest.mark.parametrize(("data", "sets"), [("", "oulu+casia+replay+msu"), ("data=simulated", "simulated")])
def test_kdfas_daa_is_the_published_kdfas_and_an_attack(data, sets):
    """Without E_d it is kdfas_oulu on OCIM, with the same teacher; only the rehearsal's pictures are of all domains."""
    config, plain = load("kdfas_daa", data), load("kdfas_oulu", f"protocol=ocim:OCI-M,data={sets}")
    plain.data.options = config.data.options
    assert config.teachers.spoof.config.to_dict() == plain.teachers.spoof.config.to_dict()
    assert set(config.teachers) - set(plain.teachers) == {"domains"}
    changed = {"name", "teachers", "daa"}
    assert {key for key in config if config.to_dict()[key] != plain.to_dict()[key]} == changed
    assert config.daa.to_dict() == plain.daa.to_dict() | {"classifier": "domains"}
    own = load("teachers.domains", data)
    own.data.options = config.data.options
    assert config.teachers.domains.config.to_dict() == own.to_dict()


@pytest.mark.parametrize(
    ("variant", "read", "attacked"),
    [
        ("none", set(), False),
        ("daa", set(), True),
        ("kdfas", {"spoof"}, False),
        ("kdfas_daa", {"spoof"}, True),
    ],
)
def test_each_part_of_kdfas_daa_is_switched_alone(variant, read, attacked):
    from kdfas_jax.commands import ablation

    study = load("ablation", "base=kdfas_daa_demo,seeds=2")
    assert list(study.names) == ["none", "daa", "kdfas", "kdfas_daa"]
    config = ablation.variant(study.base, study.variants[variant], 1)
    assert set(Objective(config.terms, config.teachers).teachers) == read
    assert bool(perturb.of_config(config)) == attacked
    weights = {name: term.weight for name, term in config.terms.items() if term.weight}
    assert weights == ({"ce": 0.3, "kl": 0.7, "covariance": 10.0} if read else {"ce": 1.0})
    assert {teacher.config.seed for teacher in config.teachers.values()} == {config.seed} == {1}


@pytest.mark.parametrize(
    ("variant", "read", "attacked"),
    [
        ("erm", set(), False),
        ("dat", set(), False),
        ("daa", set(), True),
        ("perceptual", {"perceptual"}, True),
        ("generative", {"generative"}, True),
        ("dtda", {"perceptual", "generative"}, True),
    ],
)
def test_each_part_of_dtda_is_switched_alone(variant, read, attacked):
    from kdfas_jax.commands import ablation

    study = load("ablation", "base=dtda_demo,seeds=2")
    assert list(study.names) == ["erm_long", "erm", "dat", "daa", "perceptual", "generative", "dtda"]
    config = ablation.variant(study.base, study.variants[variant], 1)
    assert set(Objective(config.terms, config.teachers).teachers) == read
    assert bool(perturb.of_config(config)) == attacked
    assert (config.terms.adversary.weight > 0) == (variant == "dat")


def test_dtda_is_held_against_erm_of_the_same_flops():
    from kdfas_jax.commands import ablation

    study = load("ablation", "base=dtda_demo")
    assert set(study.controls.values()) == {"erm_long"}
    runs = {name: ablation.variant(study.base, study.variants[name], 0) for name in ("erm_long", "dtda")}
    flops = {name: run.train.epochs * experiment.of_config(run).flops() for name, run in runs.items()}
    assert flops["erm_long"] == pytest.approx(flops["dtda"], rel=0.05)
    assert runs["erm_long"].optim.warmup_epochs / runs["erm_long"].train.epochs == pytest.approx(1 / 6)


def test_ablation_variants_change_only_the_terms():
    config = load("ablation", "base=kdfas_oulu,data=simulated,seeds=2,variants=none+kl_gram")
    assert config.base.data.dataset == "simulated"
    assert tuple(config.seeds) == (0, 1)
    assert set(config.variants) == {"none", "kl_gram"}
    from kdfas_jax.commands.ablation import variant

    run = variant(config.base, config.variants.none, 1)
    assert (run.terms.kl.weight, run.terms.covariance.weight, run.terms.ce.weight, run.seed) == (0, 0, 1, 1)
    assert run.teachers.spoof.config.seed == 1
    assert variant(config.base, config.variants.kl_gram, 0).terms.covariance.form == "gram"
    with pytest.raises(KeyError, match="kle"):
        variant(config.base, {"terms": {"kle": {"weight": 0.0}}}, 0)


def test_types_of_arguments_are_checked():
    with pytest.raises(ValueError, match="seeds='many': expected int"):
        load("ablation", "seeds=many")


def test_terms_of_the_configs_give_finite_gradients():
    config = load("kdfas_demo")
    objective = Objective(config.terms, config.teachers)
    key = jax.random.key(0)
    student = {"logits": jax.random.normal(key, (8, 2)), "class_tokens": jax.random.normal(key, (6, 8, 16))}
    teacher = {"logits": jax.random.normal(key, (8, 2)), "stages": [jax.random.normal(key, (8, 2, 2, 24))] * 4}
    batch = {"label": jnp.eye(2)[jnp.zeros(8, int)]}
    grads = jax.jit(jax.grad(lambda out: objective(out, {"spoof": teacher}, batch)[0]))(student)
    assert all(jnp.isfinite(leaf).all() and (leaf != 0).any() for leaf in jax.tree.leaves(grads))
    assert not grads["class_tokens"][:4].any()  # the last two blocks alone are matched


@pytest.mark.parametrize("name", ["teachers.recognition_demo", "teachers.domains_demo", "teachers.editor_demo"])
def test_the_classes_of_a_demo_are_those_of_its_training_data(name):
    """From the readers' tables alone: nothing is rendered."""
    config = load(name)
    table = listed_table(datasets.get(config.data.dataset).read(**config.data.options)).assign(found=True)
    selectable = table if config.data.target == "domain" else roles.for_recognition(table)
    assigned = protocols.assign(selectable, config.data.protocol)
    data = Data(table.assign(role=assigned), [], "", {}, tuple(config.data.attributes))
    targets.get(config.data.target).check_classes(data, config.model.classes)
    assert min(data.count(role) for role in ("train", "dev", "test")) >= 240


@pytest.mark.parametrize("role", ["student", "recognition"])
def test_student_and_recogniser_of_mtkd_learn_the_same_people(role, monkeypatch):
    config = load("mtkd_demo")
    sets = config.data.dataset.split("+")
    known = {name: datasets.options(datasets.get(name)) for name in sets}
    options = {name: {key: value for key, value in config.data.options.items() if key in known[name]} for name in sets}
    read = [listed_table(datasets.get(name).read(**options[name])).assign(found=True) for name in sets]
    everything = Data(pd.concat(read, ignore_index=True), [], "", {})
    monkeypatch.setattr(pipeline, "gather", lambda _: everything)
    taught = config if role == "student" else config.teachers.recognition.config
    data = pipeline.open_data(taught.data, targets.get(taught.data.target))
    targets.get(taught.data.target).check_classes(data, taught.model.classes)
    assert {role: data.count(role) > 300 for role in protocols.SPLITS} == dict.fromkeys(protocols.SPLITS, True)


@pytest.mark.parametrize(
    ("variant", "read"),
    [
        ("alone", set()),
        ("kl", {"spoof"}),
        ("align", {"recognition", "spoof"}),
        ("mtakd", {"recognition", "spoof"}),
    ],
)
def test_each_part_of_mtkd_is_switched_alone(variant, read):
    from kdfas_jax.commands import ablation

    study = load("ablation", "base=mtkd_demo,seeds=2")
    assert list(study.names) == ["alone", "kl", "align", "mtakd"]
    config = ablation.variant(study.base, study.variants[variant], 1)
    assert set(Objective(config.terms, config.teachers).teachers) == read
    kinds = {term.kind for term in config.terms.values() if term.weight}
    assert {"arcface", "cross_entropy"} <= kinds
    assert ("kl" in kinds, "align" in kinds) == (variant in ("kl", "mtakd"), variant in ("align", "mtakd"))
    assert config.seed == 1
    assert config.teachers.spoof.config.seed == 0  # one pair of teachers for all


def test_mtkd_on_real_faces_is_a_thirtieth_of_its_teachers():
    """The published ratio of sizes: class centres, which nobody deploys, are counted apart."""
    counted = teachers.parameters(load("mtkd_celeba_spoof"))
    assert counted["student"] == 2_060_546
    assert counted["training_only"]["student"] == 10_167_554 - 2_060_546
    assert counted["training_only"]["teachers"] == {"recognition": 10_167_554 - 2_060_546, "spoof": 0}
    assert 1 - counted["student"] / sum(counted["teachers"].values()) == pytest.approx(0.984, abs=5e-4)


def test_a_bundle_states_what_is_deployed_and_what_only_training_used():
    config = load("mtkd_celeba_spoof")
    results = {"step": 1, "finished": True, "protocol": "intra_test", "threshold": {}, "dev": {}, "test": {}}
    model = export.describe(config, results, "dev")["model"]
    assert model["parameters"] == 2_060_546
    assert model["training_only_parameters"] == 8_107_008


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("teachers.domains_demo", "protocol=ocim:OCI-M,classes=3"),
        ("kdfas_daa_demo", "protocol=OMI-C"),
        ("kdfas_daa", "data=simulated"),
    ],
)
def test_the_domain_classifier_of_a_fold_learns_its_sources(name, argument):
    config = load(name, argument)
    classifier = config.teachers.domains.config if config.teachers else config
    table = listed_table(datasets.get("simulated").read(**config.data.options)).assign(found=True)
    roles = protocols.assign(table, config.data.protocol)
    targets.DOMAIN.check_classes(Data(table.assign(role=roles), [], "", {}), classifier.model.classes)


def test_the_recognition_recipe_is_the_published_one():
    config = load("teachers.recognition", "raw_dir=faces,classes=70")
    assert (config.model.classes, config.data.raw_dir) == (70, "faces")
    assert (config.terms.arcface.s, config.terms.arcface.m, config.train.batch_size) == (64.0, 0.5, 512)
    assert (config.data.align, config.data.scale, config.data.image_size) == (True, 1.0, 112)
    counted = models.parameters(config.model, 112)
    assert counted == (models.count({"name": "iresnet", "variant": "50"}, 112), 70 * 512)


def test_reading_a_config_touches_no_device():
    """Devices are counted, and processes meet, after the config has been read; this fails where it came too late."""
    script = (
        "import importlib, jax\n"
        "for name in ('kdfas_oulu', 'dtda_ocim'):\n"
        "    importlib.import_module(f'configs.{name}').get_config('data=simulated')\n"
        "jax.config.update('jax_num_cpu_devices', 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_domain_adversary_is_for_runs_that_tell_live_from_attack():
    from kdfas_jax.commands import train

    config = load("dtda_demo")
    config.daa.classifier, config.terms.adversary.weight, config.data.target = "", 1.0, "identity"
    with pytest.raises(ValueError, match=r"config\.terms\.adversary reads domains: expected config\.data\.target"):
        train.check_domains(config, None, experiment.of_config(config))


@pytest.mark.parametrize(("name", "teacher"), [("kdfas_daa_demo", "domains"), ("mtkd_demo", "spoof")])
def test_a_teacher_of_the_same_images_follows_the_students_choice_of_them(name, teacher):
    """Else it would train on what the student leaves out, which may be what the student is judged on."""
    config = load(name)
    config.data.extra_sources, config.data.train_species = ("celeba_spoof",), ("live", "print")
    own = config.teachers[teacher].config.data
    assert (own.extra_sources, own.train_species) == (("celeba_spoof",), ("live", "print"))


def test_the_foundation_chain_shares_data_and_seed_and_names_the_towers_blocks():
    """Light student, ViT-S/16 and tower; a tower's own normalisation; its blocks spread over the twelve of the S/16."""
    config = load("foundation_ocim", "tower=clip-L/14,weights=ViT-L-14.pt,raw_dir=sets")
    config.data.protocol, config.seed = "ocim:OMI-C", 17
    student = config.teachers.spoof.config
    tower = student.teachers.spoof.config
    for teacher in (student, tower):
        assert (teacher.data.protocol, teacher.seed, teacher.data.raw_dir) == ("ocim:OMI-C", 17, "sets")
    assert (config.init, student.init, tower.init) == ("", "", "ViT-L-14.pt")
    assert models.create(tower.model).mean == models.create({"name": "vit", "variant": "clip-B/16"}).mean
    assert student.terms.covariance.stages == tuple((block, 2 * block) for block in range(1, 13))
    assert models.count(config.model, 224) == 702_354
    direct = load("foundation_ocim", "tower=siglip-B/16,light=False")
    assert (direct.model.variant, direct.terms.covariance.stages) == ("S/16", ((12, 1),))

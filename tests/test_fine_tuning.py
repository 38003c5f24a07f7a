"""LoRA, frozen blocks and layer-wise learning rates: what is trained, what is kept of it, and what it costs."""

import dataclasses
import functools
import hashlib
import shutil

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import traverse_util

from configs import common
from kdfas_jax import models
from kdfas_jax.models import fine_tuning, vit
from kdfas_jax.models.published import weights
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.parallel import sharding
from kdfas_jax.training import checkpoint, initial, optim, step, validate
from kdfas_jax.training.experiment import Experiment
from tests.conftest import saved_items

SIZE = 16
TOWER = {"name": "vit", "variant": "dinov2-reg-S/8", "width": 16, "depth": 3, "heads": 2}
LORA = {"rank": 2, "alpha": 4.0, "targets": ("qkv", "out", "fc1", "fc2")}
CONFIG = common.base("tuned").optim
BASE, TUNED = models.create(TOWER), models.create({**TOWER, "lora": LORA})
IMAGES = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32)


@functools.partial(jax.jit, static_argnums=0)
def computed(model, variables):
    """(logits, outputs) of IMAGES; compiled once for a model, whichever tests ask for it."""
    return model.apply(variables, IMAGES)


@functools.cache
def random(model, seed=0):
    """Random variables, adapters included."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: step.init_variables(model, SIZE, 0))
    return jax.device_put(jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes))


def made(model=TUNED, optimiser=None, **options):
    """An experiment of cross-entropy alone."""
    objective = Objective({"ce": {"kind": "cross_entropy", "weight": 1.0}}, {})
    return Experiment(model, SIZE, objective, optimiser or optax.adamw(1e-2), 0, **options)


@jax.jit
def begin():
    """The state before the first step, with adapters and an average."""
    return step.init(made(ema=0.9))


def batch(number=0, b=8):
    rng = np.random.default_rng(number)
    images = rng.integers(0, 256, (b, SIZE, SIZE, 3), dtype=np.uint8)
    return {"image": images, "label": np.eye(2, dtype=np.float32)[rng.integers(0, 2, b)]}


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of `trained`, with the checkpoint of step 17."""
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def trained(folder):
    """(before, after 20 steps, and after 20 steps of which the last ones are resumed) with adapters and an average."""
    of, mesh, state = made(ema=0.9), sharding.make_mesh({"data": -1}), begin()
    before, run = jax.device_get(state), step.compiled(of, mesh, state)
    resumed = None
    with checkpoint.Checkpoints(str(folder)) as checkpoints:
        for number in range(20):
            if number == 17:
                checkpoints.save(state, None, {"step": number})
                checkpoints.wait()
                resumed = checkpoints.restore(17, abstract(state))
            rows = sharding.place_batch(mesh, batch(number))
            state, _ = run(state, {}, rows, np.uint32(0))
            if resumed is not None:
                resumed, _ = run(resumed, {}, rows, np.uint32(0))
    return before, jax.device_get(state), jax.device_get(resumed)


def abstract(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)


def test_new_adapters_change_no_bit():
    variables = begin().variables
    without = {name: leaf for name, leaf in flat(variables["params"]).items() if "_lora/" not in name}
    plain = {**variables, "params": traverse_util.unflatten_dict(without, sep="/")}
    assert len(flat(variables["params"])) - len(without) == 8
    adapted, _ = computed(TUNED, variables)
    np.testing.assert_array_equal(adapted, computed(BASE, plain)[0])


def test_merged_adapters_compute_the_same():
    variables = random(TUNED)
    expected, out = jax.device_get(computed(TUNED, variables))
    fields, merged = fine_tuning.merge({**TOWER, "lora": LORA}, variables)
    found, merged_out = jax.device_get(computed(models.create(fields), merged))
    assert not any("_lora" in name for name in flat(merged["params"]))
    for ours, theirs in ((found, expected), (merged_out["class_tokens"], out["class_tokens"])):
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
    of_base = {name: variables["params"]["blocks"][name] for name in merged["params"]["blocks"]}
    forgotten = np.asarray(computed(BASE, {**merged, "params": {**merged["params"], "blocks": of_base}})[0])
    assert np.linalg.norm(forgotten - expected) > 1e-2 * np.linalg.norm(expected)  # the adapters did something


def test_frozen_leaves_stay_and_have_no_optimiser_state(trained):
    before, after, _ = trained
    names = set(flat(before.params))
    frozen = set(before.frozen)
    assert {name.split("/")[-2] for name in names - frozen} == {
        *(f"{name}_lora" for name in LORA["targets"]),
        *("norm1", "norm2", "norm", "head"),
    }
    moments = [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(after.opt_state)
    ]
    assert any("qkv_lora" in name for name in moments)
    assert not [name for name in moments if any(name.endswith(f"params/{leaf}") for leaf in frozen)]
    for kept, later in ((before.params, after.params), (before.params, after.ema["params"])):
        for name, leaf in flat(kept).items():
            assert np.array_equal(leaf, flat(later)[name]) == (name in frozen), name


def test_a_resumed_run_is_bit_identical(trained):
    _, after, resumed = trained
    assert int(after.step) == 20
    jax.tree.map(np.testing.assert_array_equal, resumed, after)


def test_a_checkpoint_holds_what_is_trained_and_the_rest_is_written_once(trained, folder):
    """The file's bytes are those of the frozen parameters alone, whichever run writes them."""
    before, _, _ = trained
    directory, names = folder / "checkpoints", set(flat(before.params))
    with checkpoint.open_finished(str(folder)) as checkpoints:
        note = checkpoints.meta(17)
    items = saved_items(folder, 17)
    assert set(flat(items["params"])) == set(flat(items["ema"]["params"])) == names - set(before.frozen)
    frozen = {name: flat(before.params)[name] for name in before.frozen}
    found = safetensors.numpy.load_file(directory / checkpoint.BASE)
    assert found.keys() == frozen.keys()
    jax.tree.map(np.testing.assert_array_equal, found, frozen)
    content = (directory / checkpoint.BASE).read_bytes()
    assert note == {"step": 17, "base": hashlib.sha256(content).hexdigest()}
    assert content == safetensors.numpy.save(dict(sorted(frozen.items())))


def test_every_reader_gets_all_parameters_of_a_moved_run(trained, folder, tmp_path):
    before, _, _ = trained
    moved = shutil.copytree(folder, tmp_path / "moved")
    shapes = jax.eval_shape(begin)
    chosen, last, variables = checkpoint.deployed(str(moved), shapes.variables)
    assert (chosen, last) == (17, 17)
    found, start = flat(variables["params"]), flat(before.params)
    assert {name for name in start if np.array_equal(found[name], start[name])} == set(before.frozen)


@pytest.mark.parametrize("harm", ["damaged", "another", "missing"])
def test_another_base_is_one_clear_error(trained, folder, tmp_path, harm):
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "config.json").write_text('{"config": {}, "command": ["main.py", "--config=tuned.py"]}')
    path = moved / "checkpoints" / checkpoint.BASE
    content = path.read_bytes()
    path.unlink()
    if harm == "damaged":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if harm == "another":
        safetensors.numpy.save_file({name: np.float32([0]) for name in trained[0].frozen}, path)
    expected, shapes = hashlib.sha256(content).hexdigest(), jax.eval_shape(begin)
    mend = r"copy it from .* or remove .*/checkpoints and train again: python main\.py --config=tuned\.py"
    message = rf"base\.safetensors is .*SHA-256.*{expected}, .* of step 17; {mend}$"
    with checkpoint.open_finished(str(moved)) as checkpoints:
        for read in (checkpoints.restore, lambda *of: checkpoints.restore_variables(of[0], of[1].variables)):
            with pytest.raises(ValueError, match=message) as error:
                read(17, shapes)
            assert "\n" not in str(error.value)


def test_what_a_killed_write_of_the_base_has_left_goes_when_the_run_goes_on(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved") / "checkpoints"
    rest = moved / f"{checkpoint.BASE}.tmp12"
    rest.write_bytes(b"half")
    with checkpoint.open_finished(str(moved.parent)):
        assert rest.exists()  # a reader changes nothing
    with checkpoint.Checkpoints(str(moved.parent)):
        assert not rest.exists()
        assert (moved / checkpoint.BASE).read_bytes() == (folder / "checkpoints" / checkpoint.BASE).read_bytes()


def test_a_run_whose_checkpoints_hold_all_parameters_is_restored_and_goes_on(tmp_path):
    """As an older version saved it; the next save writes the base."""
    state = begin()
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(state.replace(frozen=()), None, {"step": 0})
    assert not (tmp_path / "checkpoints" / checkpoint.BASE).exists()
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        found = checkpoints.restore(0, abstract(state))
        jax.tree.map(np.testing.assert_array_equal, found, state)
        checkpoints.save(found.replace(step=jnp.int32(1)), None, {"step": 1})
        checkpoints.wait()
        for number in (0, 1):
            again = checkpoints.restore(number, abstract(state))
            jax.tree.map(np.testing.assert_array_equal, again.replace(step=state.step), state)


def test_adapters_are_counted_and_save_flops():
    """The analytic count is what the compiler counts of the step; without adapters the step costs a half more."""

    def counted(model, **options):
        of = made(
            models.create(
                {**model, "variant": "dinov2-reg-S/14", "width": 384, "heads": 6, "depth": 2, "unroll": True}
            ),
            **options,
        )
        of = dataclasses.replace(of, image_size=112)
        rows = {
            "image": jax.ShapeDtypeStruct((8, 112, 112, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((8, 2), jnp.float32),
        }
        state = jax.eval_shape(lambda: step.init(of))
        flops = jax.jit(step.make(of)).lower(state, {}, rows, np.uint32(0)).cost_analysis()["flops"]
        return flops, flops / 8 / of.flops()

    full, ratio = counted(TOWER)
    assert 0.98 < ratio < 1.06
    tuned, ratio = counted({**TOWER, "lora": {**LORA, "rank": 8}})
    assert 0.98 < ratio < 1.06
    assert tuned < 0.75 * full
    assert models.parameters({**TOWER, "lora": LORA}, SIZE).training_only == 3 * 2 * (
        16 + 48 + 16 + 16 + 16 + 64 + 64 + 16
    )


def test_frozen_blocks_and_what_is_before_them_stay():
    config = ml_collections.ConfigDict({**CONFIG, "freeze_blocks": 2})
    of = made(BASE, optim.make(config, lambda _: 1e-2), freeze_blocks=2)
    state = jax.eval_shape(lambda: step.init(of)).replace(step=np.int32(0), **random(BASE))
    state = state.replace(opt_state=jax.jit(of.optimiser.init)(state.trained))
    after, _ = jax.jit(step.make(of))(state, {}, batch())
    before, after = flat(jax.device_get(state.params)), flat(jax.device_get(after.params))
    assert set(state.frozen) == {"patch/kernel", "patch/bias", "cls", "pos", "registers"}
    for name, leaf in before.items():
        rows = 2 if name.startswith("blocks/") else len(leaf) if name in state.frozen else 0
        np.testing.assert_array_equal(after[name][:rows], leaf[:rows], err_msg=name)
    assert not np.array_equal(after["blocks/fc1/kernel"][2], before["blocks/fc1/kernel"][2])


def test_the_learning_rate_decays_from_the_head_to_the_embedding():
    """An update of Adam's first step is the learning rate, so that the steps show the rates."""
    config = ml_collections.ConfigDict({**CONFIG, "layer_decay": 0.5, "weight_decay": 0.0})
    update = optim.make(config, lambda _: 1.0)
    params = {"params": random(BASE)["params"], "term_params": {"align": {"kernel": np.ones((2, 2), np.float32)}}}
    gradients = jax.tree.map(np.ones_like, params)
    updates, _ = jax.jit(lambda: update.update(gradients, update.init(params), params))()
    found = {name: np.unique(np.round(-np.asarray(leaf), 4)) for name, leaf in flat(updates).items()}
    np.testing.assert_allclose(found["params/blocks/fc1/kernel"], [0.125, 0.25, 0.5], atol=1e-3)
    np.testing.assert_allclose(found["params/patch/kernel"], [0.0625], atol=1e-3)
    for name in ("params/head/kernel", "params/norm/scale", "term_params/align/kernel"):
        np.testing.assert_allclose(found[name], [1.0], atol=1e-3)


def test_a_start_from_a_run_with_adapters_takes_them_merged(tmp_path, monkeypatch):
    """A run without adapters, or with others, starts from what the first run computes."""
    theirs = common.base("first")
    theirs.model, theirs.data.image_size = {**TOWER, "lora": LORA}, SIZE
    variables = random(TUNED)
    monkeypatch.setattr(initial.workdir, "read", lambda _: {"config": theirs.to_dict()})
    monkeypatch.setattr(initial.checkpoint, "deployed", lambda *_: (1, 1, variables))
    config = common.base("second")
    config.model, config.data.image_size, config.init = dict(TOWER), SIZE, str(tmp_path)
    found, _ = initial.load(config, BASE, random(BASE, 1), sharding.make_mesh({"data": -1, "fsdp": 1}))
    ours, theirs = (computed(model, of)[0] for model, of in ((BASE, found), (TUNED, variables)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.lora", {"rank": 2, "targets": ("value",)}, r"lora\.targets=\('value',\): expected one or more of qkv"),
        ("model.lora", {"ranks": 2}, "unknown options ranks of lora; known: rank, alpha, targets, base_dtype"),
        ("model.lora", {"base_dtype": "int8"}, r"lora\.base_dtype='int8': expected one of float32, bfloat16"),
        ("model.lora", {"rank": -1}, r"config\.model\.lora\.rank=-1: expected a whole number, 0 or more"),
        ("optim.freeze_blocks", 13, r"freeze_blocks=13: expected at most the model's 12"),
        ("optim.layer_decay", 1.5, r"layer_decay=1\.5: expected a number in \(0, 1\]"),
    ],
)
def test_wrong_options_are_refused(key, value, message):
    config = common.base("wrong")
    group, name = key.split(".")
    config[group][name] = value
    with pytest.raises(ValueError, match=message):
        validate.check(config)


def test_a_model_without_blocks_has_none_to_freeze():
    config = common.base("resnet")
    config.model, config.optim.freeze_blocks = {"name": "resnet", "variant": "18"}, 1
    with pytest.raises(ValueError, match="a ResNet has no blocks"):
        validate.check(config)


def test_the_frozen_kernels_may_be_bf16(tmp_path, monkeypatch):
    """A model that computes in bf16 gives the same bits; imports, checkpoints and the merge know the type."""
    fields = {**TOWER, "dtype": "bfloat16", "lora": {**LORA, "base_dtype": "bfloat16"}}
    model, whole = models.create(fields), models.create({**fields, "lora": LORA})
    shapes = jax.eval_shape(lambda: step.init(made(model)))
    state = jax.device_put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
    kept = {name.split("/", 1)[1] for name, leaf in flat(state.params).items() if leaf.dtype == jnp.bfloat16}
    assert kept == {f"{layer}/{of}" for layer in ("qkv", "out", "fc1", "fc2") for of in ("kernel", "bias")}
    variables = random(TUNED)
    rounded = jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), variables, state.variables)
    rounded = jax.device_put(rounded)
    logits = [computed(of, has)[0] for of, has in ((whole, variables), (model, rounded))]
    np.testing.assert_array_equal(*logits)

    found, merged = fine_tuning.merge(fields, rounded)
    assert {leaf.dtype for leaf in flat(merged["params"]).values()} == {np.dtype(np.float32)}
    assert models.create(found).lora.rank == 0
    with checkpoint.Checkpoints(str(tmp_path)) as checkpoints:
        checkpoints.save(state.replace(params=rounded["params"]), None, {"step": 0})
        checkpoints.wait()
        restored = checkpoints.restore(0, abstract(state))
    for name, leaf in flat(restored.params).items():
        assert leaf.dtype == flat(rounded["params"])[name].dtype
        np.testing.assert_array_equal(leaf, flat(rounded["params"])[name])
    published = {name: np.asarray(leaf) for name, leaf in flat(variables["params"]).items()}
    monkeypatch.setitem(weights.CONVERTERS, vit.ViT, lambda *_: (published, {}))
    monkeypatch.setattr(weights, "read", lambda _: {})
    imported, _ = weights.load("tower.safetensors", model, state.variables)
    jax.tree.map(np.testing.assert_array_equal, imported, rounded)


def test_lora_of_a_config_is_read_back():
    assert vit.lora_of(ml_collections.ConfigDict(LORA)) == vit.lora_of({**LORA, "targets": list(LORA["targets"])})
    assert vit.lora_of(None).rank == 0

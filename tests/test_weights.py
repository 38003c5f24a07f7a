"""Import of published weights: parity with the golden outputs, resizing, heads, and every refusal."""

import pickle
import sys
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from kdfas_jax.models import vit
from kdfas_jax.models.published import match as weights_match
from kdfas_jax.models.published import vit as weights_vit
from kdfas_jax.models.published import weights
from tests import golden_files
from tests.golden_files import distance

TINY = {"width": 16, "depth": 2, "heads": 2, "patch": 8, "classes": 3}
KEPT = {"resized": False, "head_replaced": False, "dropped": []}  # facts of a file that fits the model


def initialise(size=32, seed=0, **fields):
    """A tiny model and random parameters, drawn without compiling its own initialisation."""
    model = vit.create(**{**TINY, **fields})
    rng = np.random.default_rng(seed)
    return model, jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes(model, size))


def shapes(model, size=224):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]


def load(path, model, params):
    """`weights.load` of a model without batch statistics: (parameters, facts)."""
    variables, facts = weights.load(path, model, {"params": params, "batch_stats": {}})
    assert variables["batch_stats"] == {}
    return variables["params"], facts


def golden_logits(path, model, images):
    """Imports a golden checkpoint over zeros and runs it: logits, outputs, facts."""
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(model))
    params, facts = load(path, model, fresh)
    return *jax.jit(model.apply)({"params": params}, images), facts


def as_timm(params, depth=2, patch=8):
    """A timm state dict of our parameters, written independently of the importer."""
    p = jax.tree.map(np.asarray, params)
    kernel = p["patch"]["kernel"].reshape(patch, patch, 3, -1)
    state = {
        "cls_token": p["cls"],
        "pos_embed": p["pos"],
        "patch_embed.proj.weight": np.einsum("pqcd->dcpq", kernel),
        "patch_embed.proj.bias": p["patch"]["bias"],
        "norm.weight": p["norm"]["scale"],
        "norm.bias": p["norm"]["bias"],
        "head.weight": p["head"]["kernel"].T,
        "head.bias": p["head"]["bias"],
    }
    names = {"qkv": "attn.qkv", "out": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for i in range(depth):
        for part, leaves in p["blocks"].items():
            bias = leaves["bias"][i].ravel()
            weight = leaves["kernel"][i].reshape(-1, bias.size).T if "kernel" in leaves else leaves["scale"][i]
            state[f"blocks.{i}.{names.get(part, part)}.weight"] = weight
            state[f"blocks.{i}.{names.get(part, part)}.bias"] = bias
    return {key: np.ascontiguousarray(value) for key, value in state.items()}


def as_augreg(params, heads=2, released=False):
    """An augreg archive of our parameters; `released` numbers a block's parts as the released files do."""
    p = jax.tree.map(np.asarray, params)
    state = {
        "cls": p["cls"],
        "Transformer/posembed_input/pos_embedding": p["pos"],
        "embedding/kernel": p["patch"]["kernel"].reshape(8, 8, 3, -1),
        "embedding/bias": p["patch"]["bias"],
    }
    attention, norm2, mlp = ("_1", "LayerNorm_2", "_3") if released else ("_0", "LayerNorm_1", "_0")
    attention, mlp = f"MultiHeadDotProductAttention{attention}", f"MlpBlock{mlp}"
    names = {"norm1": "LayerNorm_0", "norm2": norm2, "fc1": f"{mlp}/Dense_0", "fc2": f"{mlp}/Dense_1"}
    names["out"] = f"{attention}/out"
    for module in ("norm", "head"):
        for leaf, value in p[module].items():
            state[f"{'Transformer/encoder_norm' if module == 'norm' else module}/{leaf}"] = value
    for i in range(len(p["blocks"]["qkv"]["bias"])):
        block = f"Transformer/encoderblock_{i}"
        for part, leaves in p["blocks"].items():
            for leaf, value in leaves.items():
                if part == "qkv":
                    for third, name in enumerate(("query", "key", "value")):
                        own = value[i][..., third, :, :]
                        state[f"{block}/{attention}/{name}/{leaf}"] = own.reshape(*own.shape[:-2], heads, -1)
                elif part == "out" and leaf == "kernel":
                    state[f"{block}/{names[part]}/{leaf}"] = value[i].reshape(heads, -1, value.shape[-1])
                else:
                    state[f"{block}/{names[part]}/{leaf}"] = value[i]
    return state


def save(state, path):
    if path.suffix == ".npz":
        np.savez(path, **state)
    else:
        save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("variant", "golden"),
    [
        ("S/16", "vit_small_patch16_224"),
        pytest.param("B/16", "vit_base_patch16_224", marks=pytest.mark.slow),
    ],
)
def test_timm_parity(variant, golden, tmp_path):
    spec, theirs = golden_files.load(f"timm_{golden}")
    path = save(golden_files.golden_parameters(spec), tmp_path / "model.safetensors")

    logits, out, facts = golden_logits(path, vit.create(variant, classes=1000), golden_files.image(spec))

    assert facts == {"format": "timm", "family": "vit", "gelu": "exact", **KEPT}
    assert distance(logits, theirs["logits"]) <= 1e-4
    for ours, block in zip(out["class_tokens"][..., :8], theirs["class_tokens_first8"], strict=True):
        assert distance(ours, block) <= 1e-4


@pytest.mark.parametrize(("variant", "golden"), [("S/16", "S16"), pytest.param("B/16", "B16", marks=pytest.mark.slow)])
def test_augreg_parity(variant, golden, tmp_path):
    spec, theirs = golden_files.load(f"augreg_{golden}")
    path = save(golden_files.golden_parameters(spec), tmp_path / "model.npz")

    logits, _, facts = golden_logits(path, vit.create(variant, classes=1000, gelu="tanh"), golden_files.image(spec))

    assert facts == {"format": "augreg", "family": "vit", "gelu": "tanh", **KEPT}
    assert distance(logits, theirs["logits"]) <= 1e-4


@pytest.mark.parametrize("released", [False, True])
def test_augreg_numbering_of_released_and_of_new_archives(released, tmp_path):
    model, params = initialise(gelu="tanh")
    found, _ = load(save(as_augreg(params, released=released), tmp_path / "m.npz"), model, params)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_half_precision_becomes_fp32(tmp_path):
    model, params = initialise()
    state = {key: value.astype(ml_dtypes.bfloat16) for key, value in as_timm(params).items()}
    found, _ = load(save(state, tmp_path / "m.safetensors"), model, params)
    rounded = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, found, rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_position_embedding_is_resized_and_keeps_the_class_slot(tmp_path):
    _, small = initialise(size=32)
    ramp = np.arange(16, dtype=np.float32).reshape(4, 4)  # linear: interpolation keeps it, away from the border
    pos = np.concatenate([[-7], ramp.ravel()])[None, :, None] * np.ones(16)
    model, params = initialise(size=64)
    state = as_timm({**small, "pos": pos.astype(np.float32)})
    found, facts = load(save(state, tmp_path / "m.safetensors"), model, params)

    assert facts["resized"]
    assert not facts["head_replaced"]
    assert found["pos"].shape == (1, 65, 16)
    np.testing.assert_array_equal(found["pos"][0, 0], -7)
    grid = found["pos"][0, 1:, 0].reshape(8, 8)
    rows = (np.arange(8) + 0.5) / 2 - 0.5  # centres of the new patches on the old grid
    np.testing.assert_allclose(grid[3:5, 3:5], (4 * rows[:, None] + rows)[3:5, 3:5], atol=1e-4)


def test_resize_refuses_a_grid_without_class_slot():
    with pytest.raises(ValueError, match=r"m\.npz: 196 position embeddings are not a class token and a square grid"):
        weights_vit.resize(np.zeros((1, 196, 4)), 50, "m.npz")


@pytest.mark.parametrize("has_head", [True, False])
def test_head_of_another_class_count_is_replaced(has_head, tmp_path):
    _, source = initialise(classes=10, seed=1)
    state = as_timm(source)
    if not has_head:
        state = {key: value for key, value in state.items() if not key.startswith("head")}
    model, params = initialise(classes=2)
    found, facts = load(save(state, tmp_path / "m.safetensors"), model, params)
    assert facts["head_replaced"]
    assert facts["dropped"] == (["head.bias", "head.weight"] if has_head else [])
    jax.tree.map(np.testing.assert_array_equal, found, {**source, "head": params["head"]})


def test_pre_logits_goes_with_its_head_and_is_refused_beside_a_kept_one(tmp_path):
    model, params = initialise(gelu="tanh")
    extra = {"pre_logits/kernel": np.zeros((16, 16), np.float32), "pre_logits/bias": np.zeros(16, np.float32)}
    kept = save(as_augreg(params) | extra, tmp_path / "kept.npz")
    with pytest.raises(ValueError, match=r"pre_logits/kernel: unexpected, found \(16, 16\)"):
        load(kept, model, params)
    _, other = initialise(classes=21)
    replaced = save(as_augreg(other) | extra, tmp_path / "replaced.npz")
    _, facts = load(replaced, model, params)
    assert facts["dropped"] == ["head/bias", "head/kernel", "pre_logits/bias", "pre_logits/kernel"]


def test_another_architecture_is_refused_with_names_and_shapes(tmp_path):
    model, params = initialise()
    _, wide = initialise(width=32)
    with pytest.raises(
        ValueError, match=r"m\.safetensors \(timm\) is not a ViT of patch 8, width 16, depth 2"
    ) as error:
        load(save(as_timm(wide), tmp_path / "m.safetensors"), model, params)
    assert "blocks/0/fc1/bias: expected (64,), found (128,)" in str(error.value)
    assert "more" in str(error.value)

    _, deep = initialise(depth=3)
    with pytest.raises(ValueError, match=r"blocks/2/\w+/\w+: unexpected, found"):
        load(save(as_timm(deep, depth=3), tmp_path / "deep.safetensors"), model, params)

    state = as_timm(params)
    del state["blocks.1.norm2.bias"]
    state["blocks.0.ls1.gamma"] = np.zeros(16, np.float32)
    with pytest.raises(ValueError, match=r"blocks/1/norm2/bias: expected \(16,\), missing") as error:
        load(save(state, tmp_path / "ragged.safetensors"), model, params)
    assert "blocks/0/ls1: unexpected, found (16,)" in str(error.value)


def test_distilled_deit_is_named(tmp_path):
    model, params = initialise()
    state = as_timm(params) | {"dist_token": np.zeros((1, 1, 16), np.float32)}
    with pytest.raises(ValueError, match="distilled DeiT, with a dist_token"):
        load(save(state, tmp_path / "m.safetensors"), model, params)


def test_another_activation_or_head_count_is_refused(tmp_path):
    model, params = initialise()
    with pytest.raises(ValueError, match=r"trained with the tanh GELU.*set gelu='tanh'"):
        load(save(as_augreg(params), tmp_path / "m.npz"), model, params)
    with pytest.raises(ValueError, match="has 4 attention heads, the model 2"):
        load(save(as_augreg(params, heads=4), tmp_path / "h.npz"), model.clone(gelu="tanh"), params)


def test_unknown_format_file_kind_and_damage_are_named(tmp_path):
    model, params = initialise()
    with pytest.raises(ValueError, match=r"no known ViT format: it has .*conv1\.weight"):
        load(save({"conv1.weight": np.zeros(3)}, tmp_path / "resnet.safetensors"), model, params)
    with pytest.raises(ValueError, match=r"m\.h5: unknown kind of checkpoint; expected one of \.safetensors, \.npz"):
        load(tmp_path / "m.h5", model, params)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.npz"):
        load(tmp_path / "absent.npz", model, params)
    for name in ("torn.npz", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a"):
            load(tmp_path / name, model, params)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    """Training on them would end in a loss that is not finite, for which no learning rate is to blame."""
    model, params = initialise()
    params["blocks"]["fc1"]["kernel"] = params["blocks"]["fc1"]["kernel"].copy()
    params["blocks"]["fc1"]["kernel"][1, 2, 3] = np.nan
    path = save(as_timm(params), tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors: .* not finite, first in params/blocks/fc1/kernel;"):
        load(path, model, params)


def test_npz_with_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", evil=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"m\.npz cannot be read.*pickle"):
        weights.read(tmp_path / "m.npz")


class Tensor:
    """As much of a torch tensor as the importer uses."""

    def __init__(self, array):
        self.array = array

    def float(self):
        return self

    def numpy(self):
        return self.array


@pytest.mark.parametrize("wrapped", [True, False])
def test_pth_is_read_without_pickled_code_and_unwrapped(wrapped, tmp_path, monkeypatch):
    model, params = initialise()
    state = {key: Tensor(value) for key, value in as_timm(params).items()}

    def torch_load(path, *, map_location, weights_only):
        assert map_location == "cpu"
        assert weights_only is True
        return {"model": state} if wrapped else state

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=torch_load, __version__="2.10.0+cpu"))
    (tmp_path / "deit.pth").touch()
    found, facts = load(tmp_path / "deit.pth", model, params)
    assert facts["format"] == "timm"
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_pth_without_torch_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "deit.pth").touch()
    with pytest.raises(ImportError, match=r"deit\.pth is a PyTorch file.*pip install torch"):
        weights.read(tmp_path / "deit.pth")


def test_a_torch_whose_weights_only_could_be_got_round_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.5.1+cpu"))
    (tmp_path / "deit.pth").touch()
    with pytest.raises(ImportError, match=r"deit\.pth .* 2\.5\.1\+cpu .*CVE-2025-32434.*expected 2\.6 or later"):
        weights.read(tmp_path / "deit.pth")


def test_torchs_text_that_teaches_unsafe_loading_is_not_shown(tmp_path, monkeypatch):
    def torch_load(path, *, map_location, weights_only):
        raise pickle.UnpicklingError("Weights only load failed.\n(1) Re-run with weights_only=False ...")

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=torch_load, __version__="2.6.0"))
    (tmp_path / "deit.pth").touch()
    with pytest.raises(
        ValueError, match=r"deit\.pth cannot be read .* pickled objects, which are never loaded"
    ) as error:
        weights.read(tmp_path / "deit.pth")
    assert "weights_only" not in str(error.value)
    assert "\n" not in str(error.value)


def test_mismatch_lists_missing_unexpected_and_misshapen():
    expected = {"a": {"kernel": np.zeros((2, 3)), "bias": (3,)}, "c": np.zeros(4)}
    found = {"a/kernel": np.zeros((2, 4)), "a/bias": (3,), "d": jax.ShapeDtypeStruct((5,), np.float32)}
    assert weights_match.mismatch(expected, found) == [
        "a/kernel: expected (2, 3), found (2, 4)",
        "c: expected (4,), missing",
        "d: unexpected, found (5,)",
    ]
    assert weights_match.mismatch(expected, traverse_util.flatten_dict(expected, sep="/")) == []

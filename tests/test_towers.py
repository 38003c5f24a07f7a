"""Foundation towers: parity with timm and Hugging Face at random weights, published names, refusals."""

import functools
import json
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from kdfas_jax.models import vit
from kdfas_jax.models.published import torchscript, weights
from kdfas_jax.models.published import vit as weights_vit
from tests import golden_files
from tests.golden_files import GOLDEN, distance

TOWERS, OUTPUTS = golden_files.load("towers")
PUBLISHED = json.loads((GOLDEN / "published_towers.json").read_text())
LARGE = 84  # px, of the run whose position grid is resized from that of 56 px


def tower(name, **fields):
    """(spec, the model of that family) of a golden tower."""
    spec = TOWERS[name]
    return spec, vit.create(f"{spec['family']}-S/14", **{**spec["fields"], **fields})


@functools.cache
def fresh(model, size):
    """Zeros in the shapes of the model's variables at `size` px."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    return {"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), "batch_stats": {}}


def written(name, spec, folder):
    """A file of the golden tower's parameters, as people have it."""
    if name == "openai_clip":
        return GOLDEN / "openai_clip.pt"
    state = golden_files.golden_parameters(spec)
    path = folder / ("model.npz" if name.startswith("big_vision") else "model.safetensors")
    np.savez(path, **state) if path.suffix == ".npz" else save_file(state, path)
    return path


def outputs(model, variables, size):
    """The model's outputs for the golden images of `size` px."""
    spec = {"seed": 11, "input": f"random((2, 3, {size}, {size})) as b c h w"}
    return jax.device_get(jax.jit(model.apply)({"params": variables["params"]}, golden_files.image(spec))[1])


@pytest.mark.parametrize("name", TOWERS)
def test_parity_at_random_weights(name, tmp_path):
    """Whatever the package returned, to 1e-4: head's input, all class tokens, and logits where the file has a head."""
    spec, model = tower(name)
    path = written(name, spec, tmp_path)
    variables, facts = weights.load(path, model, fresh(model, 56))
    found = outputs(model, variables, 56)
    for output in ("logits", "pre_logits", "class_tokens"):
        if f"{name}/{output}" in OUTPUTS:
            assert distance(found[output], OUTPUTS[f"{name}/{output}"]) <= 1e-4, output
    assert facts["family"] == {"mae": "vit", "dinov2-reg": "dinov2", "openclip": "clip"}.get(
        spec["family"], spec["family"]
    )
    assert facts["head_replaced"] == (f"{name}/logits" not in OUTPUTS)
    assert not facts["resized"]


@pytest.mark.parametrize("name", ["timm_dinov2_reg", "timm_dinov3", "timm_clip", "timm_siglip"])
def test_parity_of_a_resized_position_grid(name, tmp_path):
    spec, model = tower(name)
    variables, facts = weights.load(written(name, spec, tmp_path), model, fresh(model, LARGE))
    found = outputs(model, variables, LARGE)
    assert facts["resized"] == (model.position == "learned")
    for output in ("logits", "pre_logits", "class_tokens"):
        assert distance(found[output], OUTPUTS[f"{name}/{output}_large"]) <= 1e-4, output


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("timm_clip", {"gelu": "exact"}),
        ("timm_dinov3", {"norm_eps": 1e-4}),
        ("timm_clip", {"mean": 0.5, "std": 0.5}),
    ],
)
def test_the_tolerance_tells_settings_apart_that_shapes_do_not_show(name, wrong, tmp_path):
    spec, model = tower(name)
    variables, _ = weights.load(written(name, spec, tmp_path), model, fresh(model, 56))
    found = outputs(model.clone(**wrong), variables, 56)
    assert distance(found["pre_logits"], OUTPUTS[f"{name}/pre_logits"]) > 1.5e-4


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes_are_those_of_a_variant(name):
    """The first block of every published file, by its package's own names, is all that the variant expects."""
    listed = PUBLISHED[name]
    assert vit.create(listed["variant"]).depth == listed["depth"]
    model = vit.create(listed["variant"], depth=1)
    theirs = {key: np.broadcast_to(np.int8(0), shape) for key, shape in listed["parameters"].items()}
    image = 224 // model.patch * model.patch
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, image, image, 3)))["params"]
    expected = {
        key: np.broadcast_to(np.float32(0), leaf.shape)
        for key, leaf in traverse_util.flatten_dict(shapes, sep="/").items()
    }
    found, facts = weights_vit.convert(theirs, model, expected, name)
    assert {key: value.shape for key, value in found.items()} == {key: leaf.shape for key, leaf in expected.items()}
    assert facts["head_replaced"]


def test_a_wrong_pair_names_what_is_missing_and_the_variant(tmp_path):
    spec, _ = tower("timm_dinov2_reg")
    path = written("timm_dinov2_reg", spec, tmp_path)
    plain = vit.create("S/14", **spec["fields"])
    with pytest.raises(
        ValueError, match=r"(?s)model\.safetensors \(timm\) is not a ViT of patch 14.*registers: unexpected"
    ) as e:
        weights.load(path, plain, fresh(plain, 56))
    clip = vit.create("clip-S/14", **spec["fields"])
    with pytest.raises(ValueError, match=r"norm_pre/bias: expected \(32,\), missing"):
        weights.load(path, clip, fresh(clip, 56))
    assert len(str(e.value).splitlines()) <= 10


def test_the_variant_of_a_published_size_is_suggested():
    listed = PUBLISHED["facebook/dinov2-with-registers-base"]["parameters"]
    arrays = {key: np.broadcast_to(np.int8(0), of) for key, of in listed.items()}
    found = weights_vit.both_names(arrays, "huggingface")[1]
    twelve = {f"blocks/{i}/norm1/bias": 0 for i in range(12)}
    assert weights_vit.suggested_variant(found | twelve, "dinov2") == ", such as dinov2-reg-B/14"


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("hf_siglip", {"gelu": "exact"}, "trained with the tanh GELU"),
        ("timm_dinov2", {"mean": 0.5, "std": 0.5}, r"is a dinov2 tower, trained with mean \(0\.485"),
        ("timm_clip", {"norm_eps": 1e-6}, "epsilon of 1e-05, the model has norm_eps=1e-06"),
    ],
)
def test_settings_that_files_were_not_trained_with_are_refused(name, fields, message, tmp_path):
    spec, model = tower(name, **fields)
    with pytest.raises(ValueError, match=message):
        weights.load(written(name, spec, tmp_path), model, fresh(model, 56))


def test_a_projection_is_left_out_where_the_model_has_none():
    model = tower("openai_clip", projection=0)[1]
    _, facts = weights.load(GOLDEN / "openai_clip.pt", model, fresh(model, 56))
    assert facts["dropped"] == ["projection.weight"]


def test_bfloat16_in_an_npz_is_read(tmp_path):
    np.savez(tmp_path / "m.npz", x=np.asarray(jnp.arange(3, dtype=jnp.bfloat16)))
    np.testing.assert_array_equal(weights.read(tmp_path / "m.npz")["x"], np.arange(3, dtype=np.float32))


def test_a_torchscript_archive_runs_no_code(tmp_path):
    """An archive whose pickle names anything but modules and tensors is refused before it is called."""
    assert torchscript.holds(GOLDEN / "openai_clip.pt")
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(Evil()))
        archive.writestr("evil/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read.*builtins\.print, which is no module or tensor"):
        weights.read(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "dino-B/14"}, "FAMILY of mae, dinov2"),
        ({"position": "rotary", "width": 36, "heads": 6}, "head width 6: rotary"),
        ({"pool": "attention", "registers": 4}, "no class token"),
        ({"mlp": "relu"}, "mlp='relu'; expected one of gelu, swiglu"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        vit.create(**fields)


@pytest.mark.parametrize("variant", ["dinov2-reg-S/14", "siglip-S/16", "dinov3-S/16"])
def test_flops_of_a_tower_are_those_that_the_compiler_counts(variant):
    model = vit.create(variant, depth=2, unroll=True, projection=64)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    counted = jax.jit(model.apply).lower(shapes, images).cost_analysis()["flops"]
    assert 1 <= counted / vit.flops(model, 224) < 1.06  # norms, softmax, rotation and GELU come on top

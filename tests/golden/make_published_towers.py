"""Makes published_towers.json of this folder, the names and shapes of published files; no test runs it.

    PYTHONPATH=. /tmp/timm/bin/python tests/golden/make_published_towers.py    (packages as in make_towers.py)

The shapes are those of the packages' own classes at the published configurations; no weights are fetched.
"""

import json
import pathlib
import tempfile

import safetensors.numpy
import timm
import torch
import transformers as t

HERE = pathlib.Path(__file__).parent
LETTERS = {"small": "S", "base": "B", "large": "L", "giant": "g"}
# timm's models that people have files of: name -> variant of kdfas_jax.
TIMM = {
    **{f"vit_{size}_patch14_dinov2": f"dinov2-{letter}/14" for size, letter in LETTERS.items()},
    **{f"vit_{size}_patch14_reg4_dinov2": f"dinov2-reg-{letter}/14" for size, letter in LETTERS.items()},
    **{f"vit_{size}_patch16_dinov3": f"dinov3-{letter}/16" for size, letter in LETTERS.items() if letter != "g"},
    "vit_base_patch16_dinov3_qkvb": "dinov3-B/16",
    "vit_base_patch16_clip_quickgelu_224": "clip-B/16",
    "vit_base_patch32_clip_quickgelu_224": "clip-B/32",
    "vit_large_patch14_clip_quickgelu_224": "clip-L/14",
    "vit_large_patch14_clip_quickgelu_336": "clip-L/14",
    "vit_base_patch32_clip_224": "openclip-B/32",
    "vit_base_patch16_siglip_224": "siglip-B/16",
    "vit_large_patch16_siglip_256": "siglip-L/16",
    "vit_so400m_patch14_siglip_224": "siglip-So400m/14",
    "vit_base_patch16_224": "mae-B/16",
    "vit_large_patch16_224": "mae-L/16",
}
# Letter -> width, heads, depth, hidden width of the MLP.
SIZES = {
    "S": (384, 6, 12, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 16, 24, 4096),
    "g": (1536, 24, 40, None),
    "So400m": (1152, 16, 27, 4304),
}
DINOV2, REGISTERS = (t.Dinov2Model, t.Dinov2Config), (t.Dinov2WithRegistersModel, t.Dinov2WithRegistersConfig)
DINOV3 = (t.DINOv3ViTModel, t.DINOv3ViTConfig)
CLIP, SIGLIP = (t.CLIPVisionModelWithProjection, t.CLIPVisionConfig), (t.SiglipVisionModel, t.SiglipVisionConfig)
# Hugging Face's: name -> ((class, config), variant, image size, other options).
HUGGING_FACE = {
    **{f"facebook/dinov2-{name}": (DINOV2, f"dinov2-{letter}/14", 518, {}) for name, letter in LETTERS.items()},
    **{
        f"facebook/dinov2-with-registers-{name}": (REGISTERS, f"dinov2-reg-{letter}/14", 518, {})
        for name, letter in LETTERS.items()
    },
    **{
        f"facebook/dinov3-vit{letter.lower()}16-pretrain-lvd1689m": (
            DINOV3,
            f"dinov3-{letter}/16",
            224,
            {"num_register_tokens": 4},
        )
        for letter in "SBL"
    },
    "openai/clip-vit-base-patch16": (CLIP, "clip-B/16", 224, {"projection_dim": 512}),
    "openai/clip-vit-base-patch32": (CLIP, "clip-B/32", 224, {"projection_dim": 512}),
    "openai/clip-vit-large-patch14": (CLIP, "clip-L/14", 224, {"projection_dim": 768}),
    "google/siglip-base-patch16-224": (SIGLIP, "siglip-B/16", 224, {}),
    "google/siglip-large-patch16-256": (SIGLIP, "siglip-L/16", 256, {}),
    "google/siglip-so400m-patch14-384": (SIGLIP, "siglip-So400m/14", 384, {}),
    "google/siglip2-base-patch16-224": (SIGLIP, "siglip-B/16", 224, {}),
}


def listed(variant, depth, shapes):
    """An entry of the file: the names and shapes of the first block and of what is outside blocks."""

    def numbers(name):
        return [int(part) for part in name.split(".") if part.isdigit()]

    kept = {name: list(shape) for name, shape in shapes.items() if numbers(name)[:1] in ([], [0])}
    return {"variant": variant, "depth": depth, "parameters": kept}


def of_timm(name, variant):
    """The entry of a model of timm, without a head."""
    with torch.device("meta"):
        pool = {"global_pool": "token"} if "dinov3" in name else {}
        model = timm.create_model(name, num_classes=0, **pool)
    return listed(variant, len(model.blocks), {key: value.shape for key, value in model.state_dict().items()})


def of_hugging_face(parts, variant, image_size, options):
    """The entry of a model of Hugging Face, by the names of the file that it saves; two layers stand for all."""
    kind, config = parts
    letter, patch = variant.split("-")[-1].split("/")
    width, heads, depth, hidden = SIZES[letter]
    options = {**options, "hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": 2}
    options |= {"patch_size": int(patch), "image_size": image_size}
    options |= {"use_swiglu_ffn": True} if hidden is None else {"intermediate_size": hidden}
    with tempfile.TemporaryDirectory() as folder:
        kind(config(**options)).save_pretrained(folder)
        (path,) = pathlib.Path(folder).glob("*.safetensors")
        shapes = {key: value.shape for key, value in safetensors.numpy.load_file(path).items()}
    return listed(variant, depth, shapes)


if __name__ == "__main__":
    found = {f"timm/{name}": of_timm(name, variant) for name, variant in TIMM.items()}
    found |= {name: of_hugging_face(*of) for name, of in HUGGING_FACE.items()}
    (HERE / "published_towers.json").write_text(json.dumps(found) + "\n")

"""Makes towers.json, towers.npz and openai_clip.pt of this folder; no test runs it.

    python3 -m venv /tmp/timm && /tmp/timm/bin/pip install torch==2.13.0 timm==1.0.31 transformers==5.24.0
    PYTHONPATH=. /tmp/timm/bin/python tests/golden/make_towers.py

Every tower is timm's or Hugging Face's class at a width of 32 and a depth of 2; parameters and images follow from the
seed by the rule of README.md, so that only outputs are stored.
"""

import json
import pathlib
import tempfile

import numpy as np
import safetensors.numpy
import torch
import transformers
from timm.layers import LayerNorm, SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from tests import golden_files

HERE = pathlib.Path(__file__).parent
SEED, CLASSES, SMALL, LARGE = 11, 5, 56, 84
STD = "sqrt(1 / prod(shape[1:]))"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)
SIZE = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 14, "img_size": SMALL, "num_classes": CLASSES}
DINOV3 = {
    "qkv_bias": False,
    "global_pool": "token",
    "init_values": 1e-5,
    "rope_type": "dinov3",
    "rope_temperature": 100,
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "dynamic_img_size": True,
    "norm_layer": lambda *sizes, **options: LayerNorm(*sizes, **{**options, "eps": 1e-5}),
}
CLIP = {"pre_norm": True, "norm_layer": DINOV3["norm_layer"]}
SIGLIP = {"class_token": False, "global_pool": "map", "act_layer": "gelu_tanh"}
DINOV2 = {"init_values": 1e-5}
SWIGLU = {**DINOV2, "mlp_ratio": 2.66667 * 2, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
# Name -> (class, options, normalisation, the family of kdfas_jax, fields of `ViT` beside its family's).
TIMM = {
    "timm_mae": (VisionTransformer, {}, IMAGENET, "mae", {}),
    "timm_dinov2": (VisionTransformer, DINOV2, IMAGENET, "dinov2", {}),
    "timm_dinov2_reg": (
        VisionTransformer,
        {**DINOV2, "reg_tokens": 4, "no_embed_class": True},
        IMAGENET,
        "dinov2-reg",
        {},
    ),
    "timm_dinov2_swiglu": (VisionTransformer, SWIGLU, IMAGENET, "dinov2", {"mlp": "swiglu", "mlp_ratio": 2.66667}),
    "timm_dinov3": (Eva, DINOV3, IMAGENET, "dinov3", {}),
    "timm_dinov3_qkvb": (Eva, {**DINOV3, "qkv_bias": True}, IMAGENET, "dinov3", {}),
    "timm_clip": (VisionTransformer, {**CLIP, "act_layer": "quick_gelu"}, OPENAI, "clip", {}),
    "timm_openclip": (VisionTransformer, CLIP, OPENAI, "openclip", {}),
    "timm_siglip": (VisionTransformer, SIGLIP, HALF, "siglip", {}),
}
HF_SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SMALL, "patch_size": 14}
t = transformers
HF = {
    "hf_dinov2": (t.Dinov2Model, t.Dinov2Config(**HF_SIZE), IMAGENET, "dinov2", {}),
    "hf_dinov2_reg": (t.Dinov2WithRegistersModel, t.Dinov2WithRegistersConfig(**HF_SIZE), IMAGENET, "dinov2-reg", {}),
    "hf_dinov3": (
        t.DINOv3ViTModel,
        t.DINOv3ViTConfig(**HF_SIZE, num_register_tokens=4, intermediate_size=128),
        IMAGENET,
        "dinov3",
        {},
    ),
    "hf_clip": (
        t.CLIPVisionModelWithProjection,
        t.CLIPVisionConfig(**HF_SIZE, intermediate_size=128, projection_dim=8),
        OPENAI,
        "clip",
        {"projection": 8},
    ),
    "hf_siglip": (t.SiglipVisionModel, t.SiglipVisionConfig(**HF_SIZE, intermediate_size=128), HALF, "siglip", {}),
}


def spec(shapes, normalisation, family, fields):
    """The entry of a tower in towers.json."""
    fields = {"width": 32, "depth": 2, "heads": 2, "patch": 14, "classes": CLASSES, **fields}
    return {
        "seed": SEED,
        "std": STD,
        "input": f"numpy default_rng({SEED}).random((2, 3, {SMALL}, {SMALL}), float32) as b c h w",
        "normalisation": normalisation,
        "family": family,
        "fields": fields,
        "parameters": {name: list(shape) for name, shape in shapes.items()},
    }


def images(normalisation, size):
    """Normalised images [2, 3, size, size]; those of the larger side have the same seed."""
    drawn = torch.from_numpy(np.random.default_rng(SEED).random((2, 3, size, size), np.float32))
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in normalisation)
    return (drawn - mean) / std


def shapes_of(state):
    """{name: shape} of a state dict."""
    return {name: tuple(value.shape) for name, value in state.items()}


@torch.no_grad()
def timm_outputs(model, normalisation, size):
    """Logits, the head's input, and the class token after each block of a timm model."""
    tokens = []
    hooks = [block.register_forward_hook(lambda *call: tokens.append(call[2][:, 0])) for block in model.blocks]
    features = model.forward_features(images(normalisation, size))
    for hook in hooks:
        hook.remove()
    pooled = model.forward_head(features, pre_logits=True)
    class_tokens = torch.stack(tokens) if model.cls_token is not None else pooled[None]
    found = {"logits": model.head(pooled), "pre_logits": pooled, "class_tokens": class_tokens}
    return {name: value.numpy() for name, value in found.items()}


def both_sizes(model, normalisation):
    """`timm_outputs` at the model's size, and at a larger one with a resized position grid (names end in _large)."""
    small = timm_outputs(model, normalisation, SMALL)
    model.set_input_size(LARGE)
    return small | {f"{name}_large": value for name, value in timm_outputs(model, normalisation, LARGE).items()}


def of_timm(name):
    """(spec, outputs) of a tower of `TIMM`."""
    kind, options, normalisation, family, fields = TIMM[name]
    model = kind(**{**SIZE, **options}).eval()
    entry = spec(shapes_of(model.state_dict()), normalisation, family, fields)
    state = {key: torch.from_numpy(value) for key, value in golden_files.golden_parameters(entry).items()}
    model.load_state_dict(state)
    return entry, both_sizes(model, normalisation)


@torch.no_grad()
def of_hugging_face(name):
    """(spec, outputs) of a tower of `HF`, by the names of the file that it saves."""
    kind, config, normalisation, family, fields = HF[name]
    with tempfile.TemporaryDirectory() as folder:
        kind(config).save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        entry = spec(shapes_of(safetensors.numpy.load_file(path)), normalisation, family, fields)
        safetensors.numpy.save_file(golden_files.golden_parameters(entry), path, {"format": "pt"})
        model = kind.from_pretrained(folder).eval()
    out = model(images(normalisation, SMALL), output_hidden_states=True)
    pooled = out.image_embeds if "image_embeds" in out else out.pooler_output
    hidden = torch.stack([of[:, 0] for of in out.hidden_states[1:]])
    class_tokens = pooled[None] if family == "siglip" else hidden
    return entry, {"pre_logits": pooled.numpy(), "class_tokens": class_tokens.numpy()}


def of_openai():
    """(spec, outputs) of a CLIP in OpenAI's names, which it also saves as a TorchScript archive in half precision."""
    model = VisionTransformer(**{**SIZE, **CLIP, "act_layer": "quick_gelu", "num_classes": 8}).eval()
    block = {"ln_1": 32, "ln_2": 32}
    shapes = {
        "class_embedding": (32,),
        "positional_embedding": (17, 32),
        "proj": (32, 8),
        "conv1.weight": (32, 3, 14, 14),
    }
    for norm in ("ln_pre", "ln_post", *(f"transformer.resblocks.{i}.{name}" for i in range(2) for name in block)):
        shapes |= {f"{norm}.weight": (32,), f"{norm}.bias": (32,)}
    for i in range(2):
        own = f"transformer.resblocks.{i}"
        shapes |= {f"{own}.attn.in_proj_weight": (96, 32), f"{own}.attn.in_proj_bias": (96,)}
        for layer, (outputs, inputs) in {
            "attn.out_proj": (32, 32),
            "mlp.c_fc": (128, 32),
            "mlp.c_proj": (32, 128),
        }.items():
            shapes |= {f"{own}.{layer}.weight": (outputs, inputs), f"{own}.{layer}.bias": (outputs,)}
    shapes = {f"visual.{name}": shape for name, shape in shapes.items()}
    shapes |= {"token_embedding.weight": (9, 16), "ln_final.weight": (16,), "logit_scale": (1,)}  # of the text tower
    entry = spec(shapes, OPENAI, "clip", {"projection": 8})
    state = {name: torch.from_numpy(value).half() for name, value in golden_files.golden_parameters(entry).items()}
    torch.jit.save(torch.jit.script(tree(state)), HERE / "openai_clip.pt")
    model.load_state_dict(checkpoint_filter_fn({name: value.float() for name, value in state.items()}, model))
    out = timm_outputs(model, OPENAI, SMALL)
    return entry, {"pre_logits": out["logits"], "class_tokens": out["class_tokens"]}


class Node(torch.nn.Module):
    """A module that only holds others, so that TorchScript saves their names."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what it is given."""
        return x


def tree(state):
    """Modules that hold the tensors of a state dict under its names."""
    root = Node()
    for name, value in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=False))
    return root


def of_big_vision():
    """(spec, outputs) of a SigLIP in big_vision's names, with stacked blocks, read by timm."""
    attention = dict.fromkeys(("query", "key", "value"), ((32, 2, 16), (2, 16))) | {"out": ((2, 16, 32), (32,))}
    layers = {f"MultiHeadDotProductAttention_0/{name}": shapes for name, shapes in attention.items()}
    layers |= {"MlpBlock_0/Dense_0": ((32, 128), (128,)), "MlpBlock_0/Dense_1": ((128, 32), (32,))}
    shapes = {"embedding/kernel": (14, 14, 3, 32), "embedding/bias": (32,), "pos_embedding": (1, 16, 32)}
    norms = {"Transformer/encoder_norm": (), "MAPHead_0/LayerNorm_0": ()}
    norms |= {f"Transformer/encoderblock/LayerNorm_{i}": (2,) for i in range(2)}
    for norm, stack in norms.items():
        shapes |= {f"{norm}/scale": (*stack, 32), f"{norm}/bias": (*stack, 32)}
    for parent, stack in (("MAPHead_0", ()), ("Transformer/encoderblock", (2,))):
        for layer, (kernel, bias) in layers.items():
            shapes |= {f"{parent}/{layer}/kernel": (*stack, *kernel), f"{parent}/{layer}/bias": (*stack, *bias)}
    shapes["MAPHead_0/probe"] = (1, 1, 32)
    shapes = {f"params/img/{name}": shape for name, shape in shapes.items()}
    shapes |= {"params/txt/head/kernel": (4, 4), "params/t": (1,)}
    entry = spec(shapes, HALF, "siglip", {})
    entry["std"] = "0.1"
    model = VisionTransformer(**{**SIZE, **SIGLIP}).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "siglip.npz"
        np.savez(path, **golden_files.golden_parameters(entry))
        model.load_pretrained(str(path))
    out = timm_outputs(model, HALF, SMALL)
    return entry, {name: out[name] for name in ("pre_logits", "class_tokens")}


def main():
    """Writes the three files."""
    torch.manual_seed(SEED)
    towers = {name: of_timm(name) for name in TIMM} | {name: of_hugging_face(name) for name in HF}
    towers |= {"openai_clip": of_openai(), "big_vision_siglip": of_big_vision()}
    (HERE / "towers.json").write_text(json.dumps({name: entry for name, (entry, _) in towers.items()}) + "\n")
    np.savez(
        HERE / "towers.npz", **{f"{name}/{of}": value for name, (_, out) in towers.items() for of, value in out.items()}
    )


if __name__ == "__main__":
    main()

"""The names that published vision towers have for their parameters, translated to timm's.

One row is a regular expression and what replaces it; the rows are applied in their order. Only the vision tower is
kept: what belongs to a text tower, to masked pre-training or to a loss has no name here and is left out.
"""

import re

import numpy as np

# Hugging Face transformers: ViT, DINOv2 with and without registers, DINOv3, CLIP, SigLIP and SigLIP 2, in the spelling
# of their files and in that of transformers 5.
HUGGING_FACE = (
    (r"^(vit|dinov2|dinov2_with_registers|dinov3_vit|vision_model|model)\.", ""),
    (r"^embeddings\.(cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.(position_embeddings|position_embedding\.weight)$", "pos_embed"),
    (r"^embeddings\.(patch_embeddings\.projection|patch_embeddings|patch_embedding)\.", "patch_embed.proj."),
    (r"^(model\.|encoder\.)?layers?\.(\d+)\.", r"blocks.\2."),
    (r"\.(attention\.attention|attention|self_attn)\.(q|k|v)(uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(layer_norm1|layernorm_before)\.", ".norm1."),
    (r"\.(layer_norm2|layernorm_after)\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^(blocks\.\d+)\.(intermediate\.dense|mlp\.up_proj|mlp\.weights_in)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.(output\.dense|mlp\.down_proj|mlp\.weights_out)\.", r"\1.mlp.fc2."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(layernorm|post_layernorm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.attention\.", "attn_pool."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
    (r"^visual_projection\.", "projection."),
    (r"^classifier\.", "head."),
)
# OpenAI's CLIP and OpenCLIP.
OPENAI = (
    (r"^visual\.", ""),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"^ln_post\.", "norm."),
)
# timm, whose towers in OpenCLIP's files have a prefix, and the files of DINOv2's and DINOv3's authors.
TIMM = (
    (r"^visual\.trunk\.", ""),
    (r"^(register_tokens|storage_tokens)$", "reg_token"),
    (r"\.gamma_(\d)$", r".ls\1.gamma"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
UNUSED = re.compile(
    r"(^|\.)(mask_token|position_ids|periods|bias_mask|logit_scale|logit_bias)$"
    r"|^(text|text_model|text_projection|pooler|local_cls_norm|decoder)[._]|^visual\.head\."
)
# Format -> (a name that its files have, rows, what every name of its vision tower begins with).
FORMATS = {
    "timm": ("patch_embed.proj.weight", TIMM, ""),
    "openclip": ("visual.trunk.patch_embed.proj.weight", TIMM, "visual.trunk."),
    "openai": ("visual.conv1.weight", OPENAI, "visual."),
    "huggingface": ("embeddings.patch_embed", HUGGING_FACE, ""),
}


def to_timm(theirs, format):
    """{timm's name: array} of the vision tower in the PyTorch arrays `theirs` of a `format`, a key of `FORMATS`."""
    _, rows, prefix = FORMATS[format]
    named = {}
    for key, value in theirs.items():
        if not key.startswith(prefix) or UNUSED.search(key):
            continue
        for pattern, replacement in rows:
            key = re.sub(pattern, replacement, key)
        named[key] = value
    _reshape(named)
    _join_attention(named)
    return named


def _reshape(named):
    """Gives tokens and positions timm's three dimensions, and CLIP's projection a dense layer's [out, in]."""
    for key in ("cls_token", "pos_embed"):
        if key in named and named[key].ndim < 3:
            named[key] = named[key].reshape(1, -1, named[key].shape[-1])
    if "proj" in named:  # OpenAI's is a plain matrix [in, out]
        named["projection.weight"] = named.pop("proj").T


def _join_attention(named):
    """Joins queries, keys and values, and splits the pooling's as timm does.

    A missing bias is zero: CLIP's patches, DINOv3's keys. DINOv3's authors mask the bias of the keys, which their files
    hold nevertheless.
    """
    for query in [key for key in named if key.endswith(".attn.q.weight")]:
        block = query.removesuffix("q.weight")
        parts = [f"{block}{part}" for part in "qkv"]
        if not all(f"{part}.weight" in named for part in parts):
            continue  # the comparison with the model names what is missing
        weights = [named.pop(f"{part}.weight") for part in parts]
        none = np.zeros(len(weights[0]), np.float32)
        named[f"{block}qkv.weight"] = np.concatenate(weights)
        named[f"{block}qkv.bias"] = np.concatenate([named.pop(f"{part}.bias", none) for part in parts])
    rotary = "pos_embed" not in named
    for weight in [key for key in named if key.endswith(".attn.qkv.weight")]:
        block, third = weight.removesuffix("qkv.weight"), len(named[weight]) // 3
        none = np.zeros(third, np.float32)
        if f"{block}qkv.bias" not in named:
            separate = [named.pop(f"{block}{part}", none) for part in ("q_bias", "k_bias", "v_bias")]
            named[f"{block}qkv.bias"] = np.concatenate(separate)
        elif rotary:
            named[f"{block}qkv.bias"] = named[f"{block}qkv.bias"].copy()
            named[f"{block}qkv.bias"][third : 2 * third] = 0
    if "patch_embed.proj.weight" in named:
        named.setdefault("patch_embed.proj.bias", np.zeros(len(named["patch_embed.proj.weight"]), np.float32))
    for leaf in ("weight", "bias"):
        if (joined := named.pop(f"attn_pool.in_proj_{leaf}", None)) is not None:
            named[f"attn_pool.q.{leaf}"], named[f"attn_pool.kv.{leaf}"] = np.split(joined, [len(joined) // 3])


def split_stacked(theirs, prefix):
    """The image tower of big_vision's arrays without their `prefix`; stacked blocks [depth, ...] one by one."""
    own = {key.removeprefix(prefix): value for key, value in theirs.items() if key.startswith(prefix)}
    stacked = "Transformer/encoderblock/"
    for key in [key for key in own if key.startswith(stacked)]:
        for number, value in enumerate(own.pop(key)):
            own[key.replace("encoderblock/", f"encoderblock_{number}/")] = value
    return own

"""The same KDFAS step in PyTorch with timm's ViT: what ours is held against (requirements-pytorch.txt).

Run by `pytorch_baseline.Baseline` in a separate process, so that neither framework sees the other's threads: the first
line of its input is the `spec` of the step; every further one is a number of seconds, answered by what
`measure` finds.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional


def vit(spec: dict[str, Any], image_size: int) -> VisionTransformer:
    """timm's ViT with the widths of `spec` = {patch, width, depth, heads, mlp_ratio, classes, ...}, randomly filled."""
    return VisionTransformer(
        img_size=image_size,
        patch_size=spec["patch"],
        embed_dim=spec["width"],
        depth=spec["depth"],
        num_heads=spec["heads"],
        mlp_ratio=spec["mlp_ratio"],
        num_classes=spec["classes"],
    )


def outputs(model: VisionTransformer, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits [b, k] and class tokens [depth, b, d] before the final norm, of normalised images [b, 3, h, w]."""
    last, stages = model.forward_intermediates(images, norm=False, return_prefix_tokens=True, output_fmt="NLC")
    return model.forward_head(last), torch.stack([prefix[:, 0] for _, prefix in stages])


def normalise(images: torch.Tensor, spec: dict[str, Any]) -> torch.Tensor:
    """Returns uint8 images [b, h, w, 3] as fp32 [b, 3, h, w], normalised by the mean and deviation of `spec`."""
    mean, std = (torch.tensor(spec[name], device=images.device) for name in ("mean", "std"))
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def loss_of(student, teacher, labels: torch.Tensor, terms: dict[str, dict[str, Any]]) -> torch.Tensor:
    """ce, kl and covariance (form cross) of (logits, class tokens) pairs, weighted as `terms` says: `losses` in torch.

    All in fp32. `labels` [b, k] are soft targets.
    """
    (logits, tokens), (teacher_logits, teacher_tokens) = (
        [value.float() for value in pair] for pair in (student, teacher)
    )
    ce, kl, covariance = terms["ce"], terms["kl"], terms["covariance"]
    hard = functional.cross_entropy(logits, labels, label_smoothing=ce["smoothing"])
    soft = functional.kl_div(
        functional.log_softmax(logits / kl["temperature"], dim=-1),
        functional.log_softmax(teacher_logits / kl["temperature"], dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    if covariance["stages"]:
        mine, theirs = ([stage - 1 for stage in stages] for stages in zip(*covariance["stages"], strict=True))
        tokens, teacher_tokens = tokens[mine], teacher_tokens[theirs]
    s, t = functional.normalize(tokens, dim=-1), functional.normalize(teacher_tokens, dim=-1)
    residual = t - s @ (s.mT @ t)
    return (
        ce["weight"] * hard
        + kl["weight"] * kl["temperature"] ** 2 * soft
        + covariance["weight"] * residual.square().mean()
    )


def optimiser(model: torch.nn.Module, spec: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW, fused, with weight decay on matrices alone."""
    kernels = [p for name, p in model.named_parameters() if p.ndim > 1 and name not in ("cls_token", "pos_embed")]
    chosen = set(map(id, kernels))
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": kernels, "weight_decay": spec["weight_decay"]}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec["lr"], betas=(spec["b1"], spec["b2"]), fused=True)


def make_step(spec: dict[str, Any], student: VisionTransformer, teacher: VisionTransformer) -> Callable:
    """Returns step(images uint8 [b, h, w, 3], labels [b, k]), which gives the loss and updates `student` in place.

    bfloat16 is autocast over fp32 parameters; `spec["compile"]` compiles both networks.
    """
    update = optimiser(student, spec["optim"])
    student_outputs, teacher_outputs = (
        torch.compile(outputs) if spec["compile"] else outputs for _ in ("student", "teacher")
    )

    def precision(model, images):
        return torch.autocast(images.device.type, torch.bfloat16, enabled=spec[model]["dtype"] == "bfloat16")

    def step(images, labels):
        with torch.no_grad(), precision("teacher", images):
            taught = teacher_outputs(teacher, normalise(images, spec["teacher"]))
        with precision("student", images):
            learnt = student_outputs(student, normalise(images, spec["student"]))
        loss = loss_of(learnt, taught, labels, spec["terms"])
        update.zero_grad(set_to_none=True)
        loss.backward()
        update.step()
        return loss

    return step


def serve(lines: Iterable[str]) -> None:
    """Builds the step, says so, and answers each further line by the rate over that many seconds."""
    lines = iter(lines)
    spec = json.loads(next(lines))
    device, size, b = spec["device"], spec["image_size"], spec["batch_size"]
    torch.set_num_threads(spec["threads"])
    student, teacher = (vit(spec[name], size).to(device) for name in ("student", "teacher"))
    step = make_step(spec, student.train(), teacher.eval())
    images = torch.randint(0, 256, (b, size, size, 3), dtype=torch.uint8, device=device)
    labels = torch.full((b, spec["student"]["classes"]), 1 / spec["student"]["classes"], device=device)
    for _ in range(2):  # memory is found in the first, and kept from the second on
        step(images, labels).item()
    answer({"torch": torch.__version__, "timm": timm.__version__, "threads": torch.get_num_threads()})
    for seconds in map(float, lines):
        answer(measure(lambda: step(images, labels), b, seconds) | {"peak_bytes": peak_bytes(device)})


def measure(run: Callable[[], torch.Tensor], images: int, seconds: float) -> dict[str, float]:
    """Returns {rate, cpu_seconds}: images per second of `run` over `seconds`, and this process's CPU time per image.

    As on our side, the next step is queued while the device still works on the last one.
    """
    started, busy, count, last = time.perf_counter(), time.process_time(), 0, None
    while time.perf_counter() - started < seconds or not count:
        last, before = run(), last
        if before is not None:
            before.item()
        count += images
    last.item()
    elapsed = time.perf_counter() - started
    return {"rate": count / elapsed, "cpu_seconds": (time.process_time() - busy) / count}


def peak_bytes(device: str) -> int:
    """Most memory that this process has held: on its device, or of the host where the device is the CPU."""
    if device == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return torch.cuda.max_memory_allocated()


def answer(values: dict[str, Any]) -> None:
    """One line of JSON to whoever asked."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    serve(sys.stdin)

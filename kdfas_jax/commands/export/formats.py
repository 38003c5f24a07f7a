"""The formats that a forward pass is exported to: how each is written, and how its file is run again.

All read `images` fp32 [b, s, s, 3], RGB in [0, 1], and give `score` = P(live) [b] and `logits` [b, 2], attack and live;
one that also recognises gives its `embedding` [b, d], too, of length 1, so that a dot product of two is their cosine.
"""

import contextlib
import functools
import importlib.util
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

INPUT, OUTPUTS = "images", ("score", "logits", "embedding")  # the last where the model recognises, too
PLATFORMS = "cpu", "cuda", "tpu"  # that the StableHLO file is lowered for
OPSET = 21  # of ONNX: what runtimes since 2024 know [C]
# Primitives that call a function, and the parameter that holds it; remat2 was named checkpoint for a while.
CALLS = {"jit": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
CALLS |= {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
# Numerator and denominator of erf(x) / x in powers of x^2, |x| <= 4: XLA's, which are Eigen's [S].
ERF = (
    (
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ),
    (
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    ),
)

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]  # images -> `OUTPUTS`


class Network(NamedTuple):
    """A forward pass: `jaxpr` maps images [1, s, s, 3], s = `size`, as `forward` does; weights inside, no loops."""

    jaxpr: core.ClosedJaxpr
    size: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what `one` and `many` give."""
        return OUTPUTS[: 1 + len(self.jaxpr.out_avals)]

    def images(self, batch=1) -> jax.ShapeDtypeStruct:
        """What it reads: shape and dtype of `batch` images, a number or a symbol."""
        return jax.ShapeDtypeStruct((batch, self.size, self.size, 3), jnp.float32)

    def one(self, images: jax.Array, replaced: Mapping[str, Callable] = {}) -> tuple[jax.Array, ...]:
        """Returns `outputs`, [1, ...] each, of images [1, s, s, 3], with primitives `replaced` as in `_evaluate`."""
        logits, *embedding = _evaluate(self.jaxpr.jaxpr, self.jaxpr.consts, [images], replaced)
        return jax.nn.softmax(logits)[:, 1], logits, *embedding

    def many(self, images: jax.Array) -> tuple[jax.Array, ...]:
        """Returns `outputs`, [b, ...] each, of images [b, s, s, 3]; b may be symbolic, which not all models allow."""
        return tuple(found[:, 0] for found in jax.vmap(lambda image: self.one(image[None]))(images))


class Format(NamedTuple):
    """A format of a model's `file`.

    batch: how many images it reads at once, 'any' or 1. int8: whether its products are of 8 bits, not fp32.
    packages: what it needs beside requirements.txt, by the names they are imported by.
    write(network, path, crops): writes the file; `crops` fp32 [n, s, s, 3] are what the model will see.
    load(path) -> run(images of a `batch`) -> the network's outputs, on one thread of the CPU.
    """

    file: str
    batch: str | int
    int8: bool
    packages: tuple[str, ...]
    write: Callable[[Network, str, np.ndarray], None]
    load: Callable[[str], Run]


def forward(module, *, recognises: bool) -> Callable[..., tuple[jax.Array, ...]]:
    """Returns a function (variables, images [b, s, s, 3]) to the logits [b, 2], the first output of a Flax `module`.

    And, where it `recognises`, its output 'embedding' [b, d], each divided by its length.
    """

    def apply(variables, images: jax.Array) -> tuple[jax.Array, ...]:
        logits, out = module.apply(variables, images)
        if not recognises:
            return (logits,)
        length = jnp.linalg.norm(out["embedding"], axis=-1, keepdims=True)
        return logits, out["embedding"] / jnp.maximum(length, jnp.finfo(jnp.float32).tiny)

    return apply


def trace(module, variables, size: int, *, recognises: bool = False) -> Network:
    """The `forward` pass of a Flax `module`, with `variables` as NumPy arrays."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    apply = forward(module, recognises=recognises)
    looped = jax.make_jaxpr(lambda images: apply(variables, images))(images)
    return Network(jax.make_jaxpr(lambda images: _evaluate(looped.jaxpr, looped.consts, [images], {}))(images), size)


def check(names: Sequence[str]) -> None:
    """ValueError for an unknown format or for none; ModuleNotFoundError where packages of one are missing."""
    asked = f"--format={','.join(names)}"
    if not names or any(name not in FORMATS for name in names):
        raise ValueError(f"{asked}: expected some of {', '.join(FORMATS)}, joined by commas")
    if absent := missing(names):
        raise ModuleNotFoundError(f"{asked} needs {', '.join(absent)}: pip install -r requirements-onnx.txt")


def missing(names: Sequence[str]) -> list[str]:
    """Returns the packages, sorted, that the formats `names` need and that are not installed."""
    needed = {package for name in names for package in FORMATS[name].packages}
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)


def _evaluate(jaxpr, consts: Sequence, inputs: Sequence, replaced: Mapping[str, Callable]) -> list:
    """The outputs of a jaxpr, its scans laid out step by step and calls taken inside.

    A weight that a scan goes through is a NumPy array, and is cut here: each step then has a constant. A
    primitive in `replaced` is computed by what stands there, a function of its inputs and parameters, where a converter
    does not know it.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        values = [v.val if isinstance(v, core.Literal) else known[v] for v in equation.invars]
        if name == "scan":
            found = _evaluate_scan(equation, values, replaced)
        elif name in CALLS:
            called = parameters[CALLS[name]]
            found = _evaluate(getattr(called, "jaxpr", called), getattr(called, "consts", ()), values, replaced)
        else:
            found = replaced.get(name, equation.primitive.bind)(*values, **parameters)
            found = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, found, strict=True))
    return [v.val if isinstance(v, core.Literal) else known[v] for v in jaxpr.outvars]


def _evaluate_scan(equation, values: Sequence, replaced: Mapping[str, Callable]) -> list:
    """The outputs of a scan. Its parameters differ between versions of JAX, so that shapes tell inputs apart.

    Of its inputs, constants and carry are whole and come first; the others have an axis more than in its body.
    """
    body = equation.params["jaxpr"]
    inner, own_consts = getattr(body, "jaxpr", body), getattr(body, "consts", ())
    whole = sum(_alike(*pair) for pair in zip(equation.invars, inner.invars, strict=True))
    carried = sum(_alike(*pair) for pair in zip(equation.outvars, inner.outvars, strict=True))
    consts, carry, stacked = values[: whole - carried], values[whole - carried : whole], []
    for step in range(equation.params["length"]):
        found = _evaluate(inner, own_consts, [*consts, *carry, *(x[step] for x in values[whole:])], replaced)
        carry = found[:carried]
        stacked.append(found[carried:])
    return [*carry, *(jax.lax.concatenate([y[None] for y in each], 0) for each in zip(*stacked, strict=True))]


def _alike(outer, inner) -> bool:
    return outer.aval.ndim == inner.aval.ndim


def max_pool(x: jax.Array, *, window_dimensions, window_strides, padding, **_) -> jax.Array:
    """Computes the primitive `reduce_window_max` as the largest of shifted images; its parameters are the primitive's.

    ONNX Runtime refuses windows over all dimensions.
    """
    x = jax.lax.pad(x, -jnp.inf, [(*edges, 0) for edges in padding])
    last = [size - window for size, window in zip(x.shape, window_dimensions, strict=True)]
    shifted = [
        jax.lax.slice(x, first, [a + b + 1 for a, b in zip(first, last, strict=True)], window_strides)
        for first in itertools.product(*map(range, window_dimensions))
    ]
    return functools.reduce(jax.lax.max, shifted)


def rational_erf(x: jax.Array, **_) -> jax.Array:
    """Computes `erf` in fp32 by the ratio of polynomials that XLA uses, as TensorFlow cannot read the primitive."""
    x = jnp.clip(x, -4, 4)
    return x * jnp.polyval(jnp.array(ERF[0], jnp.float32), x * x) / jnp.polyval(jnp.array(ERF[1], jnp.float32), x * x)


def _write_stablehlo(network: Network, path: str, crops: np.ndarray) -> None:
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(network.many), platforms=PLATFORMS)(network.images(batch))
    Path(path).write_bytes(exported.serialize())


def _load_stablehlo(path: str) -> Run:
    exported = jax.export.deserialize(bytearray(Path(path).read_bytes()))
    cpu, compiled = jax.devices("cpu")[0], {}

    def run(images: np.ndarray):
        if images.shape not in compiled:
            with jax.default_device(cpu):
                lowered = jax.jit(exported.call).lower(images)
            compiled[images.shape] = lowered.compile({"xla_cpu_multi_thread_eigen": False})
        return jax.device_get(compiled[images.shape](images))

    return run


def _write_tflite(network: Network, path: str, crops: np.ndarray) -> None:
    import tensorflow as tf
    from jax.experimental import jax2tf

    def outputs(images):
        return network.one(images, {"erf": rational_erf})

    def named(images):
        return dict(zip(network.outputs, jax2tf.convert(outputs, with_gradient=False)(images), strict=True))

    module = tf.Module()
    module.serve = tf.function(named, [tf.TensorSpec(network.images().shape, tf.float32, INPUT)], autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, module.serve)
        Path(path).write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _load_tflite(path: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=1)
    runner = interpreter.get_signature_runner()

    def run(images: np.ndarray):
        found = runner(**{INPUT: images})
        return tuple(found[name] for name in OUTPUTS if name in found)

    return run


def _write_onnx(network: Network, path: str, crops: np.ndarray) -> None:
    import jax2onnx
    import onnx

    def outputs(images):
        return network.one(images, {"reduce_window_max": max_pool})

    with _quiet("jax2onnx", "onnx_ir"):  # on parts of them that nothing here uses
        names = {"input_names": [INPUT], "output_names": network.outputs}
        model = jax2onnx.to_onnx(outputs, [network.images()], opset=OPSET, **names)
    zeros = set()
    for node in model.graph.node:
        if node.op_type == "Einsum" and is_matrix_product(node.attribute[0].s.decode()):
            node.op_type = "MatMul"
            del node.attribute[:]
        elif node.op_type == "Gemm":
            zeros.add(node.input.pop())  # a bias of 0, without a dimension: quantisation stops at it
    for unused in [tensor for tensor in model.graph.initializer if tensor.name in zeros]:
        model.graph.initializer.remove(unused)
    _share_equal(model.graph)
    del model.graph.value_info[:]  # shapes that a runtime infers itself; some of jax2onnx's are wrong
    onnx.save(model, path)


def _share_equal(graph) -> None:
    """Keeps one of equal constants, of which a network that reads several crops has many."""
    first: dict[bytes, str] = {}
    named = {}
    for tensor in list(graph.initializer):
        content = b"%d %r %b" % (tensor.data_type, list(tensor.dims), tensor.raw_data)
        if tensor.raw_data and first.setdefault(content, tensor.name) != tensor.name:
            named[tensor.name] = first[content]
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Nothing but errors from the loggers `names`."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def is_matrix_product(equation: str) -> bool:
    """Returns whether an einsum is a (batched) matrix product, which runtimes compute faster: 'abc,cd->abd'."""
    inputs, _, result = equation.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    return len(right) == 2 and left[-1] == right[0] and result == left[:-1] + right[1]


def _write_onnx_int8(network: Network, path: str, crops: np.ndarray) -> None:
    """Static quantisation of convolutions and products by weights, one scale an output channel [C].

    Dynamic quantisation, whose ranges need no crops, took convolutions eight times as long as fp32.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Crops(quantization.CalibrationDataReader):
        left = iter(crops)

        def get_next(self):
            crop = next(self.left, None)
            return None if crop is None else {INPUT: crop[None]}

    with tempfile.TemporaryDirectory() as folder:
        written, folded = os.path.join(folder, "written.onnx"), os.path.join(folder, "folded.onnx")
        _write_onnx(network, written, crops)
        quant_pre_process(written, folded, skip_symbolic_shape=True)
        quantization.quantize_static(
            folded,
            path,
            Crops(),
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
        )


def _load_onnx(path: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {INPUT: images}))


FORMATS = {
    "stablehlo": Format("model.stablehlo", "any", False, (), _write_stablehlo, _load_stablehlo),
    "tflite": Format("model.tflite", 1, False, ("ai_edge_litert",), _write_tflite, _load_tflite),
    "onnx": Format("model.onnx", 1, False, ("jax2onnx", "onnxruntime"), _write_onnx, _load_onnx),
    "onnx_int8": Format("model_int8.onnx", 1, True, ("jax2onnx", "onnxruntime"), _write_onnx_int8, _load_onnx),
}

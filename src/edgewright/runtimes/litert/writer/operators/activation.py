"""Activations, and functions without a LiteRT kernel that can be composed exactly."""

from collections.abc import Callable

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.align import align_inputs
from edgewright.runtimes.litert.writer.operators.elementwise import copy_if_unchanged, emit_widened
from edgewright.runtimes.litert.writer.program import Tensor

# Clamps with one kernel; not RELU_0_TO_1, which XNNPACK does not support.
CLAMPS = {(0.0, float("inf")): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
Formula = Callable[["FormulaWriter", Tensor], Tensor]


class FormulaWriter:
    """Writes a formula on tensors of one shape."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b, self.node = b, node

    def attribute(self, name: str, default: float) -> float:
        return float(self.node.attributes.get(name, default))

    def do(self, code: str, *operands: Tensor | float) -> Tensor:
        first = next(operand for operand in operands if isinstance(operand, Tensor))
        tensors = [o if isinstance(o, Tensor) else self.b.number(o, first) for o in operands]
        shape = tuple(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))
        return self.b.run(code, tensors, shape)

    def compare(self, code: str, left: Tensor, right: float) -> Tensor:
        return self.b.run(code, [left, self.b.number(right, left)], left.shape, dtype=np.bool_)

    def select(self, condition: Tensor, yes: Tensor | float, no: Tensor | float) -> Tensor:
        like = next(o for o in (yes, no) if isinstance(o, Tensor))
        chosen = [o if isinstance(o, Tensor) else self.b.number(o, like) for o in (yes, no)]
        return self.b.run("SELECT_V2", [condition, *chosen], condition.shape, dtype=like.dtype)


def formula(write_terms: Formula) -> Callable[[Builder, Node], None]:
    """Return a writer that computes a formula of the first input, in float32."""

    def write(b: Builder, node: Node) -> None:
        tensors, layout = align_inputs(b, node.inputs[:1], node.outputs[0])
        if tensors[0].dtype != np.float32:
            raise OperatorRejected(f"it computes with {tensors[0].dtype}", "cast to float32 first")
        b.place(node.outputs[0], write_terms(FormulaWriter(b, node), tensors[0]), layout)

    return write


def clip(b: Builder, node: Node) -> None:
    """Write RELU, RELU6 or RELU_N1_TO_1 for their bounds, else MAXIMUM and MINIMUM."""
    tensors, layout = align_inputs(b, node.inputs[:1], node.outputs[0])
    x = tensors[0]
    if x.dtype.kind == "f" and (code := _find_clamp(b, node)):
        b.emit(code, [x], [b.make(node.outputs[0], layout)])
        return
    made = x
    for position, code in ((1, "MAXIMUM"), (2, "MINIMUM")):
        if node.has(position):
            made = emit_widened(b, code, [made, b.take(node.inputs[position])], x.shape)
    b.place(node.outputs[0], copy_if_unchanged(b, made, node), layout)


def _find_clamp(b: Builder, node: Node) -> str | None:
    bounds = [float("-inf"), float("inf")]
    for position in (1, 2):
        if node.has(position):
            number = b.graph.number(node.inputs[position])
            if number is None:
                return None
            bounds[position - 1] = number
    return CLAMPS.get((bounds[0], bounds[1]))


def leaky_relu(b: Builder, node: Node) -> None:
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    b.emit(
        "LEAKY_RELU", tensors, [b.make(node.outputs[0], layout)], {"alpha": float(node.attributes.get("alpha", 0.01))}
    )


def gelu(b: Builder, node: Node) -> None:
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    options = {"approximate": node.attributes.get("approximate", "none") == "tanh"}
    b.emit("GELU", tensors, [b.make(node.outputs[0], layout)], options)


def prelu(b: Builder, node: Node) -> None:
    """Write max(x, 0) + slope × min(x, 0); as PRELU if the slope is along the stored channels."""
    if b.rank(node.inputs[1]) > b.rank(node.inputs[0]):
        raise OperatorRejected("its slope has more axes than its input")
    tensors, layout = align_inputs(b, node.inputs, node.outputs[0])
    x, slope = tensors
    if x.dtype != np.float32:
        raise OperatorRejected(f"it computes with {x.dtype}")
    if slope.data is not None and len(x.shape) == 4 and slope.shape == (1, 1, 1, x.shape[3]):
        flat = b.add_constant(slope.data.reshape(1, 1, -1), slope.name)
        b.emit("PRELU", [x, flat], [b.make(node.outputs[0], layout)])
        return
    below = b.run("MINIMUM", [x, b.number(0, x)], x.shape)
    above = b.run("RELU", [x], x.shape)
    b.place(node.outputs[0], b.run("ADD", [above, b.run("MUL", [below, slope], x.shape)], x.shape), layout)


def elu(t: FormulaWriter, x: Tensor) -> Tensor:
    alpha = t.attribute("alpha", 1.0)
    if alpha == 1.0:
        return t.do("ELU", x)
    return _expand_below(t, x, alpha, 1.0)


def _expand_below(t: FormulaWriter, x: Tensor, alpha: float, divisor: float) -> Tensor:
    """Write max(x, 0) + alpha (exp(min(x, 0) / divisor) − 1)."""
    low = t.do("MINIMUM", x, 0.0)
    low = low if divisor == 1.0 else t.do("DIV", low, divisor)
    return t.do("ADD", t.do("RELU", x), t.do("MUL", t.do("ELU", low), alpha))


def celu(t: FormulaWriter, x: Tensor) -> Tensor:
    alpha = t.attribute("alpha", 1.0)
    return _expand_below(t, x, alpha, alpha)


def selu(t: FormulaWriter, x: Tensor) -> Tensor:
    alpha = t.attribute("alpha", 1.6732632423543772)
    gamma = t.attribute("gamma", 1.0507009873554805)
    return t.do("MUL", _expand_below(t, x, alpha, 1.0), gamma)


def hard_sigmoid(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write relu6(x + 3) / 6 for these attributes, else a clamp of the line."""
    alpha, beta = t.attribute("alpha", 0.2), t.attribute("beta", 0.5)
    if np.isclose(alpha, 1 / 6, rtol=1e-6) and beta == 0.5:
        return t.do("MUL", t.do("RELU6", t.do("ADD", x, 3.0)), 1 / 6)
    line = t.do("ADD", t.do("MUL", x, alpha), beta)
    return t.do("MINIMUM", t.do("MAXIMUM", line, 0.0), 1.0)


def softplus(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write max(x, 0) + log(1 + exp(−|x|)), which does not overflow."""
    tail = t.do("LOG", t.do("ADD", t.do("EXP", t.do("NEG", t.do("ABS", x))), 1.0))
    return t.do("ADD", t.do("RELU", x), tail)


def mish(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("MUL", x, t.do("TANH", softplus(t, x)))


def swish(t: FormulaWriter, x: Tensor) -> Tensor:
    alpha = t.attribute("alpha", 1.0)
    return t.do("MUL", x, t.do("LOGISTIC", x if alpha == 1.0 else t.do("MUL", x, alpha)))


def softsign(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("DIV", x, t.do("ADD", t.do("ABS", x), 1.0))


def thresholded_relu(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.select(t.compare("GREATER", x, t.attribute("alpha", 1.0)), x, 0.0)


def shrink(t: FormulaWriter, x: Tensor) -> Tensor:
    bias, limit = t.attribute("bias", 0.0), t.attribute("lambd", 0.5)
    high = t.select(t.compare("GREATER", x, limit), t.do("SUB", x, bias), 0.0)
    return t.select(t.compare("LESS", x, -limit), t.do("ADD", x, bias), high)


def reciprocal(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("DIV", 1.0, x)


def tangent(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("DIV", t.do("SIN", x), t.do("COS", x))


def arc_tangent(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("ATAN2", x, t.b.add_constant(np.ones(x.shape, np.float32)))


def arc_sine(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("ATAN2", x, _other_leg(t, x))


def arc_cosine(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("ATAN2", _other_leg(t, x), x)


def _other_leg(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write √((1 − x)(1 + x))."""
    return t.do("SQRT", t.do("MUL", t.do("SUB", 1.0, x), t.do("ADD", x, 1.0)))


def hyperbolic_sine(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("MUL", t.do("SUB", t.do("EXP", x), t.do("EXP", t.do("NEG", x))), 0.5)


def hyperbolic_cosine(t: FormulaWriter, x: Tensor) -> Tensor:
    return t.do("MUL", t.do("ADD", t.do("EXP", x), t.do("EXP", t.do("NEG", x))), 0.5)


def inverse_hyperbolic_sine(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write sign(x) log(|x| + √(x² + 1))."""
    size = t.do("ABS", x)
    root = t.do("SQRT", t.do("ADD", t.do("MUL", x, x), 1.0))
    return t.do("MUL", t.do("SIGN", x), t.do("LOG", t.do("ADD", size, root)))


def inverse_hyperbolic_cosine(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write log(x + √(x − 1) √(x + 1))."""
    root = t.do("MUL", t.do("SQRT", t.do("SUB", x, 1.0)), t.do("SQRT", t.do("ADD", x, 1.0)))
    return t.do("LOG", t.do("ADD", x, root))


def inverse_hyperbolic_tangent(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write ½ log((1 + x) / (1 − x))."""
    quotient = t.do("DIV", t.do("ADD", x, 1.0), t.do("SUB", 1.0, x))
    return t.do("MUL", t.do("LOG", quotient), 0.5)


# A quotient of polynomials in x² with a relative error of 4e-7, as in Eigen's `erf` for float32.
ERF_ABOVE = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
             -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
ERF_BELOW = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
             -1.42647390514189e-02)  # fmt: skip


def error_function(t: FormulaWriter, x: Tensor) -> Tensor:
    """Write Erf, which has no LiteRT kernel."""
    x = t.do("MINIMUM", t.do("MAXIMUM", x, -4.0), 4.0)
    square = t.do("MUL", x, x)
    above, below = (_evaluate(t, square, series) for series in (ERF_ABOVE, ERF_BELOW))
    return t.do("DIV", t.do("MUL", x, above), below)


def _evaluate(t: FormulaWriter, x: Tensor, series: tuple[float, ...]) -> Tensor:
    """Write a polynomial by Horner's rule, the highest power first."""
    total: Tensor | float = series[0]
    for number in series[1:]:
        total = t.do("ADD", t.do("MUL", x, total), number)
    assert isinstance(total, Tensor)  # noqa: S101  # every series has two numbers and more
    return total

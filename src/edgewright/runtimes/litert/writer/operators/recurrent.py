"""Recurrent networks, unrolled over time.

LiteRT's own sequence kernels keep their state from one run to the next, which ONNX's do not; so each step is
written out. The products with the input run for all steps at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Array, Node, Refusal
from edgewright.runtimes.litert.writer.operators.elementwise import copy
from edgewright.runtimes.litert.writer.program import Tensor

MOST_STEPS = 512
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
# From the state and the projected input of one step to the next state.
Step = Callable[["Cell", list[Tensor], Tensor], list[Tensor]]


@dataclass
class Cell:
    """One direction: the builder, sizes, and the constant weights of the state [gates × hidden, hidden]."""

    b: Builder
    batch: int
    hidden: int
    weights: Array
    bias: Array
    before_reset: bool

    def do(self, code: str, *operands: Tensor | float) -> Tensor:
        first = next(operand for operand in operands if isinstance(operand, Tensor))
        tensors = [o if isinstance(o, Tensor) else self.b.number(o, first) for o in operands]
        return self.b.run(code, tensors, tuple(np.broadcast_shapes(*(t.shape for t in tensors))))

    def project(self, state: Tensor, first: int, last: int, *, biased: bool = False) -> Tensor:
        """The state times the weights of some gates, [batch, gates × hidden]."""
        rows = slice(first * self.hidden, last * self.hidden)
        weights = self.b.add_constant(self.weights[rows])
        bias = self.b.add_constant(self.bias[rows]) if biased else None
        options = {"fusedActivationFunction": "NONE", "keepNumDims": False}
        return self.b.run(
            "FULLY_CONNECTED", [state, weights, bias], (self.batch, rows.stop - rows.start), options=options
        )

    def part(self, x: Tensor, first: int, last: int) -> Tensor:
        """The columns of some gates."""
        shape = (self.batch, (last - first) * self.hidden)
        return self.b.run("SLICE", [x, self.b.ints((0, first * self.hidden)), self.b.ints(shape)], shape)


def recurrent(step: Step) -> Callable[[Builder, Node], None]:
    """LSTM, GRU or RNN with its usual activations; X [steps, batch, inputs]."""

    def write(b: Builder, node: Node) -> None:
        directions = _check(b, node)
        steps, batch, _ = b.shape(node.inputs[0])
        hidden = int(b.shape(node.inputs[2])[2])
        sequences, finals = [], []
        for at, backwards in enumerate(directions):
            cell, projected = _prepare(b, node, at, batch, hidden)
            states = [_start(b, node, 5 + i, at, (batch, hidden)) for i in range(2 if node.op == "LSTM" else 1)]
            rows: list[Tensor] = []
            for time in range(steps)[:: -1 if backwards else 1]:
                states = step(cell, states, _row(b, projected, time, batch))
                rows.append(states[0])
            sequences.append(rows[:: -1 if backwards else 1])
            finals.append(states)
        _place(b, node, sequences, finals, (steps, batch, hidden))

    return write


def _check(b: Builder, node: Node) -> Sequence[bool]:
    directions = DIRECTIONS.get(node.attributes.get("direction", "forward"), ())
    usual = DEFAULTS[node.op] * len(directions)
    if not directions or (node.attributes.get("activations") or usual) not in (usual, [a.encode() for a in usual]):
        raise Refusal("activations other than the usual ones")
    if node.attributes.get("layout", 0) or "clip" in node.attributes or node.attributes.get("input_forget", 0):
        raise Refusal("the batch before the time, a clip or coupled gates")
    if node.has(7) or (node.has(4) and np.any(b.need_constant(4, "lengths") != b.shape(node.inputs[0])[0])):
        raise Refusal("peepholes, or sequences of several lengths")
    if b.shape(node.inputs[0])[0] > MOST_STEPS:
        raise Refusal(f"more than {MOST_STEPS} steps", "cut the sequences")
    return directions


def _prepare(b: Builder, node: Node, at: int, batch: int, hidden: int) -> tuple[Cell, Tensor]:
    """The cell of one direction, and the input of all steps times its weights, [steps, batch, gates × hidden]."""
    gates = GATES[node.op]
    weights, state_weights = (b.need_constant(i, "weights")[at].astype(np.float32) for i in (1, 2))
    both = b.need_constant(3, "bias")[at] if node.has(3) else np.zeros(2 * gates * hidden, np.float32)
    bias, state_bias = both[: gates * hidden].copy(), both[gates * hidden :].copy()
    before_reset = bool(node.attributes.get("linear_before_reset", 0))
    # The bias of the state belongs inside of the reset gate's product there, and to the input's elsewhere.
    outside = 2 * hidden if node.op == "GRU" and before_reset else len(bias)
    bias[:outside] += state_bias[:outside]
    x = b.take(node.inputs[0])
    options = {"fusedActivationFunction": "NONE", "keepNumDims": True}
    operands = [x, b.add_constant(weights), b.add_constant(bias.astype(np.float32))]
    projected = b.run("FULLY_CONNECTED", operands, (*x.shape[:2], gates * hidden), options=options)
    return Cell(b, batch, hidden, state_weights, state_bias.astype(np.float32), before_reset), projected


def _start(b: Builder, node: Node, position: int, at: int, shape: tuple[int, int]) -> Tensor:
    if not node.has(position):
        return b.add_constant(np.zeros(shape, np.float32))
    whole = b.take(node.inputs[position])
    size = (1, *shape)
    return b.reshape(b.run("SLICE", [whole, b.ints((at, 0, 0)), b.ints(size)], size), shape)


def _row(b: Builder, projected: Tensor, time: int, batch: int) -> Tensor:
    size = (1, batch, projected.shape[2])
    return b.reshape(b.run("SLICE", [projected, b.ints((time, 0, 0)), b.ints(size)], size), size[1:])


def step_lstm(cell: Cell, states: list[Tensor], x: Tensor) -> list[Tensor]:
    """Gates in ONNX's order: input, output, forget, cell."""
    hidden, memory = states
    gates = cell.do("ADD", x, cell.project(hidden, 0, 4))
    opened = cell.do("LOGISTIC", cell.part(gates, 0, 3))
    take, give, keep = (cell.part(opened, at, at + 1) for at in range(3))
    fresh = cell.do("TANH", cell.part(gates, 3, 4))
    memory = cell.do("ADD", cell.do("MUL", keep, memory), cell.do("MUL", take, fresh))
    return [cell.do("MUL", give, cell.do("TANH", memory)), memory]


def step_gru(cell: Cell, states: list[Tensor], x: Tensor) -> list[Tensor]:
    """Gates in ONNX's order: update, reset, hidden."""
    (hidden,) = states
    opened = cell.do("LOGISTIC", cell.do("ADD", cell.part(x, 0, 2), cell.project(hidden, 0, 2)))
    update, reset = cell.part(opened, 0, 1), cell.part(opened, 1, 2)
    if cell.before_reset:
        inner = cell.do("MUL", reset, cell.project(hidden, 2, 3, biased=True))
    else:
        inner = cell.project(cell.do("MUL", reset, hidden), 2, 3)
    fresh = cell.do("TANH", cell.do("ADD", cell.part(x, 2, 3), inner))
    return [cell.do("ADD", fresh, cell.do("MUL", update, cell.do("SUB", hidden, fresh)))]


def step_rnn(cell: Cell, states: list[Tensor], x: Tensor) -> list[Tensor]:
    return [cell.do("TANH", cell.do("ADD", x, cell.project(states[0], 0, 1)))]


def _place(
    b: Builder, node: Node, sequences: list[list[Tensor]], finals: list[list[Tensor]], sizes: tuple[int, int, int]
) -> None:
    """Y [steps, directions, batch, hidden], and the last states [directions, batch, hidden]."""
    steps, batch, hidden = sizes
    if node.outputs[0]:
        rows = [rows[time] for time in range(steps) for rows in sequences]
        b.place(node.outputs[0], b.reshape(_stack(b, rows), (steps, len(sequences), batch, hidden)))
    for at, name in enumerate(node.outputs[1:]):
        if name:
            stacked = _stack(b, [states[at] for states in finals])
            b.place(name, b.reshape(stacked, (len(finals), batch, hidden)))


def _stack(b: Builder, rows: list[Tensor]) -> Tensor:
    """[batch, hidden] each, one below another."""
    if len(rows) == 1:
        return copy(b, rows[0])
    shape = (sum(row.shape[0] for row in rows), rows[0].shape[1])
    return b.run("CONCATENATION", rows, shape, options={"axis": 0, "fusedActivationFunction": "NONE"})

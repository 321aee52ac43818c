"""Recurrent networks, unrolled over time.

LiteRT's own sequence kernels keep their state between runs, unlike ONNX's operators, so each step is
unrolled. The products with the input run for all steps at once.

All steps read the same weights of the state. XNNPACK packs them again for each operator, so that many steps of large
weights exceed the cache: a GRU of 256 states and 64 steps streams 50 MB. Such products get their
step's input as the bias. XNNPACK does not support a computed bias, and LiteRT's built-in kernel reads the weights
in place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgewright.runtimes.litert.writer.build import Builder
from edgewright.runtimes.litert.writer.graph import Node, OperatorRejected
from edgewright.runtimes.litert.writer.operators.elementwise import copy_tensor
from edgewright.runtimes.litert.writer.program import Tensor
from edgewright.schema.arrays import Array

MOST_STEPS = 512
PACKED_BYTES = 4 << 20  # of all steps' packed weights, up to which XNNPACK runs the products
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
# Number of gates whose input products are computed together, like those of the state.
TOGETHER = {"LSTM": (4,), "GRU": (2, 1), "RNN": (1,)}
# Function from the state and the projected inputs of a step to the next state.
Step = Callable[["RecurrentCell", list[Tensor], list[Tensor]], list[Tensor]]


@dataclass
class RecurrentCell:
    """One direction: the builder, sizes, and the constant weights of the state [gates × hidden, hidden].

    `in_place` says whether the weights are read in place.
    """

    b: Builder
    batch: int
    hidden: int
    weights: Array
    bias: Array
    before_reset: bool
    in_place: bool
    written: dict[tuple[int, int, bool], tuple[Tensor, Tensor | None]] = field(default_factory=dict)

    def do(self, code: str, *operands: Tensor | float) -> Tensor:
        first = next(operand for operand in operands if isinstance(operand, Tensor))
        tensors = [o if isinstance(o, Tensor) else self.b.number(o, first) for o in operands]
        return self.b.run(code, tensors, tuple(np.broadcast_shapes(*(t.shape for t in tensors))))

    def project(self, state: Tensor, first: int, last: int, *, biased: bool = False) -> Tensor:
        """Write the state times the weights of some gates, [batch, gates × hidden]."""
        return self._multiply(state, *self._write(first, last, biased=biased))

    def project_onto(self, x: Tensor, state: Tensor, first: int, last: int) -> Tensor:
        """Write the same plus the projected input of the step."""
        if not self.in_place:
            return self.do("ADD", x, self.project(state, first, last))
        return self._multiply(state, self._write(first, last, biased=False)[0], x)

    def _write(self, first: int, last: int, *, biased: bool) -> tuple[Tensor, Tensor | None]:
        """Write weights and bias of some gates, which all steps share."""
        rows = slice(first * self.hidden, last * self.hidden)
        if (first, last, biased) not in self.written:
            bias = self.b.add_constant(self.bias[rows]) if biased else None
            self.written[first, last, biased] = (self.b.add_constant(self.weights[rows]), bias)
        return self.written[first, last, biased]

    def _multiply(self, state: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        options = {"fusedActivationFunction": "NONE", "keepNumDims": False}
        shape = (self.batch, weights.shape[0])
        return self.b.run("FULLY_CONNECTED", [state, weights, bias], shape, options=options)

    def split(self, x: Tensor, count: int) -> list[Tensor]:
        """Return the columns of each gate."""
        shape = (self.batch, self.hidden)
        gates = [Tensor(f"{x.name}/gate{at}", shape, x.dtype) for at in range(count)]
        self.b.emit("SPLIT", [self.b.add_constant(np.asarray(1, np.int32)), x], gates, {"numSplits": count})
        return gates


def recurrent(step: Step) -> Callable[[Builder, Node], None]:
    """Write LSTM, GRU or RNN with the default activations; X [steps, batch, inputs], or with `layout` the batch
    first."""

    def write(b: Builder, node: Node) -> None:
        directions = _check(b, node)
        steps, batch, _ = _take_sequence(b, node).shape
        hidden = int(b.shape(node.inputs[2])[2])
        sequences, finals = [], []
        for at, backwards in enumerate(directions):
            cell, inputs = _prepare(b, node, at, batch, hidden)
            states = [_start(b, node, 5 + i, at, (batch, hidden)) for i in range(2 if node.op == "LSTM" else 1)]
            rows: list[Tensor] = []
            for time in range(steps)[:: -1 if backwards else 1]:
                states = step(cell, states, [rows_of_gates[time] for rows_of_gates in inputs])
                rows.append(states[0])
            sequences.append(rows[:: -1 if backwards else 1])
            finals.append(states)
        _place_outputs(b, node, sequences, finals, (steps, batch, hidden))

    return write


def _check(b: Builder, node: Node) -> Sequence[bool]:
    directions = DIRECTIONS.get(node.attributes.get("direction", "forward"), ())
    usual = DEFAULTS[node.op] * len(directions)
    if not directions or (node.attributes.get("activations") or usual) not in (usual, [a.encode() for a in usual]):
        raise OperatorRejected("activations other than the default ones")
    if "clip" in node.attributes or node.attributes.get("input_forget", 0):
        raise OperatorRejected("a clip or coupled gates")
    steps = b.shape(node.inputs[0])[1 if _is_batch_first(node) else 0]
    if node.has(7) or (node.has(4) and np.any(b.need_constant(4, "lengths") != steps)):
        raise OperatorRejected("peepholes, or sequences of several lengths")
    if steps > MOST_STEPS:
        raise OperatorRejected(f"more than {MOST_STEPS} steps", "shorten the sequences")
    return directions


def _is_batch_first(node: Node) -> bool:
    return bool(node.attributes.get("layout", 0))


def _take_sequence(b: Builder, node: Node) -> Tensor:
    """Return X as [steps, batch, inputs]."""
    return b.take(node.inputs[0], (1, 0, 2) if _is_batch_first(node) else None)


def _prepare(b: Builder, node: Node, at: int, batch: int, hidden: int) -> tuple[RecurrentCell, list[list[Tensor]]]:
    """Return the cell of one direction, and the input of each step times its weights, [batch, gates × hidden]."""
    gates = GATES[node.op]
    weights, state_weights = (b.need_constant(i, "weights")[at].astype(np.float32) for i in (1, 2))
    both = b.need_constant(3, "bias")[at] if node.has(3) else np.zeros(2 * gates * hidden, np.float32)
    bias, state_bias = both[: gates * hidden].copy(), both[gates * hidden :].copy()
    before_reset = bool(node.attributes.get("linear_before_reset", 0))
    # The state's bias is inside of the reset gate's product in this case, else it is added to the input's bias.
    outside = 2 * hidden if node.op == "GRU" and before_reset else len(bias)
    bias[:outside] += state_bias[:outside]
    x, inputs, first = _take_sequence(b, node), [], 0
    in_place = batch == 1 and state_weights.nbytes * x.shape[0] > PACKED_BYTES
    for count in TOGETHER[node.op]:
        rows = slice(first * hidden, (first + count) * hidden)
        columns, added = weights[rows], bias[rows]
        if in_place and rows.stop == outside < len(bias):  # with the state's own bias: see `step_gru`
            columns = np.concatenate([columns, np.zeros((hidden, columns.shape[1]), np.float32)])
            added = np.concatenate([added, state_bias[outside:]])
        inputs.append(_project(b, x, columns, added.astype(np.float32)))
        first += count
    cell = RecurrentCell(b, batch, hidden, state_weights, state_bias.astype(np.float32), before_reset, in_place)
    return cell, inputs


def _project(b: Builder, x: Tensor, weights: Array, bias: Array) -> list[Tensor]:
    """Return the product for all steps at once, [batch, columns] of each."""
    steps, batch, columns = *x.shape[:2], len(bias)
    options = {"fusedActivationFunction": "NONE", "keepNumDims": True}
    operands = [x, b.add_constant(weights), b.add_constant(bias)]
    whole = b.run("FULLY_CONNECTED", operands, (steps, batch, columns), options=options)
    if steps == 1:
        return [b.reshape(whole, (batch, columns))]
    rows = [Tensor(f"{whole.name}/step{at}", (batch, columns), whole.dtype) for at in range(steps)]
    b.emit("UNPACK", [whole], rows, {"num": steps, "axis": 0})
    return rows


def _start(b: Builder, node: Node, position: int, at: int, shape: tuple[int, int]) -> Tensor:
    if not node.has(position):
        return b.add_constant(np.zeros(shape, np.float32))
    whole = b.take(node.inputs[position], (1, 0, 2) if _is_batch_first(node) else None)
    size = (1, *shape)
    return b.reshape(b.run("SLICE", [whole, b.ints((at, 0, 0)), b.ints(size)], size), shape)


def step_lstm(cell: RecurrentCell, states: list[Tensor], x: list[Tensor]) -> list[Tensor]:
    """Write a step of an LSTM; gates in ONNX's order: input, output, forget, cell."""
    hidden, memory = states
    gates = cell.split(cell.project_onto(x[0], hidden, 0, 4), 4)
    take, give, keep = (cell.do("LOGISTIC", gate) for gate in gates[:3])
    fresh = cell.do("TANH", gates[3])
    memory = cell.do("ADD", cell.do("MUL", keep, memory), cell.do("MUL", take, fresh))
    return [cell.do("MUL", give, cell.do("TANH", memory)), memory]


def step_gru(cell: RecurrentCell, states: list[Tensor], x: list[Tensor]) -> list[Tensor]:
    """Write a step of a GRU; gates in ONNX's order: update, reset, hidden."""
    (hidden,) = states
    if cell.before_reset and cell.in_place:  # the third gate's bias, which reset scales too, is after x[0]
        update, reset, inner = cell.split(cell.project_onto(x[0], hidden, 0, 3), 3)
        update, reset = cell.do("LOGISTIC", update), cell.do("LOGISTIC", reset)
        fresh = cell.do("ADD", x[1], cell.do("MUL", reset, inner))
    else:
        update, reset = cell.split(cell.do("LOGISTIC", cell.project_onto(x[0], hidden, 0, 2)), 2)
        if cell.before_reset:
            fresh = cell.do("ADD", x[1], cell.do("MUL", reset, cell.project(hidden, 2, 3, biased=True)))
        else:
            fresh = cell.project_onto(x[1], cell.do("MUL", reset, hidden), 2, 3)
    fresh = cell.do("TANH", fresh)
    return [cell.do("ADD", fresh, cell.do("MUL", update, cell.do("SUB", hidden, fresh)))]


def step_rnn(cell: RecurrentCell, states: list[Tensor], x: list[Tensor]) -> list[Tensor]:
    return [cell.do("TANH", cell.project_onto(x[0], states[0], 0, 1))]


def _place_outputs(
    b: Builder, node: Node, sequences: list[list[Tensor]], finals: list[list[Tensor]], sizes: tuple[int, int, int]
) -> None:
    """Write Y [steps, directions, batch, hidden] and the last states [directions, batch, hidden]."""
    steps, batch, hidden = sizes
    if node.outputs[0]:
        rows = [rows[time] for time in range(steps) for rows in sequences]
        layout = (1, 2, 0, 3) if _is_batch_first(node) else None
        b.place(node.outputs[0], b.reshape(_stack(b, rows), (steps, len(sequences), batch, hidden)), layout)
    for at, name in enumerate(node.outputs[1:]):
        if name:
            stacked = _stack(b, [states[at] for states in finals])
            order = (1, 0, 2) if _is_batch_first(node) else None
            b.place(name, b.reshape(stacked, (len(finals), batch, hidden)), order)


def _stack(b: Builder, rows: list[Tensor]) -> Tensor:
    """Write the concatenation of [batch, hidden] tensors along the first axis."""
    if len(rows) == 1:
        return copy_tensor(b, rows[0])
    shape = (sum(row.shape[0] for row in rows), rows[0].shape[1])
    return b.run("CONCATENATION", rows, shape, options={"axis": 0, "fusedActivationFunction": "NONE"})

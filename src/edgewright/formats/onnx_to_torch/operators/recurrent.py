"""LSTM, GRU and RNN: torch's own layers if the definition is the same, with the gates in torch's order.

ONNX has the gates i o f c (LSTM) and z r h (GRU), torch i f c o and r z n; in torch the reset gate of a GRU works on
the product with the recurrent weights (`linear_before_reset` of 1).
"""

from typing import Any

import torch
from torch.nn import functional as F

from edgewright.formats.onnx_to_torch.call import Arranged, Call, Constants, Function, Tensor, TorchOperator, get_shape

X, W, R, B, LENGTHS, INITIAL, CELL, PEEPHOLES = range(8)
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
MOST_JOINED = 4
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _arrange(call: Call, constants: Constants) -> Arranged | None:
    """Return weights in torch's order: for each direction W, R and, if present, both biases."""
    _check(call, constants)
    directions, order = constants[W].shape[0], ORDER[call.op]
    found: list[Tensor] = []
    for i in range(directions):
        found += [_reorder(constants[position][i], order) for position in (W, R)]
        if B in constants:
            found += [_reorder(half, order) for half in constants[B][i].chunk(2)]
    places = [position for position in (INITIAL, CELL) if position in constants]
    given = {position: constants[position] for position in places}
    first = 8 if call.op == "LSTM" else 6
    arranged = {first + i: tensor.contiguous() for i, tensor in enumerate(found)}
    return Arranged(_runner(call, B in constants, directions == 2), {**given, **arranged})


def _reorder(tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = tensor.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _check(call: Call, constants: Constants) -> None:
    usual = USUAL[call.op]
    given = [value.decode() if isinstance(value, bytes) else value for value in call.attributes.get("activations", ())]
    faults = {
        "its weights are computed at run time": any(position not in constants for position in (W, R)),
        "peepholes are not supported": PEEPHOLES in constants,
        "clipping the cell is not supported": "clip" in call.attributes,
        f"activations other than {', '.join(usual)} are not supported": bool(given)
        and [name.lower() for name in given] != [name.lower() for name in usual] * (len(given) // len(usual)),
        "the coupled gates of input_forget are not supported": bool(call.integer("input_forget", 0)),
        "linear_before_reset=0 is not supported, since torch does not have it": call.op == "GRU"
        and not (call.integer("linear_before_reset", 0) or call.unroll),
    }
    for why, is_so in faults.items():
        if is_so:
            raise call.reject(why)


def _runner(call: Call, biased: bool, both: bool) -> Function:
    """Return the function of the node's inputs without weights, followed by torch's weights."""
    functions = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}
    function, is_lstm = functions[call.op], call.op == "LSTM"
    backwards = call.text("direction", "forward") == "reverse"

    def run(call: Call, tensor: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        lengths, initial = rest[LENGTHS - 1], rest[INITIAL - 1]
        cell = rest[CELL - 1] if is_lstm else None
        weights = [weight for weight in rest[7 if is_lstm else 5 :] if weight is not None]
        if lengths is not None:
            raise call.reject("sequence_lens is not supported")
        batch_first = bool(call.integer("layout", 0))
        tensor = tensor.transpose(0, 1) if batch_first else tensor
        tensor = tensor.flip(0) if backwards else tensor
        hidden = _start(call, tensor, initial, both, batch_first)
        states = (hidden, _start(call, tensor, cell, both, batch_first)) if is_lstm else hidden
        if call.unroll:
            outputs, *last = _unroll(call, tensor, states, weights, both)
        else:
            outputs, *last = function(tensor, states, weights, biased, 1, 0.0, False, both, False)
        outputs = outputs.flip(0) if backwards else outputs
        return _shape_results(call, outputs, last, both, batch_first)

    return run


def _start(call: Call, tensor: Tensor, given: Tensor | None, both: bool, batch_first: bool) -> Tensor:
    if given is None:
        return torch.zeros(1 + both, get_shape(tensor)[1], call.integer("hidden_size", 0), dtype=tensor.dtype)
    return given.transpose(0, 1) if batch_first else given


def _shape_results(
    call: Call, outputs: Tensor, last: list[Tensor], both: bool, batch_first: bool
) -> tuple[Tensor, ...]:
    """Return Y as [steps, directions, batch, hidden], or batch first in that layout."""
    steps, batch, width = get_shape(outputs)
    split = outputs.reshape(steps, batch, 1 + both, width // (1 + both))
    if batch_first:
        return (split.permute(1, 0, 2, 3), *(state.transpose(0, 1) for state in last))
    return (split.permute(0, 2, 1, 3), *last)


def _unroll(call: Call, tensor: Tensor, states: Any, weights: list[Tensor], both: bool) -> tuple[Tensor, ...]:
    """Return the outputs of torch's layer, computed step by step with operators that XNNPACK has."""
    hidden, cell = states if call.op == "LSTM" else (states, None)
    each = len(weights) // (1 + both)
    outputs, last_hidden, last_cell = [], [], []
    for i in range(1 + both):
        mine = weights[i * each : (i + 1) * each]
        carried = (_pick(hidden, i), None if cell is None else _pick(cell, i))
        made, carried = _run_direction(call, tensor, carried, mine, bool(i))
        outputs.append(made)
        last_hidden.append(carried[0])
        last_cell.append(carried[1])
    results = (torch.cat(outputs, 2) if both else outputs[0], torch.stack(last_hidden))
    return results if cell is None else (*results, torch.stack(last_cell))


def _run_direction(
    call: Call, tensor: Tensor, carried: tuple[Tensor, Tensor], weights: list[Tensor], is_reversed: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return one direction: the outputs [steps, batch, hidden] in the order of the input, and the last state."""
    w, r, *biases = weights
    steps, batch, _ = get_shape(tensor)
    entering = F.linear(tensor, w, biases[0] if biases else None)
    made: list[Tensor] = []
    for step in range(steps - 1, -1, -1) if is_reversed else range(steps):
        x = entering.narrow(0, step, 1).reshape(batch, get_shape(w)[0])
        carried = CELLS[call.op](call, x, carried, r, biases[1] if biases else None)
        made.append(carried[0].reshape(1, batch, get_shape(r)[1]))
    return _join(made[::-1] if is_reversed else made), carried


def _step_lstm(call: Call, x: Tensor, carried: Any, r: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    hidden, cell = carried
    inner, forget, change, outer = _pieces(x + F.linear(hidden, r, bias), get_shape(r)[1])
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(inner) * torch.tanh(change)
    return torch.sigmoid(outer) * torch.tanh(cell), cell


def _step_gru(call: Call, x: Tensor, carried: Any, r: Tensor, bias: Tensor | None) -> tuple[Tensor, None]:
    hidden, size = carried[0], get_shape(r)[1]
    if call.integer("linear_before_reset", 0):
        reset_h, update_h, new_h = _pieces(F.linear(hidden, r, bias), size)
        reset_x, update_x, new_x = _pieces(x, size)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    else:
        gates, last = r.narrow(0, 0, 2 * size), r.narrow(0, 2 * size, size)
        parts = (None, None) if bias is None else (bias.narrow(0, 0, 2 * size), bias.narrow(0, 2 * size, size))
        reset_h, update_h = _pieces(F.linear(hidden, gates, parts[0]), size)
        reset_x, update_x, new_x = _pieces(x, size)
        new = torch.tanh(new_x + F.linear(torch.sigmoid(reset_x + reset_h) * hidden, last, parts[1]))
    return new + torch.sigmoid(update_x + update_h) * (hidden - new), None


def _step_rnn(call: Call, x: Tensor, carried: Any, r: Tensor, bias: Tensor | None) -> tuple[Tensor, None]:
    return torch.tanh(x + F.linear(carried[0], r, bias)), None


CELLS: dict[str, Function] = {"LSTM": _step_lstm, "GRU": _step_gru, "RNN": _step_rnn}


def _pick(states: Tensor, direction: int) -> Tensor:
    return states.narrow(0, direction, 1).reshape(get_shape(states)[1:])


def _pieces(tensor: Tensor, size: int) -> list[Tensor]:
    """Return equal slices: XNNPACK has no split."""
    return [tensor.narrow(1, begin, size) for begin in range(0, get_shape(tensor)[1], size)]


def _join(parts: list[Tensor]) -> Tensor:
    """Concatenate a few at a time: XNNPACK does not support more."""
    while len(parts) > 1:
        groups = [parts[i : i + MOST_JOINED] for i in range(0, len(parts), MOST_JOINED)]
        parts = [torch.cat(group) if len(group) > 1 else group[0] for group in groups]
    return parts[0]


def _unarranged(call: Call, *tensors: Tensor) -> Tensor:
    raise call.reject("its weights are computed at run time")


TABLE: dict[str, TorchOperator] = {name: TorchOperator(_unarranged, arrange=_arrange) for name in ORDER}

"""Rules of output shapes, such as `["x[0]", "x[1] * 2"]`, as the steps that `native/operators.c` computes."""

import ast
from collections.abc import Sequence

MAX_RANK, MAX_STEPS = 8, 15
CONSTANT, SIZE = 0, 1
_OPERATIONS = {ast.Add: 2, ast.Sub: 3, ast.Mult: 4, ast.FloorDiv: 5}
GRAMMAR = "integers, sizes such as x[0], and + - * // between them"


def compile_shape(rule: str | Sequence[int | str], inputs: Sequence[str]) -> list[int]:
    """Return the steps of a rule. Raises ValueError for another text.

    Args:
        rule: name of the input that has the same shape, or one expression for each axis.
        inputs: names of the inputs.
    """
    if isinstance(rule, str):
        return [-1 - _find_input(rule, inputs)]
    if len(rule) > MAX_RANK:
        raise ValueError(f"it has {len(rule)} axes, and at most {MAX_RANK} are possible")
    steps = [len(rule)]
    for text in rule:
        own = _compile_size(str(text), inputs)
        steps += [len(own) // 2, *own]
    return steps


def _find_input(name: str, inputs: Sequence[str]) -> int:
    if name not in inputs:
        raise ValueError(f"'{name}' is not an input; the inputs are {', '.join(inputs)}")
    return inputs.index(name)


def _compile_size(text: str, inputs: Sequence[str]) -> list[int]:
    try:
        steps = _visit(ast.parse(text, mode="eval").body, inputs)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"'{text[:60]}' is no size: it may have {GRAMMAR}") from None
    if len(steps) // 2 > MAX_STEPS:
        raise ValueError(f"'{text[:60]}' is too long")
    return steps


def _visit(node: ast.expr, inputs: Sequence[str]) -> list[int]:
    """Return the steps in the order of a stack machine: pairs of a step and its argument."""
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool) and abs(number) < 1 << 62:
            return [CONSTANT, number]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int(axis))) if 0 <= axis < MAX_RANK:
            return [SIZE, _find_input(name, inputs) * MAX_RANK + axis]
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            return [*_visit(left, inputs), *_visit(right, inputs), _OPERATIONS[type(operation)], 0]
        case _:
            raise ValueError(f"'{ast.unparse(node)[:60]}' is no size: it may have {GRAMMAR}")

"""`auto:Nx`: a student derived from a teacher, with a given share of its parameters.

Down to a sixth of the parameters, only widths are reduced. Below that, half of the repeated blocks are removed first.
Widths shrink by the same share in every group of channels, neurons and heads that can be sliced, rounded to multiples
of 8, or of 4 in groups below 32. Parameters are counted, not estimated.
"""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import GateFailed, UsageError
from edgewright.formats.onnx.editable import EditableGraph
from edgewright.pruning.graph_pruner import find_kept_indices
from edgewright.pruning.groups import PruningGroup, PruningGroups, find_groups
from edgewright.system.temporary import TemporaryFolder
from edgewright.training.job import ModuleSource
from edgewright.training.modules import evaluation_mode, try_forward
from edgewright.training.slices import KeptIndices, Slices, apply_slices, make_slices, set_submodule
from edgewright.training.slicing.named import export_named
from edgewright.training.slicing.sliceable import SliceableGroups, compute_size_attributes, find_sliceable_groups

MAX_WIDTH_ONLY_RATIO = 6.0
BISECTION_STEPS = 24
KeptUnits = dict[str, NDArray[np.int64]]


class StudentDesign(NamedTuple):
    """A student without initialized weights.

    Attributes:
        slices: of the teacher's module.
        parameters: of the student; `whole` are the teacher's.
        widths: by group, the number of kept and of all units.
    """

    slices: Slices
    parameters: int
    whole: int
    widths: dict[str, tuple[int, int]]


def make_student(
    module: Any, source: ModuleSource, shapes: Mapping[str, Sequence[int]], times: float, folder: Path
) -> StudentDesign:
    """Return the largest student with at most 1 / `times` of the module's parameters.

    Args:
        module: of `source`, which is changed.
        folder: future folder of the slices.

    Raises:
        UsageError: `times` is not above 1.
        GateFailed: the smallest student is larger.
    """
    if not times > 1:
        raise UsageError(
            f"a student with {times:g}× fewer parameters is not smaller",
            "the factor must be above 1",
            "give for example auto:5x",
        )
    whole = sum(one.numel() for one in module.parameters())
    removed = _find_removable_blocks(module, shapes) if times > MAX_WIDTH_ONLY_RATIO else []
    apply_slices(module, Slices(factory="", removed=tuple(removed)))
    groups, sliceable = _find_widths(module, shapes)
    budget = int(whole / times)
    keep = _fit(module, groups, sliceable, budget)
    places = find_kept_indices(groups, keep)
    parameters = _count(module, places)
    if parameters > budget:
        kept_whole = "".join(f"\n'{name}': {why}" for name, why in list(sliceable.refused.items())[:3])
        raise GateFailed(
            f"no student can be {times:g}× smaller",
            f"the smallest one has {parameters:,} of {whole:,} parameters, {whole / parameters:.1f}× fewer{kept_whole}",
            f"use auto:{whole / parameters * 0.99:.1f}x or your own student module",
        )
    numbers = compute_size_attributes(sliceable, keep)
    slices = make_slices(source, folder, places, removed=removed, numbers=numbers, shapes=shapes)
    sizes = {one.name: one.size for one in groups.groups}
    widths = {name: (len(units), sizes[name]) for name, units in keep.items()}
    return StudentDesign(slices, parameters, whole, widths)


def _find_widths(module: Any, shapes: Mapping[str, Sequence[int]]) -> tuple[PruningGroups, SliceableGroups]:
    with TemporaryFolder() as folder:
        path = folder / "named.onnx"
        export_named(module, shapes, path)
        model = EditableGraph(EditableGraph.open(path).to_message())  # in memory: the folder is removed
    names = [one.name for one in try_forward(module, shapes).inputs]
    groups = find_groups(model, {name: tuple(shapes[name]) for name in names})
    return groups, find_sliceable_groups(module, model, shapes, groups)


def _fit(module: Any, groups: PruningGroups, sliceable: SliceableGroups, budget: int) -> KeptUnits:
    """Return the units of the widest student within the budget, by bisection over the kept share; the remaining budget
    goes to the groups that lost most."""
    own = {one.name: one for one in groups.groups if one.name in sliceable.groups}

    def fits(keep: KeptUnits) -> bool:
        return _count(module, find_kept_indices(groups, keep)) <= budget

    low, high = 0.0, 1.0
    for _ in range(BISECTION_STEPS):
        share = (low + high) / 2
        low, high = (share, high) if fits(_scale(own, share)) else (low, share)
    keep = _scale(own, low)
    for name in sorted(keep, key=lambda one: len(keep[one]) / own[one].size):
        wider = np.arange(min(own[name].size, len(keep[name]) + _get_width_step(own[name])))
        if fits({**keep, name: wider}):
            keep[name] = wider
    return keep


def _scale(groups: Mapping[str, PruningGroup], share: float) -> KeptUnits:
    return {name: np.arange(_round_units(one, share)) for name, one in groups.items()}


def _get_width_step(group: PruningGroup) -> int:
    """Return the width step: 8, 4 below 32, 1 for heads and below 8."""
    return 1 if group.kind == "heads" or group.size < 8 else 4 if group.size < 32 else 8


def _round_units(group: PruningGroup, share: float) -> int:
    """Round to a multiple, at least one."""
    step = _get_width_step(group)
    return min(group.size, max(step, round(group.size * share / step) * step))


def _count(module: Any, places: KeptIndices) -> int:
    """Return the number of parameters with only these indices."""
    total = 0
    counted: set[int] = set()
    # Of tied weights, the sliced name counts.
    every = sorted(module.named_parameters(remove_duplicate=False), key=lambda pair: pair[0] not in places)
    for name, one in every:
        if id(one) not in counted:
            own = places.get(name, {})
            total += prod(len(own[axis]) if axis in own else size for axis, size in enumerate(one.shape))
        counted.add(id(one))
    return total


def _find_removable_blocks(module: Any, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the paths of every second block that preserves its input's shape, has siblings of its class in a
    Sequential or ModuleList, and is not required to run the module.
    """
    from torch import nn

    kept_shape = _find_shape_preserving_modules(module, shapes)
    removed: list[str] = []
    blocks: list[str] = []
    for path, container in module.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList) or any(
            path.startswith(f"{one}.") for one in blocks
        ):
            continue
        kinds = [type(child) for child in container]
        own = [
            f"{path}.{name}".lstrip(".")
            for name, child in container.named_children()
            if kinds.count(type(child)) > 1 and any(True for _ in child.children())
        ]
        blocks += own
        same = [one for one in own if one in kept_shape]
        removed += [one for one in same[1::2] if _runs_without(module, one, shapes)]
    return removed


def _find_shape_preserving_modules(module: Any, shapes: Mapping[str, Sequence[int]]) -> set[str]:
    import torch

    found: set[str] = set()

    def watch(path: str) -> Any:
        def note(part: Any, given: Any, made: Any) -> None:
            if (
                len(given) == 1
                and all(hasattr(one, "shape") for one in (given[0], made))
                and given[0].shape == made.shape
            ):
                found.add(path)

        return note

    hooks = [part.register_forward_hook(watch(path)) for path, part in module.named_modules() if path]
    try:
        with evaluation_mode(module), torch.no_grad():
            try_forward(module, shapes)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _runs_without(module: Any, path: str, shapes: Mapping[str, Sequence[int]]) -> bool:
    from torch import nn

    from edgewright.errors import InputError

    part = module.get_submodule(path)
    set_submodule(module, path, nn.Identity())
    try:
        try_forward(module, shapes)
    except InputError:
        return False
    finally:
        set_submodule(module, path, part)
    return True

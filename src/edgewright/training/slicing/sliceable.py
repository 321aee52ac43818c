"""Groups of a module's graph that can be sliced in the module, found by testing.

Its `forward` is user code: it may contain constant sizes, or store the number of heads in an attribute. A group is
tested with one unit less: the outputs of the sliced module must match those of the pruned graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.errors import EdgewrightError
from edgewright.pruning.graph_pruner import find_kept_indices, prune_graph
from edgewright.pruning.groups import PruningGroup, PruningGroups
from edgewright.schema.arrays import Array
from edgewright.training.modules import evaluation_mode, get_named_tensors, try_forward
from edgewright.training.slices import Slices, apply_slices

OUTPUT_TOLERANCE = 1e-3  # of the largest output


class SizeAttribute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A size attribute of a module: `each` for every unit of the group."""

    module: str
    name: str
    each: int


class SliceableGroups(NamedTuple):
    """The groups that can be sliced.

    Attributes:
        groups: names of the groups that can be sliced.
        refused: the reason by name of the other groups.
        numbers: by group, the attributes that change with it.
    """

    groups: tuple[str, ...]
    refused: dict[str, str]
    numbers: dict[str, tuple[SizeAttribute, ...]]


def find_sliceable_groups(
    module: Any, model: Any, shapes: Mapping[str, Sequence[int]], groups: PruningGroups
) -> SliceableGroups:
    """Test the groups of `model` (`onnx.ModelProto` from `export_named`) on the module, which is not changed."""
    return SliceTrials(module, model, shapes, groups).find()


def compute_size_attributes(
    sliceable: SliceableGroups, keep: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, int]]:
    """Return the attributes by module for these kept units."""
    found: dict[str, dict[str, int]] = {}
    for group, units in keep.items():
        for one in sliceable.numbers.get(group, ()):
            found.setdefault(one.module, {})[one.name] = one.each * len(units)
    return found


class SliceTrials:
    def __init__(self, module: Any, model: Any, shapes: Mapping[str, Sequence[int]], groups: PruningGroups) -> None:
        self.module, self.model, self.shapes, self.groups = module, model, shapes, groups
        self.by_name = {group.name: group for group in groups.groups if group.size > 1}
        self.own = get_named_tensors(module)
        self.numbers: dict[str, tuple[SizeAttribute, ...]] = {}
        self.refused: dict[str, str] = {}
        self.feeds = _make_feeds(module, shapes)

    def find(self) -> SliceableGroups:
        good: list[str] = []
        found = self.bisect(list(self.by_name))
        if self.find_failure(found):  # each half was tested alone
            for name in found:
                why = self.find_failure([*good, name])
                if why:
                    self.refused[name] = why
                else:
                    good.append(name)
        else:
            good = found
        return SliceableGroups(tuple(good), self.refused, self.numbers)

    def bisect(self, names: list[str]) -> list[str]:
        why = self.find_failure(names) if names else ""
        if not why:
            return names
        if len(names) == 1:
            return names if self.try_size_attributes(names[0]) else self.reject(names[0], why)
        half = len(names) // 2
        return [*self.bisect(names[:half]), *self.bisect(names[half:])]

    def reject(self, name: str, why: str) -> list[str]:
        self.refused[name] = why
        return []

    def try_size_attributes(self, name: str) -> bool:
        """Return whether the group can be sliced if size attributes change with it."""
        for numbers in _propose_size_attributes(self.module, self.by_name[name], self.own):
            self.numbers[name] = numbers
            if not self.find_failure([name]):
                self.suggest_attributes(name)
                return True
        self.numbers.pop(name, None)
        return not self.find_failure([name])

    def suggest_attributes(self, name: str) -> None:
        """Propose the same attributes for similar groups, so that networks of many layers are tested at once."""
        wanted = {one.name for one in self.numbers[name]}
        for other, group in self.by_name.items():
            if other not in self.numbers and other not in self.refused and group.kind == self.by_name[name].kind:
                proposed = _propose_size_attributes(self.module, group, self.own)
                alike = next((some for some in proposed if {one.name for one in some} == wanted), None)
                self.numbers |= {other: alike} if alike else {}

    def find_failure(self, names: Sequence[str]) -> str:
        """Return why the module does not run with one unit less of each group; empty if it does."""
        import torch

        keep = {name: np.delete(np.arange(size), size // 2) for name in names for size in [self.by_name[name].size]}
        places = find_kept_indices(self.groups, keep)
        if unknown := [name for name in places if name not in self.own]:
            return f"it also includes '{unknown[0]}', which is not a parameter of the module"
        numbers = compute_size_attributes(SliceableGroups((), {}, self.numbers), keep)
        parameters = {
            name: {axis: tuple(kept.tolist()) for axis, kept in axes.items()} for name, axes in places.items()
        }
        cut = deepcopy(self.module)
        try:
            apply_slices(
                cut, Slices(factory="", parameters=parameters, numbers=numbers, shapes=dict(self.groups.shapes))
            )
            wanted = run_graph(prune_graph(self.model, self.groups, keep), self.feeds)
        except EdgewrightError as error:
            return error.why or error.what
        with torch.no_grad(), evaluation_mode(cut):
            made = [
                one.numpy()
                for one in _flatten_outputs(cut(**{name: torch.from_numpy(x) for name, x in self.feeds.items()}))
            ]
        alike = all(
            one.shape == other.shape
            and np.abs(one - other).max(initial=0) <= OUTPUT_TOLERANCE * max(1e-6, np.abs(other).max(initial=0))
            for one, other in zip(made, wanted, strict=True)
        )
        return "" if alike else "its forward computes other outputs after slicing"


def _flatten_outputs(made: Any) -> list[Any]:
    from edgewright.formats.torch.program import flatten_tensors

    return flatten_tensors(made)


def _make_feeds(module: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Return seeded noise; zeros and ones for integers."""
    made = np.random.default_rng(0)
    feeds = {}
    for one in try_forward(module, shapes).inputs:
        floats = one.dtype.startswith("float")
        array = made.standard_normal(one.shape) if floats else made.integers(0, 2, one.shape)
        feeds[one.name] = array.astype(one.dtype)
    return feeds


def run_graph(model: Any, feeds: Mapping[str, Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def _propose_size_attributes(
    module: Any, group: PruningGroup, own: Mapping[str, Any]
) -> Iterator[tuple[SizeAttribute, ...]]:
    """Return sets of attributes, in user modules around the group's weights, whose values are the number of its units
    or the size of an axis that it covers.
    """
    sizes = {group.size: 1}
    for one in group.members:
        size = own[one.tensor].shape[one.axis] if one.tensor in own else 0
        if one.indices.size == size:
            sizes.setdefault(size, size // group.size)
    around = {path for one in group.members for path in _list_parents(one.tensor)}
    found = [
        SizeAttribute(module=path, name=name, each=sizes[value])
        for path, part in module.named_modules()
        if path in around and not type(part).__module__.startswith("torch.nn")
        for name, value in vars(part).items()
        if type(value) is int and value in sizes and not name.startswith("_")
    ]
    nearest = max((one.module.count(".") + bool(one.module) for one in found), default=0)
    near = tuple(one for one in found if one.module.count(".") + bool(one.module) == nearest)
    seen = []
    for chosen in (tuple(one for one in near if one.each == 1), near, tuple(found)):
        if chosen and chosen not in seen:
            seen.append(chosen)
            yield chosen


def _list_parents(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[:count]) for count in range(len(parts) + 1)]

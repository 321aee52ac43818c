"""Torch programs from all kinds of sources, in a form that can be exported. Only for use in a worker process.

A source is `FILE.py:FACTORY` (a function that builds the module, whose weights may be in another file), a
`.pt2` of torch.export, a TorchScript file (`.pt`), or an ONNX file. The first is the user's code and runs as
such; the third may have code too, which TorchScript's own interpreter runs.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from inspect import Parameter, isclass, isfunction, signature
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

from edgewright.errors import (
    EdgewrightError,
    InputError,
    ModelNotConvertible,
    ModelNotFound,
    ModelUnreadable,
    find_full_disk_error,
)
from edgewright.formats.onnx.external import needs_data_file
from edgewright.formats.torch.explain import explain_error
from edgewright.formats.torch.weights import get_first_line, load_weights, watch_weights
from edgewright.formats.torch_files import find_torch_kind
from edgewright.schema.artifact import IoMap, Port

OPSET = 18
MOST_MIXED = 4
RANDOM_WEIGHTS = "the weights are random, because the factory loads none: give trained ones with --weights FILE"
Shapes = Mapping[str, Sequence[int]]


class TorchPort(NamedTuple):
    """One input or output; the type is NumPy's name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class LoadedProgram(NamedTuple):
    """A torch program ready to be exported.

    Attributes:
        program: a torch.nn.Module in evaluation mode, a TorchScript module, or an ExportedProgram.
        kind: which of the three.
        examples: one tensor for each input.
        sources_of: names of the source nodes of a module path; only for ONNX sources.
        notes: about the weights.
    """

    program: Any
    kind: Literal["module", "script", "exported"]
    inputs: tuple[TorchPort, ...]
    outputs: tuple[TorchPort, ...]
    examples: tuple[Any, ...]
    sources_of: Callable[[str], tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def export(self) -> Any:
        """Return the program as torch.export.ExportedProgram."""
        import torch

        if self.kind == "exported":
            return self.program
        if self.kind == "script":
            raise ModelNotConvertible(
                "a TorchScript file cannot be exported", "torch.export does not accept it", "give FILE.py:FACTORY"
            )
        with torch.no_grad():
            return torch.export.export(self.program, self.examples)

    def callable(self) -> Any:
        """Return the program as a function of the inputs."""
        return self.program.module() if self.kind == "exported" else self.program


class ProgramForm(TypedDict, total=False):
    """How a program is loaded."""

    half: bool  # with weights and activations in float16; inputs and outputs keep their types
    unroll: bool  # with the recurrent layers of an ONNX file unrolled
    integers: bool  # with the Q/DQ pairs of a QDQ graph


def load_source(
    source: str, format: str, shapes: Shapes, *, weights: str | None = None, **form: Unpack[ProgramForm]
) -> LoadedProgram:
    """Load an ONNX file (`format` "onnx") or a torch source ("torch").

    Raises EdgewrightErrors with the unsupported parts.
    """
    if format == "onnx":
        return _load_onnx(Path(source), shapes, **form)
    return load_torch(source, shapes, half=form.get("half", False), weights=weights)


def _load_onnx(path: Path, shapes: Shapes, **form: Unpack[ProgramForm]) -> LoadedProgram:
    from edgewright.formats.onnx_to_torch.build import load_network

    network = load_network(path, shapes, **form)
    steps = {f"steps.{i}": step.sources for i, step in enumerate(network.steps)}
    outputs = [
        TorchPort(name, sizes, _type_name(kind))
        for name, sizes, kind in zip(network.outputs, network.sizes, network.types, strict=True)
    ]
    return LoadedProgram(
        network,
        "module",
        _describe_examples(network.inputs, network.examples),
        tuple(outputs),
        network.examples,
        lambda path: steps.get(path, ()),
    )


def load_torch(source: str, shapes: Shapes, *, half: bool = False, weights: str | None = None) -> LoadedProgram:
    """Return a torch source: inputs have the names of `forward`'s parameters, outputs are `output`, or `output0` and so
    on.
    """
    with watch_weights() as random:
        program, kind = _load_program(source, weights)
    notes = (RANDOM_WEIGHTS,) if random else ()
    return describe_program(program, kind, shapes, half=half)._replace(notes=notes)


def describe_program(
    program: Any, kind: Literal["module", "script", "exported"], shapes: Shapes, *, half: bool = False
) -> LoadedProgram:
    names, examples = _make_examples(program, kind, shapes)
    if half:
        if kind == "exported":
            raise ModelNotConvertible(
                "a .pt2 file cannot be converted to fp16", "its types are fixed", "give FILE.py:FACTORY"
            )
        program = _halve(program)
    examples, made = _try_types(program.module() if kind == "exported" else program, kind, examples)
    results = flatten_tensors(made)
    outputs = tuple(
        TorchPort(name, tuple(tensor.shape), _type_name(tensor.dtype))
        for name, tensor in zip(name_outputs(len(results)), results, strict=True)
    )
    return LoadedProgram(program, kind, _describe_examples(names, examples), outputs, examples, lambda path: ())


def _load_program(source: str, weights: str | None) -> tuple[Any, Literal["module", "script", "exported"]]:
    import torch

    file, _, factory = source.rpartition(":")
    if file.endswith(".py"):
        return build_module(Path(file), factory, weights), "module"
    path = Path(source)
    if not path.is_file():
        raise ModelNotFound(f"file not found: {source}")
    try:
        if (find_torch_kind(path) or path.suffix) in ("exported", ".pt2"):
            return torch.export.load(str(path)), "exported"
        return torch.jit.load(str(path), map_location="cpu").eval(), "script"
    except Exception as error:  # torch raises exceptions of any class on a bad file
        raise ModelUnreadable(f"{source} cannot be read by torch", get_first_line(error)) from error


def build_module(path: Path, factory: str, weights: str | None) -> Any:
    """Run the user's file from its own folder, call its factory, and load the weights, which must not contain code."""
    import torch

    if not path.is_file():
        raise ModelNotFound(f"file not found: {path}")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelUnreadable(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        built = _find_factory(module, factory, path)()
    except EdgewrightError:  # of a source that Edgewright wrote
        raise
    except (Exception, SystemExit) as error:  # it is the user's code
        why, hint = f"{type(error).__name__}: {error}", (f"correct {path.name} so that {factory}() returns the module")
        raise ModelUnreadable(f"{path}:{factory} cannot be built", why, hint) from error
    if not isinstance(built, torch.nn.Module):
        why, hint = f"it returns {type(built).__name__}", (f"return a torch.nn.Module from {factory}()")
        raise ModelUnreadable(f"{path}:{factory} does not return a torch module", why, hint)
    if weights:
        load_weights(built, Path(weights))
    return built.eval()


def _find_factory(module: Any, factory: str, path: Path) -> Any:
    if not callable(getattr(module, factory, None)):
        have = ", ".join(name for name, one in vars(module).items() if isfunction(one) or isclass(one)) or "none"
        why, hint = (
            f"the file has no function '{factory}', but has: {have}",
            f"give {path.name}:NAME with the name of the function that builds the module",
        )
        raise ModelUnreadable(f"{path} has no factory '{factory}'", why, hint)
    return getattr(module, factory)


def _make_examples(program: Any, kind: str, shapes: Shapes) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return names and examples of the inputs: a .pt2 has them; else names are from `forward`, sizes from `shapes`."""
    import torch

    if kind == "exported":
        args, _ = program.example_inputs
        names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
        tensors = tuple(torch.zeros_like(tensor) for tensor in flatten_tensors(args))
        given = {name: tuple(tensor.shape) for name, tensor in zip(names, tensors, strict=True)}
        if wrong := [name for name, shape in shapes.items() if given.get(name) != tuple(shape)]:
            raise InputError(f"the shape of '{wrong[0]}' differs from the program's", f"its inputs are {given}")
        return tuple(names), tensors
    wanted = _choose_inputs(program, kind, shapes)
    return tuple(wanted), tuple(torch.zeros(tuple(shapes[name])) for name in wanted)


def _choose_inputs(program: Any, kind: str, shapes: Shapes) -> list[str]:
    """Return the parameters of `forward` with a shape, in its order. Raises InputError if one is missing or unknown."""
    names = _name_inputs(program, kind)
    wanted = [name for name in names if name in shapes]
    if unknown := sorted(set(shapes) - set(names)):
        why = f"forward takes {', '.join(names) or 'no inputs'}"
        hint = (
            f"name the input {(names or ['x'])[0]} in the task or in --shape, or name the "
            f"parameter of forward {unknown[0]}"
        )
        raise InputError(f"the module has no input '{unknown[0]}'", why, hint)
    if unset := [name for name in _list_required(program, kind) if name not in shapes]:
        raise InputError(
            f"the input '{unset[0]}' of the module has no shape",
            f"forward takes {', '.join(names)}",
            f"give it with --shape {unset[0]}=SIZES; if it is a number, wrap the module in one that sets it: "
            f"forward(self, {', '.join(wanted) or 'x'}) returns self.inner({', '.join([*wanted, '16000'])})"
            + (", and save torch.jit.script of that" if kind == "script" else ""),
        )
    if not wanted:
        raise InputError(
            "the shapes of the inputs are not known",
            f"forward takes {', '.join(names)}",
            "give them with --shape NAME=1,3,32,32",
        )
    return wanted


def _try_types(run: Any, kind: str, examples: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """Return the examples with which the program runs, and its outputs: of float32, or some of int64.

    Only a .pt2 has the types of its inputs. If there are many inputs, all get the same type.
    """
    import torch

    kinds = (torch.float32, torch.int64)
    count = len(examples)
    choices = product(kinds, repeat=count) if count <= MOST_MIXED else ((one,) * count for one in kinds)
    first: Exception | None = None
    for choice in [()] if kind == "exported" else choices:
        typed = tuple(one.to(wanted) for one, wanted in zip(examples, choice, strict=True)) if choice else examples
        try:
            with torch.no_grad():
                return typed, run(*typed)
        except Exception as error:  # it is the user's code
            first = first or error
    raise InputError(
        "the model does not run with these shapes",
        explain_error(first) if first else "",
        "give other shapes with --shape NAME=1,3,32,32",
    ) from first


def _name_inputs(program: Any, kind: str) -> list[str]:
    if kind == "script":
        return [value.debugName().split(".")[0] for value in list(program.graph.inputs())[1:]]
    skipped = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [name for name, one in signature(program.forward).parameters.items() if one.kind not in skipped]


def _list_required(program: Any, kind: str) -> list[str]:
    """Return the parameters of `forward` without a default."""
    if kind == "script":
        arguments = program.forward.schema.arguments[1:]
        return [one.name for one in arguments if not one.has_default_value()]
    return [
        name
        for name, one in signature(program.forward).parameters.items()
        if one.default is Parameter.empty and one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]


def name_outputs(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]


def flatten_tensors(made: Any) -> list[Any]:
    """Return the tensors in a program's inputs or outputs, in order."""
    import torch
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]


def _halve(module: Any) -> Any:
    """Return the module in float16, with casts of float32 inputs and outputs."""
    import torch

    class Halved(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.inner = module.half()

        def forward(self, *tensors: Any) -> Any:
            made = self.inner(*(one.half() if one.is_floating_point() else one for one in tensors))
            return tuple(one.float() if one.dtype == torch.float16 else one for one in flatten_tensors(made))

    return Halved().eval()


def _describe_examples(names: Sequence[str], examples: Sequence[Any]) -> tuple[TorchPort, ...]:
    return tuple(
        TorchPort(name, tuple(tensor.shape), _type_name(tensor.dtype))
        for name, tensor in zip(names, examples, strict=True)
    )


def _type_name(kind: Any) -> str:
    return str(kind).removeprefix("torch.")


def map_ports(loaded: LoadedProgram) -> IoMap:
    """Return a map with the source's own inputs and outputs."""
    return IoMap(inputs=tuple(map(_as_port, loaded.inputs)), outputs=tuple(map(_as_port, loaded.outputs)))


def _as_port(one: TorchPort) -> Port:
    return Port(
        source=one.name,
        name=one.name,
        source_shape=one.shape,
        source_dtype=one.dtype,
        axes=tuple(range(len(one.shape))),
        shape=one.shape,
        dtype=one.dtype,
    )


def export_onnx(loaded: LoadedProgram, to: Path) -> None:
    """Write opset-18 ONNX with the inputs' and outputs' own names, and fixed sizes.

    A TorchScript file is exported with torch's older exporter, the only one that supports it.
    """
    import torch

    names = {
        "input_names": [one.name for one in loaded.inputs],
        "output_names": [one.name for one in loaded.outputs],
        "opset_version": OPSET,
    }
    try:
        with silence_exporter(), torch.no_grad():
            if loaded.kind == "script":
                torch.onnx.export(loaded.program, loaded.examples, str(to), dynamo=False, **names)
                return
            program = torch.onnx.export(loaded.program, loaded.examples, dynamo=True, verbose=False, **names)
            program.save(str(to), external_data=needs_data_file(program.model_proto))
    except Exception as error:  # the exporter raises exceptions of any class
        if find_full_disk_error(error):
            raise
        raise make_export_error(error) from error


def make_export_error(error: Exception) -> ModelNotConvertible:
    """Return the error of a module that torch's exporter rejects, with the line of the user's code."""
    return ModelNotConvertible(
        "torch cannot export the model to ONNX",
        explain_error(error),
        "change this line so that torch.export accepts it (no branch on a value of a tensor, no value of a tensor as a "
        "Python number), or export a module without it",
    )


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Suppress warnings and progress output of torch's exporters."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

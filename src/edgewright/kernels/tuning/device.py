"""An OpenCL device with pyopencl: builds a variant, computes with it, and measures it."""

import time
from statistics import median
from typing import Any

import numpy as np

from edgewright.errors import RuntimeMissing
from edgewright.kernels.tuning.conv2d import READ_BEHIND, SOURCE, ConvInputs, ConvVariant
from edgewright.schema.arrays import Array

INSTALL = "pip install 'edgewright[opencl]', and a driver: apt install pocl-opencl-icd runs OpenCL on the CPU"


class OpenClDevice:
    """The first OpenCL device, a GPU if there is one.

    Attributes:
        title: name of the device and its driver.
        source: of the kernels.
        is_cpu: whether times are CPU times of this process, instead of the driver's events.
        is_stand_in: whether PoCL runs the kernels on the CPU: its times say nothing about a GPU.

    Raises RuntimeMissing without pyopencl, a driver or a device.
    """

    source = SOURCE

    def __init__(self) -> None:
        self._cl = _import_opencl()
        device = _choose_device(self._cl)
        self.title = f"{device.name.strip()} ({device.platform.name.strip()}, {device.driver_version.strip()})"
        self.is_cpu = not device.type & self._cl.device_type.GPU
        self.is_stand_in = "portable computing language" in device.platform.name.lower()
        self._context = self._cl.Context([device])
        profiling = self._cl.command_queue_properties.PROFILING_ENABLE
        self._queue = self._cl.CommandQueue(self._context, properties=profiling)

    @staticmethod
    def supports(variant: ConvVariant) -> bool:
        """Return whether the device can have a variant: each is tried."""
        return True

    def load(self, variant: ConvVariant, inputs: ConvInputs) -> "LoadedKernel":
        """Build a variant. Raises DeviceFailure."""
        return LoadedKernel(self._cl, self._context, self._queue, variant, inputs)

    def time_us(self, kernel: "LoadedKernel", rounds: int) -> float:
        """Return the median time of a run in microseconds."""
        return median(self._time_once(kernel) for _ in range(rounds))

    def _time_once(self, kernel: "LoadedKernel") -> float:
        began = time.process_time_ns()
        event = kernel.run()
        spent = time.process_time_ns() - began
        return (spent if self.is_cpu else event.profile.end - event.profile.start) / 1e3


class DeviceFailure(Exception):
    """A variant that the driver does not build or run."""


class LoadedKernel:
    """A built variant with its buffers, which must live as long as the kernel: pyopencl does not keep them."""

    def __init__(self, cl: Any, context: Any, queue: Any, variant: ConvVariant, inputs: ConvInputs) -> None:
        self._cl, self._queue, self._shape = cl, queue, inputs.want.shape
        self._sizes = variant.get_sizes()
        copied = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        try:
            program = cl.Program(context, SOURCE.read_text(encoding="utf-8")).build(options=variant.list_options())
            self._output = cl.Buffer(context, cl.mem_flags.READ_WRITE, 4 * inputs.want.size)
            source = _make_image(cl, context, inputs) if variant.image else _make_buffer(cl, context, inputs)
            self._buffers = (source, cl.Buffer(context, copied, hostbuf=inputs.weights), self._output)
            self._kernel = cl.Kernel(program, "conv2d")
            self._kernel.set_args(*self._buffers)
        except (cl.Error, RuntimeError) as error:
            raise DeviceFailure(str(error).partition("\n")[0]) from None

    def run(self) -> Any:
        """Compute once and return the finished event. Raises DeviceFailure."""
        try:
            event = self._cl.enqueue_nd_range_kernel(self._queue, self._kernel, *self._sizes)
            event.wait()
        except (self._cl.Error, RuntimeError) as error:
            raise DeviceFailure(str(error).partition("\n")[0]) from None
        return event

    def compute(self) -> Array:
        """Return the output [filters, height, width] of one run."""
        output = np.full(self._shape, np.nan, np.float32)
        self._cl.enqueue_copy(self._queue, self._output, output)
        self.run()
        self._cl.enqueue_copy(self._queue, output, self._output)
        return output


def _make_buffer(cl: Any, context: Any, inputs: ConvInputs) -> Any:
    values = np.concatenate([inputs.padded.ravel(), np.zeros(READ_BEHIND, np.float32)])
    return cl.Buffer(context, cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR, hostbuf=values)


def _make_image(cl: Any, context: Any, inputs: ConvInputs) -> Any:
    """Return the input as an image with one row for each row of each channel."""
    rows = np.ascontiguousarray(inputs.padded.reshape(-1, inputs.padded.shape[2]))
    layout = cl.ImageFormat(cl.channel_order.R, cl.channel_type.FLOAT)
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
    return cl.Image(context, flags, layout, shape=rows.shape[::-1], hostbuf=rows)


def _import_opencl() -> Any:
    try:
        import pyopencl
    except ImportError:
        raise RuntimeMissing("kernels cannot be tuned", "the package pyopencl is not installed", INSTALL) from None
    return pyopencl


def _choose_device(cl: Any) -> Any:
    try:
        devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    except cl.Error as error:  # raised if there is no driver
        raise RuntimeMissing("kernels cannot be tuned", f"OpenCL has no platform: {error}", INSTALL) from None
    if not devices:
        raise RuntimeMissing("kernels cannot be tuned", "OpenCL has no device", INSTALL)
    return min(devices, key=lambda device: not device.type & cl.device_type.GPU)

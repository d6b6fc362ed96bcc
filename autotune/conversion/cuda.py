"""CUDA's runtime for those who run engines themselves: pinned buffers, streams, graphs, events.

Through cuda-bindings rather than ``torch.cuda``: a process that measures an engine then need not
import torch, which takes a second and keeps memory of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.errors import StageError
from autotune.hardware.gpus import EXTRA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

TIMED = 20
"""How many runs the device's own time is the median of."""


@dataclass(frozen=True)
class Buffer:
    """A tensor twice: pinned in the host's memory, and on the device.

    Attributes:
        host: The pinned memory as an array.
        host_address, device_address: Where both are.
    """

    host: Array
    host_address: int
    device_address: int


class Stream:
    """A stream of one GPU with its buffers; all are given back by ``close``.

    Raises:
        StageError: There is no such GPU, or its driver is older than the runtime.
    """

    def __init__(self, index: int) -> None:
        self._cuda = _runtime()
        self._check("cannot use GPU " + str(index), self._cuda.cudaSetDevice(index))
        (stream,) = self._check("no stream", self._cuda.cudaStreamCreate())
        self._stream = stream
        self._buffers: list[Buffer] = []
        self._graph: Any = None
        properties = self._check("no name", self._cuda.cudaGetDeviceProperties(index))[0]
        self.gpu = _text(properties.name)
        self.capability = f"{properties.major}.{properties.minor}"

    @property
    def handle(self) -> int:
        """The stream as a number, for libraries that launch on it."""
        return int(self._stream)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """A tensor's memory on both sides.

        Raises:
            StageError: The device has too little memory; how much was wanted and is free.
        """
        kind = np.dtype(dtype)
        size = max(1, int(np.prod(shape)) * kind.itemsize)
        (device,) = self._check(f"{size} bytes on the GPU", self._cuda.cudaMalloc(size))
        (host,) = self._check(f"{size} pinned bytes", self._cuda.cudaHostAlloc(size, 0))
        raw = (ctypes.c_byte * size).from_address(int(host))
        array = np.frombuffer(raw, dtype=kind, count=int(np.prod(shape))).reshape(shape)
        self._buffers.append(Buffer(array, int(host), int(device)))
        return self._buffers[-1]

    def upload(self, buffer: Buffer) -> None:
        """Queue the copy to the device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.device_address, buffer.host_address, buffer.host.nbytes, kind)

    def download(self, buffer: Buffer) -> None:
        """Queue the copy to the host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(buffer.host_address, buffer.device_address, buffer.host.nbytes, kind)

    def wait(self) -> None:
        """Until all that was queued is done."""
        self._check("the GPU failed", self._cuda.cudaStreamSynchronize(self._stream))

    def capture(self, queue: Callable[[], None]) -> None:
        """Record what ``queue`` queues as a CUDA graph, which ``launch`` then runs whole.

        Raises:
            StageError: Something in it cannot be captured.
        """
        cuda, words = self._cuda, "this cannot be captured in a CUDA graph"
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(words, cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            queue()
        finally:
            ended = cuda.cudaStreamEndCapture(self._stream)
        (graph,) = self._check(words, ended)
        (self._graph,) = self._check(words, cuda.cudaGraphInstantiate(graph, 0))
        self._check(words, cuda.cudaGraphDestroy(graph))

    def launch(self) -> None:
        """Queue the captured graph."""
        self._check("the graph failed", self._cuda.cudaGraphLaunch(self._graph, self._stream))

    def device_ms(self, queue: Callable[[], None]) -> float:
        """The device's own time between two events around what ``queue`` queues, in ms."""
        cuda, times = self._cuda, []
        (first,) = self._check("no event", cuda.cudaEventCreate())
        (last,) = self._check("no event", cuda.cudaEventCreate())
        for _ in range(TIMED):
            self._check("no event", cuda.cudaEventRecord(first, self._stream))
            queue()
            self._check("no event", cuda.cudaEventRecord(last, self._stream))
            self._check("the GPU failed", cuda.cudaEventSynchronize(last))
            times.append(self._check("no time", cuda.cudaEventElapsedTime(first, last))[0])
        for event in (first, last):
            self._check("no event", cuda.cudaEventDestroy(event))
        return float(np.median(times))

    def close(self) -> None:
        """Give everything back; nothing is raised, it may be after a failure."""
        cuda = self._cuda
        if self._graph is not None:
            cuda.cudaGraphExecDestroy(self._graph)
        for buffer in self._buffers:
            cuda.cudaFree(buffer.device_address)
            cuda.cudaFreeHost(buffer.host_address)
        self._buffers.clear()
        cuda.cudaStreamDestroy(self._stream)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        copied = self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream)
        self._check("a copy failed", copied)

    def _check(self, words: str, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call returned after its error code.

        Raises:
            StageError: The code is not success.
        """
        code, *rest = answer
        if code == self._cuda.cudaError_t.cudaSuccess:
            return tuple(rest)
        told = _text(self._cuda.cudaGetErrorString(code)[1])
        if code == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            error, free, total = self._cuda.cudaMemGetInfo()
            left = f", {free} of {total} bytes are free" if int(error) == 0 else ""
            raise StageError(f"out of device memory: {words} wanted{left}; lower the batch")
        raise StageError(f"{words}: {told}{_HINTS.get(code.name, '')}")


_HINTS = {
    "cudaErrorInsufficientDriver": " (no NVIDIA driver here, or one older than the runtime)",
    "cudaErrorNoDevice": " (nvidia-smi tells which GPUs there are)",
    "cudaErrorInvalidDevice": " (nvidia-smi tells which GPUs there are)",
}


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise StageError(f"cuda-bindings is not installed: {EXTRA}") from error
    return runtime


def _text(words: Any) -> str:
    return words.decode(errors="replace").rstrip("\0") if isinstance(words, bytes) else str(words)

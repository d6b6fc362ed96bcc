"""An engine loaded and ready: pinned buffers, one stream, and a CUDA graph where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.conversion import cuda, trt_build, trt_layers, trt_library
from autotune.errors import StageError
from autotune.plugins import version

if TYPE_CHECKING:
    from autotune.contracts import Arrays, Floats


class Session:
    """The engine of an artifact for requests of ``batch`` samples on GPU ``index``.

    Raises:
        StageError: It was built for another GPU or library, it cannot be loaded, or the GPU has too
            little memory for the batch.
    """

    def __init__(
        self,
        artifact: Path,
        batch: int,
        index: int,
        output: int | str,
        *,
        graph: bool,
        threads: int = 1,
    ) -> None:
        self._artifact = artifact
        self._threads = threads
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._inputs: dict[str, cuda.Buffer] = {}
        self._outputs: dict[str, cuda.Buffer] = {}
        built, self._heavy = trt_build.read(artifact)
        self._stream = cuda.Stream(index)
        try:
            self._check(built, batch)
            self._load(artifact, batch)
            self._output = self._outputs[self._place(output)]
            self._graph = graph
            if graph:
                self._queue()  # whatever is loaded at the first call must not be captured
                self._stream.wait()
                self._stream.capture(self._queue)
        except BaseException:
            self.close()
            raise

    def run(self, batch: Arrays) -> Floats:
        """The prediction for one batch, host in, host out."""
        for name, buffer in self._inputs.items():
            np.copyto(buffer.host, batch[name], casting="same_kind")
        self._go()
        self._stream.wait()
        found: Floats = self._output.host.astype(np.float32)  # a copy: the buffer is used again
        return found

    def facts(self) -> Mapping[str, Any]:
        """What the engine's inspector tells of it, and the device's own time for a request."""
        inspector = self._engine.create_engine_inspector()
        form = trt_library.module().LayerInformationFormat.ONELINE
        layers = trt_layers.read(str(inspector.get_engine_information(form)))
        layers = layers or trt_build.layers(self._artifact)
        return {
            "provider": f"{trt_library.installed()} on {self._stream.gpu}",
            "threads": self._threads,  # one waits for the GPU, whatever was asked
            "kernels": trt_layers.kernels(layers, self._heavy),
            "device_ms": self._stream.device_ms(self._go),
            **trt_layers.fusions(layers),
        }

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._context = self._engine = self._runtime = None  # in this order
        self._stream.close()

    def _check(self, built: trt_build.Built, batch: int) -> None:
        library = version(trt_library.distribution())
        reason = built.refuse(library, self._stream.gpu, self._stream.capability, batch)
        if reason is not None:
            raise StageError(f"{reason}; it is not loaded, run again to build one for this machine")

    def _load(self, artifact: Path, batch: int) -> None:
        trt = trt_library.module()
        logger, said = trt_library.logger()
        said.lines.clear()
        self._runtime = trt.Runtime(logger)  # must outlive its engine
        self._engine = self._runtime.deserialize_cuda_engine(
            (artifact / trt_build.ENGINE).read_bytes()
        )
        if self._engine is None:
            raise StageError(f"TensorRT cannot load the engine: {said.errors()}")
        self._context = trt_library.execution_context(self._engine, trt)
        if self._context is None:
            words = said.errors()
            raise StageError(f"the GPU cannot hold the engine at batch {batch}: {words}")
        places = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [p for p in places if self._engine.get_tensor_mode(p) == trt.TensorIOMode.INPUT]
        for name in inputs:
            shape = tuple(self._engine.get_tensor_shape(name))
            self._context.set_input_shape(name, (batch, *shape[1:]))
        for name in places:
            shape = tuple(self._context.get_tensor_shape(name))
            kind = trt.nptype(self._engine.get_tensor_dtype(name))
            buffer = self._stream.buffer(shape, kind)
            self._context.set_tensor_address(name, buffer.device_address)
            (self._inputs if name in inputs else self._outputs)[name] = buffer

    def _place(self, output: int | str) -> str:
        names = list(self._outputs)
        return names[output] if isinstance(output, int) else output

    def _go(self) -> None:
        if self._graph:
            self._stream.launch()
        else:
            self._queue()

    def _queue(self) -> None:
        """Copies in, the engine, copies out: one request."""
        for buffer in self._inputs.values():
            self._stream.upload(buffer)
        if not self._context.execute_async_v3(self._stream.handle):
            raise StageError(f"TensorRT cannot run the engine: {trt_library.logger()[1].errors()}")
        for buffer in self._outputs.values():
            self._stream.download(buffer)

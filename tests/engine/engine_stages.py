"""Stage functions for the engine's tests: they run in real workers, so they live in a module."""

import ctypes
import os
import signal
import tempfile
import time
from pathlib import Path

from autotune.artifact import Stage
from autotune.errors import StageError


def stage(function, *inputs, name=None, lane="", timeout_s=60.0, **parameters):
    return Stage(
        name=name or function,
        function=f"engine_stages:{function}",
        kind="network",
        parameters=parameters,
        inputs=inputs,
        lane=lane,
        timeout_s=timeout_s,
    )


def count(context):
    """Add to what the inputs hold; a line in the ledger tells that it ran."""
    with Path(context.parameters["ledger"]).open("a") as file:
        file.write(f"{context.stage.key}\n")
    time.sleep(context.parameters.get("sleep", 0))
    total = sum(int((folder / "value").read_text()) for folder in context.inputs)
    (context.out / "value").write_text(str(total + context.parameters.get("add", 1)))
    return {"pid": os.getpid(), "cores": sorted(os.sched_getaffinity(0))}


def span(context):
    """From when to when it ran, on which cores."""
    begun = time.time()
    time.sleep(context.parameters["sleep"])
    return {"begun": begun, "ended": time.time(), "cores": sorted(os.sched_getaffinity(0))}


def segfault(context):
    os.kill(os.getpid(), signal.SIGSEGV)


def die_once(context):
    """The first attempt is killed from within, the second succeeds."""
    marker = Path(context.parameters["marker"])
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (context.out / "value").write_text("1")
    return {}


def litter(context):
    """Leave temporary files, as a library would; the first attempt is killed before it ends."""
    Path(tempfile.mkdtemp(), "left").touch()
    folder, marker = tempfile.gettempdir(), Path(context.parameters["marker"])
    if not marker.exists():
        marker.write_text(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return {
        "folder": folder,
        "told": os.environ["TMPDIR"],
        "files": len(list(Path(folder).iterdir())),
    }


def lanes_folder(context):
    return {"folder": tempfile.gettempdir()}


def pid(context):
    """Say who runs it, and wait to be killed."""
    Path(context.parameters["file"]).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def hang(context):
    """Hold the interpreter's lock in C, where no signal handler of Python runs."""
    ctypes.PyDLL(None).sleep(60)
    return {}


def refuse(context):
    raise StageError("the network cannot be pruned")


def bug(context):
    return {"x": 1 // 0}


def infinite(context):
    return {"x": float("inf")}


def chatter(context):
    print("said by Python")
    os.write(2, b"said by a library\n")
    ctypes.CDLL(None).puts(b"said by C")
    ctypes.CDLL(None).fflush(None)
    return {}


def fill(context):
    """Write more than the disk holds, as a library does that words the error its own way."""
    try:
        (context.out / "big").write_bytes(bytes(8_000_000))
    except OSError:
        if context.parameters.get("hidden"):
            raise RuntimeError("file write failed") from None
        raise
    return {}


def tell(context):
    """Say how far it is, as a training does, and go on only when it is let."""
    (context.scratch / "progress.txt").write_text("epoch 3 of 10, loss 0.12, 8 s left")
    while not Path(context.parameters["go"]).exists():
        time.sleep(0.05)
    return {}

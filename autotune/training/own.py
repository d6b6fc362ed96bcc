"""The user's own training, in the place of the shared loop.

The space file names it as ``model.train: task.py:train``; in ``task.py``::

    def train(network: torch.nn.Module, lesson: autotune.Lesson) -> None:
        x = torch.from_numpy(lesson.x["input"])
        y, teacher = torch.from_numpy(lesson.y), torch.from_numpy(lesson.teacher_logits)
        optimizer = torch.optim.SGD(network.parameters(), lesson.lr)
        network.train()
        for epoch in range(lesson.epochs):
            for rows in torch.randperm(len(x)).split(128):
                loss = lesson.loss(network(x[rows]), y[rows], teacher[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            lesson.report(f"epoch {epoch + 1} of {lesson.epochs}, loss {loss.item():.3g}")
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotune.errors import TaskError
from autotune.task import Lesson, Loss
from autotune.training import finite, usercode
from autotune.training.seeds import seed_everything

if TYPE_CHECKING:
    from torch import nn

    from autotune.contracts import TechniqueContext


def train(
    network: nn.Module, context: TechniqueContext, loss: Loss, epochs: int, lr: float
) -> None:
    """Call ``train(network, lesson)``; what it returns, if anything, gives the network its state.

    Random numbers are seeded before, and what it left in ``lesson.checkpoint`` is removed after.

    Raises:
        TaskError: It raised, returned something that is not such a network, or left one whose
            shapes changed or whose weights are not finite; with its file and line.
    """
    if context.train is None:
        raise ValueError("there is no training of the user's own")
    lesson = Lesson(
        x=context.train_x,
        y=context.train_y,
        teacher_logits=context.teacher_logits,
        loss=loss,
        epochs=epochs,
        lr=lr,
        seed=context.seed,
        checkpoint=context.checkpoint,
        report=context.report,
    )
    before = _shapes(network)
    seed_everything(context.seed)
    returned = _call(context.train, network, lesson)
    network.to("cpu")  # it may have trained elsewhere
    if returned is not None and returned is not network:
        _adopt(network, returned, before, context.train)
    if changed := _difference(before, _shapes(network)):
        raise _error(context.train, f"changed the network: {changed}")
    if name := finite.broken(network):
        raise _error(context.train, f"left NaN or infinite values in {name}")
    context.checkpoint.unlink(missing_ok=True)


def _call(function: Any, network: nn.Module, lesson: Lesson) -> Any:
    """What the user's function returns."""
    if not callable(function):
        kind = type(function).__name__
        raise TaskError(f"model.train is a {kind}, not callable", remedy="name a function")
    try:
        inspect.signature(function).bind(network, lesson)
    except TypeError as error:
        raise _error(
            function, f"cannot be called: {error}", "define it as train(network, lesson)"
        ) from error
    try:
        return function(network, lesson)
    except (Exception, SystemExit) as error:  # the edge to the user's code
        words = " ".join(str(error).split())[:300]
        line = usercode.found(error, _defined(function)[0])
        raise _error(function, f"raised {type(error).__name__}: {words}", line=line) from error


def _adopt(network: nn.Module, returned: Any, before: Mapping[str, str], function: Any) -> None:
    """Give the network the state of the one that was returned."""
    from torch import nn

    if not isinstance(returned, nn.Module):
        kind = type(returned).__name__
        raise _error(function, f"returned {kind}", "return the network, or nothing")
    if changed := _difference(before, _shapes(returned)):
        raise _error(function, f"returned another network: {changed}")
    network.load_state_dict(returned.state_dict())


def _shapes(network: nn.Module) -> dict[str, str]:
    """What every weight and buffer is, in words."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    return {name: f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for name, t in tensors}


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first weight that is not what it was, in words; "" where all are."""
    for name in (*before, *now):
        was, found = before.get(name, "not there"), now.get(name, "not there")
        if was != found:
            return f"{name} was {was}, is {found}"
    return ""


def _error(function: Any, words: str, remedy: str = "", line: int | None = None) -> TaskError:
    """An error of the user's training: where it happened, else where the function begins."""
    file, begins = _defined(function)
    place = f"{file}:{line or begins}" if file else ""
    return TaskError(f"the training {_name(function)}() {words}", place=place, remedy=remedy)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _defined(function: Any) -> tuple[str, int]:
    """The file and line where the function begins; ("", 0) for one that Python does not tell of."""
    plain = inspect.unwrap(function)
    if not inspect.isroutine(plain) and not inspect.isclass(plain):
        plain = type(plain).__call__
    code = getattr(plain, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)

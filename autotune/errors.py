"""The tree of errors.

AutotuneError
├── UserError            the user can mend it: place, cause, remedy; exit 2, no traceback
│   ├── SpecError        the space file
│   ├── TaskError        the user's model, data or metric
│   ├── RunFolderError   a run folder that does not fit what was asked
│   └── MachineError     the machine: disk, cores, cluster
├── NothingFits          no configuration meets the SLO; exit code 3, with the nearest miss
├── Infeasible           a point of the space that cannot run, with the reason
└── StageError           a stage found out that its result is wrong; the trial fails with it
"""

from __future__ import annotations


class AutotuneError(Exception):
    """The root of every error that autotune raises on purpose."""


class UserError(AutotuneError):
    """Something that the user can mend.

    Args:
        cause: What is wrong, one sentence.
        place: Where: ``file:line: key``, or a path; empty where there is none.
        remedy: What would be right; empty where the cause says it.
    """

    exit_code = 2

    def __init__(self, cause: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(cause, place, remedy)
        self.cause = cause
        self.place = place
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.cause, self.place, self.remedy))

    def __str__(self) -> str:
        head = f"{self.place}: {self.cause}" if self.place else self.cause
        return f"{head}\n  {self.remedy}" if self.remedy else head


class SpecError(UserError):
    """The space file says something it cannot mean."""


class TaskError(UserError):
    """The user's model, data or metric is not what the space file promises."""


class RunFolderError(UserError):
    """The run folder does not fit what was asked of it."""


class MachineError(UserError):
    """The machine or the cluster lacks something the run needs."""


class NothingFits(AutotuneError):  # noqa: N818 - it is an answer, not a fault
    """No configuration meets the SLO; the message names the nearest miss."""

    exit_code = 3


class Infeasible(AutotuneError):  # noqa: N818 - it is an answer, not a fault
    """A point of the space that cannot run here; the message is the reason."""


class StageError(AutotuneError):
    """A stage that must not deliver: the message becomes the trial's reason."""


def _rebuild(kind: type[UserError], cause: str, place: str, remedy: str) -> UserError:
    return kind(cause, place=place, remedy=remedy)

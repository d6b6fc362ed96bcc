"""One model by itself: where the time of its requests goes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune.deploy import bench, subjects
from autotune.engine import profiling
from autotune.errors import StageError, UserError
from autotune.profile import Profile
from autotune.space import Scalar


@dataclass(frozen=True)
class Seen:
    """What was profiled, and what was seen.

    Attributes:
        model: What it is called.
        configuration: The backend, its settings, and the batch and threads of a request.
        data: Where the samples came from, in words.
        profile: Where the time went.
    """

    model: str
    configuration: Mapping[str, Scalar]
    data: str
    profile: Profile


def profile(what: str, asked: bench.Asked, tell: Callable[[str], None] = lambda _: None) -> Seen:
    """Profile the model that ``what`` names, one request after the other.

    Args:
        what: See ``subjects.find``.
        asked: How; a profile has no scenario and takes the time that it takes.
        tell: Is told who a lane is waited for, and "" when that is over.

    Raises:
        UserError: What is asked cannot be profiled, and why.
    """
    with tempfile.TemporaryDirectory(prefix="autotune-profile-") as name:
        folders = [Path(name) / part for part in ("model", "data", "out")]
        for folder in folders:
            folder.mkdir()
        model, data, out = folders
        subject = subjects.find(
            what, asked.trial, asked.store, asked.backend, asked.threads or 1, model
        )
        threads = asked.threads or int(subject.configuration.get("threads", 1))
        target = bench.target_of(subject, threads)
        bench.check_possible(subject, target, threads)
        batch, _ = bench.load_of(subject, asked)
        samples, words = bench.samples_of(subject, asked, batch, data)
        read = subject.settings(target)
        work = profiling.Work(subject.backend, read, batch, threads, "", "")
        try:
            places = (subject.artifact, samples)
            found = profiling.look(work, places, target, out, tell=tell)
        except StageError as error:
            raise UserError(str(error), place=subject.name) from error
    settings = {"backend": subject.backend, **read}
    how: dict[str, Any] = {**settings, "batch": batch, "threads": threads}
    return Seen(subject.name, how, words, found)

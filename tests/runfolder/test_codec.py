import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.errors import RunFolderError
from autotune.runfolder import decode_outcome, encode_outcome, trials
from autotune.trial import Completed, Estimate, Failed, Measurement, Outcome, Rejected, Stopped

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ESTIMATES = st.builds(Estimate, NUMBERS, st.none() | NUMBERS, st.none() | NUMBERS)
FACTS = st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | NUMBERS)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(
        Completed,
        st.builds(Measurement, st.dictionaries(st.text(), ESTIMATES), FACTS, st.text()),
        word=st.just("completed"),
        reason=st.just(""),
    ),
    st.builds(Stopped, st.text(), st.dictionaries(st.text(), NUMBERS), word=st.just("stopped")),
    st.builds(Rejected, st.text(), word=st.just("rejected")),
    st.builds(Failed, st.text(), st.text(), st.text(), word=st.just("failed")),
)


@given(OUTCOMES)
def test_an_outcome_survives_the_journal(outcome: Outcome) -> None:
    assert decode_outcome(json.loads(json.dumps(encode_outcome(outcome)))) == outcome


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"word": "pruned"},
        {"word": "failed", "stage": "export"},
        {"word": "completed", "values": {"accuracy": ["high"]}, "facts": {}, "samples": ""},
        {"word": "completed", "values": {"accuracy": [float("nan")]}, "facts": {}, "samples": ""},
    ],
)
def test_an_outcome_of_another_version_says_so(data: dict[str, object]) -> None:
    with pytest.raises(RunFolderError) as raised:
        decode_outcome(data)
    assert "another version of autotune" in raised.value.remedy


def started(number: int, batch: int = 1) -> dict[str, object]:
    settings = {"precision": "int8", "batch": batch}
    return {"event": "trial", "number": number, "origin": "sampler", "settings": settings}


def done(number: int, reason: str) -> dict[str, object]:
    outcome = encode_outcome(Rejected(reason))
    return {"event": "outcome", "number": number, "outcome": outcome}


def test_a_trial_without_outcome_was_in_flight() -> None:
    first, second = trials([started(0), started(1), done(0, "no kernels")])
    assert first.outcome == Rejected("no kernels")
    assert second.outcome is None


def test_settings_become_a_configuration_in_the_order_that_its_key_needs() -> None:
    (trial,) = trials([started(0)])
    assert trial.configuration.settings == (("batch", 1), ("precision", "int8"))


def test_a_later_event_of_the_same_number_wins() -> None:
    again = trials([started(0), done(0, "first"), done(0, "second")])
    assert [t.outcome for t in again] == [Rejected("second")]
    restarted = trials([started(0), done(0, "first"), started(0, batch=4)])
    assert restarted[0].outcome is None
    assert restarted[0].configuration["batch"] == 4


def test_trials_come_by_number_with_their_times() -> None:
    times = {"stage_seconds": {"export": 2.5}, "executed": ["export"]}
    first, second = trials([started(1), started(0), {**done(1, "x"), **times}])
    assert (first.number, second.number) == (0, 1)
    assert second.stage_seconds == {"export": 2.5}
    assert second.executed == ("export",)


def test_an_outcome_of_a_trial_that_never_started_is_an_error() -> None:
    with pytest.raises(RunFolderError, match="trial 3, which never started"):
        trials([done(3, "x")])


def confirmed(number: int, reason: str) -> dict[str, object]:
    return {**done(number, reason), "event": "confirmed"}


def test_what_a_trial_was_confirmed_with_takes_the_place_of_its_outcome() -> None:
    times = {"stage_seconds": {"export": 2.5}, "executed": ["export"]}
    (trial,) = trials([started(0), {**done(0, "first"), **times}, confirmed(0, "again")])
    assert trial.outcome == Rejected("again")
    assert trial.stage_seconds == {"export": 2.5}
    assert trial.executed == ("export",)
    with pytest.raises(RunFolderError, match="confirms trial 3, which never started"):
        trials([confirmed(3, "x")])

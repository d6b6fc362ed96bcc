"""Which trials a run compares, and which profiles it holds."""

from report.example import SPEC, events, example
from report.test_html import picked

from autotune.profile import Operation, Profile
from autotune.runfolder import RunData, assemble
from autotune.runfolder.profiles import baseline, beside, compared, failures, profiles

PROFILE = Profile((Operation("Conv", "first", "int8", 0.5),), 0.6, 10, bare_ms=0.55)


def told(*more: dict[str, object], pick: int | None = None) -> RunData:
    run = example()
    return assemble(run.folder, SPEC, [*events(pick=pick), *more])


def profile(number: int) -> dict[str, object]:
    return {"event": "profile", "number": number, "profile": PROFILE.record()}


def test_the_pick_is_compared_with_the_baseline_of_its_batch() -> None:
    run = picked(example())
    given, best = compared(run)
    assert run.pick is not None
    assert best.number == run.pick["trial"]
    assert given.origin == "baseline"
    assert given.configuration["batch"] == best.configuration["batch"]
    assert baseline(run, best) == given
    assert beside(run, given) == (given,)


def test_where_nothing_is_picked_the_fastest_of_the_front_is_compared() -> None:
    run = example()
    best = compared(run)[-1]
    table = [t for t in run.trials if t.measurement is not None]
    assert best.measurement is not None
    fastest = min(t.measurement["latency_p50_ms"] for t in table if t.measurement)
    assert best.measurement["latency_p50_ms"] == fastest
    assert compared(assemble(run.folder, SPEC, [])) == ()


def test_the_last_profile_counts_and_an_older_one_than_the_outcome_does_not() -> None:
    assert profiles(told(profile(3))) == {3: PROFILE}
    outcome = next(e for e in events() if e["event"] == "outcome" and e["number"] == 3)
    assert profiles(told(profile(3), dict(outcome))) == {}
    confirmed = {**outcome, "event": "confirmed"}
    assert profiles(told(profile(3), confirmed)) == {3: PROFILE}


def test_why_there_is_none_is_kept_until_there_is_one() -> None:
    failed = {"event": "profile", "number": 3, "error": "it crashed"}
    assert failures(told(failed)) == {3: "it crashed"}
    assert failures(told(failed, profile(3))) == {}
    assert profiles(told(profile(3), failed)) == {3: PROFILE}

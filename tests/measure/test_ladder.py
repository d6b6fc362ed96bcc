"""The rates that are tried, from nothing known to a claim."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.measure.batcher import Batcher
from autotune.measure.ladder import Ladder, next_rate, share_s
from autotune.measure.probe import Probe
from autotune.measure.tail import Tail, evidence, tail, within_reach


def probe(rate, share, answered=100_000, worth=0.3, p50_ms=2.0, pressed_share=0.0):
    """A probe of which this share of the requests was above the limit."""
    above = round(share * answered)
    return Probe(
        rate_per_s=rate,
        answered=answered,
        above=above,
        effective=worth * answered,
        hopeless=share > 0.05,
        unanswered=0,
        p50_ms=p50_ms,
        p99_ms=9.0,
        bound_ms=9.0,
        why="why",
        mean_batch=1.0,
        pressed_share=pressed_share,
        late_p99_ms=0.0,
        seconds=1.0,
    )


def ladder(forecast=None, tolerance=0.03, limit_ms=5.0, batcher=None):
    return Ladder(batcher or Batcher(), limit_ms, tolerance, 0.002, forecast)


def climbed(ladder, judged, seconds=1000.0):
    """The probes that the ladder asks for, and how it ends; each takes what it takes."""
    probes = []
    while (left_s := seconds - sum(p.answered / p.rate_per_s for p in probes)) > 0:
        rate = next_rate(probes, ladder, left_s)
        if isinstance(rate, str):
            return probes, rate
        probes.append(judged(rate))
    return probes, "time"


def queue(threshold, slope=6.0, **more):
    """Probes of a server whose p99 is the limit at ``threshold``."""
    return lambda rate: probe(rate, min(1.0, 0.01 * (rate / threshold) ** slope), 10_000, **more)


@given(
    threshold=st.floats(150, 1500),
    off=st.none() | st.floats(0.5, 2.0),
    slope=st.floats(3.0, 12.0),
)
def test_the_claim_comes_close_to_the_threshold_from_below(threshold, off, slope):
    forecast = None if off is None else Tail(off * threshold)
    probes, ended = climbed(ladder(forecast), queue(threshold, slope), 200_000 / threshold)
    held = evidence(probes).rate_per_s
    assert 0.8 * threshold < held < threshold
    assert ended in ("found", "time")
    assert len(probes) <= 40


def test_a_good_forecast_saves_probes():
    count = {
        forecast: len(climbed(ladder(forecast), queue(333.0), 300.0)[0])
        for forecast in (None, Tail(330.0), Tail(660.0))
    }
    assert count[Tail(330.0)] < min(count[None], count[Tail(660.0)])


def test_it_begins_at_one_request_per_service_time_and_doubles_or_halves():
    blank = ladder()
    assert next_rate([], blank, 60.0) == 500.0
    assert next_rate([probe(500.0, 0.0)], blank, 60.0) == 1000.0
    assert next_rate([probe(500.0, 0.5), probe(250.0, 0.5)], blank, 60.0) == 125.0
    assert next_rate([probe(500.0, 0.5), probe(250.0, 0.0)], blank, 60.0) == math.sqrt(500 * 250)


def test_a_forecast_that_is_hopeless_is_left_in_steps_that_grow():
    probes = [probe(rate, 0.055, 1000) for rate in (500.0, 400.0, 300.0)]
    fourth = next_rate(probes, ladder(Tail(500.0)), 60.0)
    fifth = next_rate([*probes, probe(fourth, 0.055, 1000)], ladder(Tail(500.0)), 60.0)
    assert 300 / fourth == pytest.approx(5.5 ** (1 / 6))  # more than 1.05^4
    assert fourth / fifth == pytest.approx(1.05**8)


def test_no_rate_is_said_where_even_a_free_server_was_too_slow_twice():
    probes, ended = climbed(ladder(limit_ms=1.9), lambda rate: probe(rate, 1.0, 1000))
    assert ended == "no rate"
    assert [p.rate_per_s for p in probes] == [500.0, 250.0, 125.0, 125.0]


def test_where_the_forecast_knows_a_rate_a_free_server_is_tried_for_a_while():
    """Each probe takes a second."""
    probes, slow = [], replace(probe(100.0, 1.0, 100), p50_ms=9.0)
    while next_rate(probes, ladder(Tail(300.0)), 40.0 - len(probes)) == 100.0 or not probes:
        probes.append(slow)
    assert len(probes) == 8
    assert next_rate([slow, slow], ladder(), 38.0) == "no rate"


def test_no_rate_is_said_where_requests_wait_for_company_alone():
    """The server is free at all rates tried: none of them bars a higher one."""
    slow = [replace(probe(rate, 1.0, 1000), p50_ms=9.0) for rate in (200.0, 100.0)]
    waits = ladder(Tail(300.0), limit_ms=8.0, batcher=Batcher(8, 10.0))
    assert next_rate(slow, waits, 38.0) == "no rate"


def test_the_search_does_not_end_below_a_rate_that_was_hopeless_once():
    """The p99 is the limit at 400/s; the machine stood still while 250/s was tried."""
    climbs = queue(400.0)
    fails = iter([250.0])

    def judged(rate):
        if 200 < rate < 300 and next(fails, None):
            return probe(rate, 0.9, 1000)
        return climbs(rate)

    probes, ended = climbed(ladder(Tail(260.0)), judged, 2000.0)
    assert ended == "found"
    assert probes[0].hopeless
    assert evidence(probes).rate_per_s > 350


def test_rates_are_halved_on_while_the_median_would_fit():
    probes, _ = climbed(ladder(limit_ms=2.5), queue(5.0), 100_000.0)
    assert 4 < evidence(probes).rate_per_s < 5


def test_where_company_is_needed_a_window_of_rates_is_found():
    """Batches of 8 that wait 10 ms for company, under 8 ms: only busy rates can hold."""

    def judged(rate):
        pressed = 0.0 if rate < 3000 else 0.9
        share = 1.0 if rate < 2200 else min(1.0, 0.01 * (rate / 3500) ** 6)
        return probe(rate, share, 10_000, p50_ms=9.0, pressed_share=pressed)

    probes, _ = climbed(ladder(limit_ms=8.0, batcher=Batcher(8, 10.0)), judged, 60.0)
    assert 3000 < evidence(probes).rate_per_s < 3500
    alone, ended = climbed(ladder(limit_ms=8.0, batcher=Batcher(8, 5.0)), judged)
    assert ended == "no rate"
    assert max(p.rate_per_s for p in alone) == 500.0


def test_the_time_is_shared_by_the_probes_that_tell_something():
    assert share_s([], 100.0, 50.0) == 10.0
    quiet = [probe(100.0, 0.5), probe(50.0, 0.0, 1000, worth=0.1)]  # none has told a thing
    assert share_s(quiet, 70.0, 50.0) == 2.5
    assert share_s(quiet, 50.0, 50.0) == pytest.approx(1.5 * (358.8 - 100) / 100)
    assert share_s(quiet, 50.0, 3.0) == 3.0
    assert share_s([probe(100.0, 0.01)], 90.0, 40.0) == 10.0
    assert share_s([probe(100.0, 0.01)] * 9, 90.0, 40.0) == 40.0


# ---- the model and the evidence ------------------------------------------------------------------


@pytest.mark.parametrize("slope", [3.0, 6.0, 10.0])
def test_the_tail_is_found_again(slope):
    probes = [queue(400.0, slope)(rate) for rate in (300.0, 360.0, 380.0, 420.0)]
    for forecast in (None, Tail(300.0), Tail(500.0)):
        model = tail(probes, forecast)
        assert model.rate_per_s == pytest.approx(400.0, rel=0.03)
        assert model.slope == pytest.approx(slope, rel=0.4)
        assert 395 < model.at_most_per_s < 440


def test_what_nothing_was_seen_of_has_no_tail():
    assert tail([], None) is None
    assert tail([probe(100.0, 0.0), probe(200.0, 0.9)], None) is None
    assert tail([probe(200.0, 0.9)], Tail(150.0)) == Tail(150.0)


def test_more_time_brings_more_within_reach_but_never_what_fails():
    model, seen = Tail(400.0), [probe(390.0, 0.0086, 1000)]
    rates = [within_reach(model, seen, left_s) for left_s in (5.0, 20.0, 100.0, 10_000.0, 1e9)]
    assert rates == sorted(rates)
    assert rates[0] < 380
    assert rates[-1] == pytest.approx(400.0, rel=0.005)
    assert rates[-1] <= 400


def test_probes_at_little_higher_rates_are_taken_together_and_no_others():
    """Each has 0.8 % above the limit: of 10,000 that is too many, of 30,000 it is not."""

    def three(*rates):
        return [probe(rate, 0.008, 10_000, worth=0.3) for rate in rates]

    assert evidence(three(100.0)) is None
    assert evidence(three(100.0, 110.0, 120.0)) is None
    held = evidence(three(101.0, 100.0, 102.0))
    assert held.rate_per_s == 100.0
    assert [p.rate_per_s for p in held.probes] == [100.0, 101.0, 102.0]
    assert evidence([*three(100.0), probe(90.0, 0.0)]).rate_per_s == 90.0


def test_what_is_hopeless_is_no_evidence_but_speaks_against_little_higher_rates():
    low, high = probe(100.0, 0.0), probe(101.0, 0.9)
    assert evidence([high]) is None
    assert evidence([low, high]).probes == (low,)
    lucky = probe(102.0, 0.0)
    assert evidence([low, high, lucky]).probes == (low,)
    assert evidence([low, probe(90.0, 0.9), lucky]).rate_per_s == 102.0  # that was a stray


def test_a_hopeless_probe_is_outweighed_by_many_independent_requests():
    """It saw 53 of 500 above the limit, in one burst: as much as 2.7 of 25 that are independent."""
    burst = probe(100.0, 0.106, 500, worth=0.05)
    assert evidence([burst, probe(100.0, 0.0, 1050, worth=0.4)]) is None
    twice = [burst, probe(100.0, 0.0, 1050, worth=0.4), probe(100.0, 0.0, 1050, worth=0.4)]
    assert evidence(twice).rate_per_s == 100.0
    assert evidence([*twice, burst, burst]) is None


def test_while_no_rate_holds_what_is_nearly_shown_comes_first():
    """At 100/s 200 of 359 were seen in a second; at 200/s a request was above the limit."""
    clean, late = probe(100.0, 0.0, 1000, worth=0.2), probe(200.0, 0.001, 1000, worth=0.2)
    forecast = ladder(Tail(300.0))
    assert next_rate([clean, late], forecast, left_s=20.0) == 100.0
    assert share_s([clean], 100.0, 20.0) == pytest.approx(1.5 * (358.8 - 200) / 200)
    shown = probe(100.0, 0.0, 2000, worth=0.2)
    assert next_rate([shown, late], forecast, left_s=20.0) != 100.0  # it holds already


def test_a_rate_that_was_far_too_high_is_left_by_a_longer_step():
    near, far = (probe(500.0, share, 1000) for share in (0.06, 0.6))
    steps = [500.0 / next_rate([one], ladder(Tail(500.0)), 60.0) for one in (near, far)]
    assert steps == pytest.approx([6 ** (1 / 6), 60 ** (1 / 6)])

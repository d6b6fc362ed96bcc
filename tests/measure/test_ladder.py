"""The search closes in on any threshold from anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from autotune.measure.batcher import Batcher
from autotune.measure.ladder import Ladder, gap, next_rate, probes_left
from autotune.measure.probe import Probe


def probe(rate, meets, p50_ms=2.0, pressed_share=0.0):
    return Probe(
        rate_per_s=rate,
        answered=1000,
        unanswered=0,
        p50_ms=p50_ms,
        p99_ms=9.0,
        bound_ms=9.0,
        meets=meets,
        why="" if meets else "why",
        mean_batch=1.0,
        pressed_share=pressed_share,
        late_p99_ms=0.0,
        seconds=1.0,
    )


def climbed(ladder, judged):
    """The probes that the ladder asks for until it ends, and how it ends."""
    probes = []
    while not isinstance(rate := next_rate(probes, ladder), str):
        assert rate not in [p.rate_per_s for p in probes]
        assert len(probes) < 60
        probes.append(judged(rate))
    return probes, rate


@given(
    threshold=st.floats(0.5, 50_000),
    guess=st.none() | st.floats(0.5, 50_000),
    tolerance=st.sampled_from([0.01, 0.03, 0.2]),
)
def test_it_ends_around_the_threshold(threshold, guess, tolerance):
    ladder = Ladder(Batcher(), 5.0, tolerance, 0.002, guess)
    probes, ended = climbed(ladder, lambda rate: probe(rate, rate <= threshold))
    low, high = gap(probes)
    assert ended == "found"
    assert low <= threshold < high <= low * (1 + tolerance)


def test_a_good_guess_saves_probes():
    def count(guess):
        return len(climbed(Ladder(Batcher(), 5.0, 0.03, 0.002, guess), judged)[0])

    def judged(rate):
        return probe(rate, rate <= 333.0)

    assert count(None) == 7
    assert count(330.0) == 3


def test_it_begins_at_one_request_per_service_time_and_doubles_or_halves():
    ladder = Ladder(Batcher(), 5.0, 0.03, 0.002, None)
    assert next_rate([], ladder) == 500.0
    assert next_rate([probe(500.0, True)], ladder) == 1000.0
    assert next_rate([probe(500.0, False), probe(250.0, False)], ladder) == 125.0
    assert next_rate([probe(500.0, False), probe(250.0, True)], ladder) == (500 * 250) ** 0.5


def test_a_failure_below_what_holds_is_a_stray():
    probes = [probe(100.0, False), probe(200.0, True), probe(400.0, False), probe(300.0, True)]
    assert gap(probes) == (300.0, 400.0)


def test_no_rate_is_said_once_even_a_free_server_is_too_slow():
    ladder = Ladder(Batcher(), 1.9, 0.03, 0.002, None)
    probes, ended = climbed(ladder, lambda rate: probe(rate, meets=False, p50_ms=2.0))
    assert ended == "no rate"
    assert [p.rate_per_s for p in probes] == [500.0, 250.0, 125.0]


def test_rates_are_halved_on_while_the_median_would_fit():
    ladder = Ladder(Batcher(), 2.5, 0.03, 0.002, None)
    probes, ended = climbed(ladder, lambda rate: probe(rate, meets=rate < 5))
    assert ended == "found"
    assert gap(probes)[0] < 5


def test_where_company_is_needed_a_window_of_rates_is_found():
    """Batches of 8 that wait 10 ms for company, under 8 ms: only busy rates can hold."""

    def judged(rate):
        pressed = 0.0 if rate < 3000 else 0.9
        return probe(rate, meets=2200 < rate < 3500, p50_ms=9.0, pressed_share=pressed)

    probes, ended = climbed(Ladder(Batcher(8, 10.0), 8.0, 0.03, 0.002, None), judged)
    low, high = gap(probes)
    assert ended == "found"
    assert low < 3500 <= high
    alone, ended = climbed(Ladder(Batcher(8, 5.0), 8.0, 0.03, 0.002, None), judged)
    assert ended == "no rate"
    assert max(p.rate_per_s for p in alone) == 500.0


def test_the_probes_to_come_are_counted():
    assert probes_left([], 0.03) == 3
    assert probes_left([probe(100.0, True)], 0.03) == 2
    assert probes_left([probe(100.0, True), probe(200.0, False)], 0.03) == 5
    assert probes_left([probe(100.0, True), probe(105.0, False)], 0.03) == 1

"""An outside judge: MLPerf's own LoadGen drives the same artifact, in turn with our instrument.

Both drive one session in one process on the lane, with the garbage collector off. SingleStream:
blocks in turn (ours, LoadGen's, LoadGen's, ours, ...) and the ratio of each percentile per pair.
Server, one request a batch: the rate at which the p99 is the limit, ours over LoadGen's. Both
serve the same rates in turn, around the one that a queue with services of the p50 bears; how the
p99 grows with the rate is taken from that queue too, so the two p99 of a pair tell how far their
rates are apart. The rate that our search claims is told beside it: that one has the margin of a
bound, and leaves out what was disturbed.

Needs the extra ``loadgen`` (``pip install "autotune[loadgen]"``).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from lanes import bench, fresh, inputs, prepare, some
from open_loop import highest_load
from record import publish

from autotune import plugins
from autotune.measure import LoopSettings, latency_columns, time_calls, watch
from autotune.measure.batcher import Batcher
from autotune.measure.blocks import collector_off
from autotune.measure.rate import RateSettings, highest
from autotune.measure.server import Load, Minder, VirtualTime, serve
from autotune.measure.statistics import Floats

Request = Callable[[int], object]
PERCENTILES = {"p50": 0.03, "p90": 0.03, "p99": 0.15}
RATE_WITHIN = 0.10
RATES = (0.78, 0.85, 0.92, 0.99)
"""Over the rate of an M/D/1 queue of services of the p50 under the limit: those that are run."""
YIELDING = ("openvino",)
"""Their threads offer the core to others while they wait for each other."""
_MARK = ":::MLLOG "
_PR_SET_TIMERSLACK = 29


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8, help="pairs of blocks")
    parser.add_argument("--seconds", type=float, default=1.5, help="of one block")
    parser.add_argument("--rate-seconds", type=float, default=20.0, help="of our search for a rate")
    parser.add_argument("--runs", type=int, default=6, help="of each at one rate")
    parser.add_argument("--run-seconds", type=float, default=2.0, help="of one of them")
    parser.add_argument("--services", type=float, default=8.0, help="the limit over the p50")
    parser.add_argument("--store", type=Path, help="keep the artifacts here")
    options = parser.parse_args()
    rows = []
    with bench(options.store) as space:
        target, data = space.spec.targets[0], str(space.data())
        for settings in some(options.artifacts):
            entry, alone = prepare(space, settings), prepare(space, {**settings, "batch": 1})
            row = fresh(target, single_stream, entry, data, options.rounds, options.seconds)
            lengths = options.rate_seconds, options.runs, options.run_seconds
            row |= fresh(target, server, alone, data, options.services, *lengths)
            rows.append({"artifact": entry["name"], **row})
    publish(__file__, "Ours over MLPerf LoadGen's, the same artifact in turn", rows)


def single_stream(
    entry: Mapping[str, Any], data: str, rounds: int, seconds: float
) -> dict[str, object]:
    """The median over the pairs of blocks of the ratio of each percentile."""
    backend = plugins.load("backends", entry["backend"])
    requests = inputs(entry, data)
    whole = Path(entry["artifact"]), entry["settings"], entry["batch"], 1
    ours, theirs = [], []
    with backend.open(*whole) as session:

        def call(i: int) -> object:
            return session.run(requests[i % len(requests)])

        time_calls(call, settings=LoopSettings())  # both find it warm
        for number in range(rounds):
            if number % 2:
                theirs.append(_single_stream(call, len(requests), seconds))
            ours.append(_ours(call, seconds))
            if not number % 2:
                theirs.append(_single_stream(call, len(requests), seconds))
    found: dict[str, object] = {"p50 ms": float(np.median([one["p50"] for one in ours]))}
    more = [1e3 * (b["p50"] - a["p50"]) for a, b in zip(ours, theirs, strict=True)]
    found["theirs more us"] = float(np.median(more))  # what LoadGen itself adds to a call
    for word, within in PERCENTILES.items():
        ratios = [a[word] / b[word] for a, b in zip(ours, theirs, strict=True)]
        ratio = float(np.median(ratios))
        found |= {word: ratio, f"{word} reached": abs(ratio - 1) <= within}
    return found


def _ours(call: Request, seconds: float) -> dict[str, float]:
    settings = LoopSettings(min_s=seconds, max_s=seconds, precision=0.0)
    columns = latency_columns(time_calls(call, settings=settings).samples_ns, 1)
    return {word: columns[f"latency_{word}_ms"].value for word in PERCENTILES}


def server(
    entry: Mapping[str, Any],
    data: str,
    services: float,
    seconds: float,
    runs: int,
    run_s: float,
) -> dict[str, object]:
    """Our highest rate under a limit of so many services, over LoadGen's."""
    backend = plugins.load("backends", entry["backend"])
    requests = inputs(entry, data)
    whole = Path(entry["artifact"]), entry["settings"], 1, 1
    kept = nullcontext() if entry["backend"] in YIELDING else awake()
    with backend.open(*whole) as session, kept:

        def call(i: int) -> object:
            return session.run(requests[i % len(requests)])

        typical = time_calls(call, settings=LoopSettings())
        limit_ms = services * float(np.median(typical.samples_ns)) / 1e6
        settings, minder = RateSettings(max_s=seconds), Minder(watch())
        found = highest(session.run, requests, Batcher(), limit_ms, settings, minder=minder)

        def our_p99(rate: float, number: int) -> float:
            load = Load(rate, round(rate * run_s), seed=number)
            seen = serve(session.run, requests, Batcher(), load).latencies_ns
            return float(np.quantile(seen, 0.99)) / 1e6

        def their_p99(rate: float, number: int) -> float:
            return _server(call, len(requests), rate, limit_ms, run_s, number)

        rates = [factor * highest_load(services) * services / limit_ms * 1e3 for factor in RATES]
        ours, theirs = np.empty((runs, len(rates))), np.empty((runs, len(rates)))
        for number, place in np.ndindex(runs, len(rates)):
            both = [(ours, our_p99), (theirs, their_p99)]
            for into, p99 in both if (number + place) % 2 else reversed(both):
                into[number, place] = p99(rates[place], number)
    slope = steepness(rates, limit_ms / services)
    ratios = (theirs / ours) ** (1 / slope)
    ratio, theirs_per_s = float(np.median(ratios)), crossing(rates, theirs, limit_ms, slope)
    return {
        "limit ms": limit_ms,
        "LoadGen's rate/s": theirs_per_s,
        "rate": ratio,
        "rate quartiles": [round(float(q), 3) for q in np.quantile(ratios, (0.25, 0.75))],
        "rate reached": abs(ratio - 1) <= RATE_WITHIN,
        "our claim/s": found.rate_per_s,
        "claim": (found.rate_per_s or 0.0) / theirs_per_s,
    }


def steepness(rates: Sequence[float], service_ms: float) -> float:
    """How the p99 grows with the rate, both logarithmic, where every request takes as long."""
    tails = []
    for rate in rates:
        virtual = VirtualTime()

        def run(_: object, virtual: VirtualTime = virtual) -> None:
            virtual.now_ns += round(1e6 * service_ms)

        seen = serve(run, [{"x": np.empty((1, 0))}], Batcher(), Load(rate, 50_000), virtual.clock)
        tails.append(float(np.quantile(seen.latencies_ns, 0.99)))
    return float(np.polyfit(np.log(rates), np.log(tails), 1)[0])


def crossing(rates: Sequence[float], tails_ms: Floats, limit_ms: float, slope: float) -> float:
    """The rate at which the p99 is the limit: each run tells one, the median counts.

    ``tails_ms`` has the shape (runs, rates).
    """
    return float(np.median(np.array(rates) * (limit_ms / tails_ms) ** (1 / slope)))


@contextmanager
def awake() -> Iterator[None]:
    """The lane's core does not halt: a process runs on it whenever nobody else wants to.

    LoadGen sleeps until an arrival, and a virtual core that halted wakes late; our server does not
    sleep in the last millisecond. Not for a runtime whose threads yield: this process would then
    run in the midst of a request.
    """
    program = (
        "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# ---- LoadGen -------------------------------------------------------------------------------------


def _single_stream(call: Request, count: int, seconds: float) -> dict[str, float]:
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = settings.max_duration_ms = round(1e3 * seconds)
    settings.min_query_count = 1
    told = _drive(call, count, settings)
    return {
        word: told[f"result_{float(word[1:]):.2f}_percentile_latency_ns"] / 1e6
        for word in PERCENTILES
    }


def _server(
    call: Request, count: int, rate_per_s: float, limit_ms: float, seconds: float, seed: int
) -> float:
    """The p99 in ms of a run of the Server scenario."""
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.Server
    settings.mode = lg.TestMode.PerformanceOnly
    settings.server_target_qps = rate_per_s
    settings.server_target_latency_ns = round(1e6 * limit_ms)
    settings.server_target_latency_percentile = 0.99
    settings.schedule_rng_seed = 1 + seed
    settings.min_duration_ms = round(1e3 * seconds)
    settings.min_query_count = 1
    told: float = _drive(call, count, settings)["result_99.00_percentile_latency_ns"]
    return told / 1e6


def _drive(call: Request, count: int, settings: Any) -> dict[str, Any]:
    """A run of LoadGen, which waits for each answer; the results that it writes, by their keys.

    Its logger is a thread that wakes every 10 ms. It starts where the caller runs, so the caller
    leaves the lane until the first request: what an instrument writes down is not the model's time.
    """
    import mlperf_loadgen as lg

    lane = os.sched_getaffinity(0)
    others = set(range(os.cpu_count() or 1)) - lane
    away = bool(others)

    def issue(names: list[int], places: list[int]) -> None:
        nonlocal away
        if away:
            os.sched_setaffinity(0, lane)
            away = False
        for name, place in zip(names, places, strict=True):
            call(place)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(name, 0, 0)])

    system = lg.ConstructFastSUT(issue, lambda: None)
    library = lg.ConstructQSL(count, count, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir = folder
        logs.log_output.copy_summary_to_stdout = False
        logs.enable_trace = False
        if others:
            os.sched_setaffinity(0, others)
        _wake_in_time()
        try:
            with collector_off():  # as ours: it is the runtime's time that is compared
                lg.StartTestWithLogSettings(system, library, settings, logs)
        finally:
            os.sched_setaffinity(0, lane)
        lg.DestroyQSL(library)
        lg.DestroyFastSUT(system)
        lines = (Path(folder) / "mlperf_log_detail.txt").read_text().splitlines()
    entries = [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
    return {entry["key"]: entry["value"] for entry in entries}


def _wake_in_time() -> None:
    """LoadGen sleeps until an arrival; the kernel may wake this thread 50 us late unless told."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)


if __name__ == "__main__":
    main()

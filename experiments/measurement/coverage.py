"""How often a 95 % interval holds the quantile of a latency stream whose quantile is known."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import publish

from autotune.measure import quantile, upper_bound

SIGMA = 0.2
RHO = 0.55
"""The correlation of neighbours that was seen in real streams (measurement.md, section 4)."""
MODES = ((0.8, 1.0, 0.03), (0.2, 1.5, 0.05))
"""A clock that changes between two speeds: share, mean and deviation of each."""
ASKED = (0.93, 0.97)


@dataclass(frozen=True)
class Stream:
    """A law of latencies (ms): how to draw some, and its true quantile."""

    draw: Callable[[np.random.Generator, int], NDArray[np.float64]]
    truth: Callable[[float], float]


def log_normal_quantile(q: float) -> float:
    return math.exp(SIGMA * NormalDist().inv_cdf(q))


def bimodal(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    shares, means, deviations = np.array(MODES).T
    mode = rng.choice(len(MODES), size=count, p=shares)
    return rng.normal(means[mode], deviations[mode])


def bimodal_quantile(q: float) -> float:
    def beyond(x: float) -> float:
        return sum(share * NormalDist(mean, sd).cdf(x) for share, mean, sd in MODES) - q

    return float(brentq(beyond, 0.5, 2.0))


def correlated(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """A log-normal first-order autoregression, stationary from its start."""
    noise = rng.normal(size=count) * math.sqrt(1 - RHO**2)
    noise[0] /= math.sqrt(1 - RHO**2)
    return np.exp(SIGMA * lfilter([1], [1, -RHO], noise))


STREAMS: Mapping[str, Stream] = {
    "log-normal": Stream(
        lambda rng, n: np.exp(SIGMA * rng.normal(size=n)),
        log_normal_quantile,
    ),
    "bimodal": Stream(bimodal, bimodal_quantile),
    f"AR(1), {RHO:g}": Stream(correlated, log_normal_quantile),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=2000, help="in one stream")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = []
    for name, stream in STREAMS.items():
        drawn = [stream.draw(rng, options.samples) for _ in range(options.runs)]
        rows += [two_sided(name, q, stream, drawn) for q in (0.5, 0.9)]
        rows.append(one_sided(name, 0.99, stream, drawn))
    title = f"Share of {options.runs} streams of {options.samples} latencies whose interval holds"
    publish(__file__, title, rows)


def two_sided(
    name: str, q: float, stream: Stream, drawn: list[NDArray[np.float64]]
) -> dict[str, object]:
    truth = stream.truth(q)
    found = [quantile(samples, q) for samples in drawn]
    known = [e for e in found if e.low is not None and e.high is not None]
    held = [e.low <= truth <= e.high for e in known]
    width = float(np.median([(e.high - e.low) / e.value for e in known]))
    return row(name, f"p{100 * q:g}", held, len(found), width)


def one_sided(
    name: str, q: float, stream: Stream, drawn: list[NDArray[np.float64]]
) -> dict[str, object]:
    truth = stream.truth(q)
    found = [upper_bound(samples, q) for samples in drawn]
    known = [bound for bound in found if bound is not None]
    above = float(np.median(known)) / truth - 1
    return row(name, f"p{100 * q:g}, upper bound", [b >= truth for b in known], len(found), above)


def row(name: str, what: str, held: list[bool], runs: int, width: float) -> dict[str, object]:
    share = float(np.mean(held))
    return {
        "stream": name,
        "quantile": what,
        "held": share,
        "asked": f"{ASKED[0]:g} to {ASKED[1]:g}",
        "reached": ASKED[0] <= share <= ASKED[1],
        "unknown": runs - len(held),
        "width": width,
    }


if __name__ == "__main__":
    main()

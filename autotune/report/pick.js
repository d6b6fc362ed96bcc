// The choice under limits, by the rule of autotune/pick.py (a test compares the two): latency by the
// upper end of its interval, everything else by its value, never slower than the baseline at equal batch
// (by the p50; a server by its rate, which must be above 0; offline by samples a second).
"use strict";

const P50 = "latency_p50_ms", RATE = "server_rate_per_s";
const ROUNDING = 1e-9;
const isLatency = (column) => ["latency_p50_ms", "latency_p90_ms", "latency_p99_ms"].includes(column);
const figureOf = (trials) => [RATE, P50, "throughput_per_s"].find((c) => trials.some((t) => t.outcome === "completed" && t.v[c])) || P50;
const slownessOf = (trial, figure) => (trial.v[figure] ? (figure === P50 ? 1 : -1) * trial.v[figure][0] : Infinity);

// The measured baseline of the trial's batch and target, and the one to fall back on.
function baselineOf(trials, trial) {
  const measured = trials.filter((t) => t.origin === "baseline" && t.outcome === "completed");
  const alike = measured.find((t) => t.k.batch === trial.k.batch && t.k.target === trial.k.target) || null;
  return { alike, any: alike || measured[0] || null };
}

function missedBy(value, bound, atMost) {
  const by = atMost ? value - bound : bound - value;
  if (by <= ROUNDING * Math.abs(bound)) return 0;
  return bound ? by / Math.abs(bound) : Infinity;
}

// -> { limit, value, bound, met, excess }: value is null where unknown, excess the share of the bound.
function checkLimit(trial, limit, baseline) {
  const estimate = trial.v[limit.column], reference = baseline && baseline.v[limit.column];
  const fails = (bound, excess) => ({ limit, value: null, bound, met: false, excess });
  if (limit.relative && !reference) return fails(null, Infinity);
  const bound = { "": () => limit.bound, points: () => reference[0] + limit.bound, share: () => reference[0] * (1 + limit.bound) }[limit.relative]();
  if (!estimate) return fails(bound, Infinity);
  const value = isLatency(limit.column) && !limit.exact ? estimate[2] : estimate[0];
  if (value === null) return fails(bound, missedBy(estimate[0], bound, limit.at_most));
  const excess = missedBy(value, bound, limit.at_most);
  return { limit, value, bound, met: excess === 0, excess };
}

function checksOf(trials, trial, limits) {
  const { alike, any } = baselineOf(trials, trial), figure = figureOf(trials);
  const checks = limits.map((limit) => checkLimit(trial, limit, any));
  const speed = { column: figure, at_most: figure === P50, relative: "", exact: true, text: "not slower than the baseline" };
  if (trial.v[RATE] && trial.v[RATE][0] === 0) {
    const limit = { column: RATE, at_most: false, bound: 0, relative: "", exact: true, text: "a rate above 0" };
    checks.push({ limit, value: 0, bound: 0, met: false, excess: 0 });
  }
  if (alike && alike.v[figure] && trial.origin !== "baseline") {
    checks.push(checkLimit(trial, { ...speed, bound: alike.v[figure][0] }, any));
  } else if (any && trial.origin !== "baseline") {
    const limit = { ...speed, bound: null };
    checks.push({ limit, value: null, bound: null, met: false, excess: Infinity });
  }
  return checks;
}

function tied(a, b, column) {
  const x = a.v[column], y = b.v[column];
  if (!isLatency(column)) return x[0] === y[0];
  const holds = (e, value) => (e[1] ?? e[0]) <= value && value <= (e[2] ?? e[0]);
  return holds(x, y[0]) && holds(y, x[0]);
}

function firstBy(list, key) {
  const less = (a, b) => { for (const [i, x] of key(a).entries()) { const y = key(b)[i]; if (x !== y) return x < y; } return false; };
  return list.reduce((best, item) => (best === null || less(item, best) ? item : best), null);
}

// -> { pick, meeting, miss: { trial, checks } }; pick is null where nothing fits.
function repick(trials, limits, objective) {
  const figure = figureOf(trials);
  const verdicts = trials.filter((t) => t.outcome === "completed").map((trial) => ({ trial, checks: checksOf(trials, trial, limits) }));
  const meeting = verdicts.filter((v) => v.checks.every((c) => c.met)).map((v) => v.trial);
  if (!meeting.length) {
    const miss = firstBy(verdicts, (v) => [Math.max(0, ...v.checks.map((c) => c.excess)), v.checks.filter((c) => !c.met).length, slownessOf(v.trial, figure), v.trial.n]);
    return { pick: null, meeting, miss };
  }
  const sign = objective.direction === "max" ? -1 : 1;
  const measured = meeting.filter((t) => t.v[objective.column]);
  const best = firstBy(measured, (t) => [sign * t.v[objective.column][0], t.n]);
  const pick = best && firstBy(measured.filter((t) => t === best || tied(best, t, objective.column)), (t) => [slownessOf(t, figure), t.n]);
  return { pick, meeting, miss: null };
}

// Three views of the completed trials, drawn by Plotly: a pure function of the run and the page's state.
"use strict";

const SYMBOLS = ["circle", "square", "diamond", "cross", "circle-open", "square-open", "diamond-open"];

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function faint(colour) {
  return `${colour}59`;
}

function colourOf(run, backend) {
  return css(`--c${run.backends.indexOf(backend) % 6}`);
}

function hoverText(run, trial) {
  const head = `<b>trial ${trial.n}</b>  ${plain(trial.origin)}${trial.front ? "  · on the front" : ""}`;
  const figures = run.measures.filter((m) => trial.v[m.column]).slice(0, 7)
    .map((m) => `${plain(m.label)}  <b>${plain(amount(trial.v[m.column][0], m))}</b>`);
  const knobs = configurationLines(trial).map(([section, text]) => `${plain(section)}:  ${plain(text)}`);
  return [head, ...figures, "", ...knobs].join("<br>");
}

// Latency compares at equal batch and follows the selector; cost and rates are per sample and compare over all.
function visible(run, state, columns) {
  const every = state.batch === "all" || columns.some((c) => ["cost_usd_per_million", "server_rate_per_s", "throughput_per_s"].includes(c));
  return run.completed.filter((t) => columns.every((c) => t.v[c]) && (every || String(t.k.batch) === state.batch)
    && !state.hidden.has(`backend ${t.k.backend}`) && !state.hidden.has(`precision ${t.k.precision}`));
}

// 1, 2, 5 of every decade, fewer where the decades are many: Plotly's own crowd a narrow chart.
function logTicks(run, column) {
  const values = run.completed.filter((t) => t.v[column]).map((t) => t.v[column][0]);
  const low = Math.floor(Math.log10(Math.min(...values))) - 1, high = Math.ceil(Math.log10(Math.max(...values))) + 1;
  const span = Math.log10(Math.max(...values) / Math.min(...values));
  const steps = span > 3.5 ? [1] : span > 1.5 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let decade = low; decade <= high; decade++) for (const step of steps) ticks.push(Number(`${step}e${decade}`));
  return { tickvals: ticks, ticktext: ticks.map((tick) => (tick < 1e-6 ? tick.toExponential(0) : String(tick))) };
}

function axis(run, column, batch) {
  const measure = run.measure[column];
  const log = measure.direction === "min" && run.positive(column) && !run.metrics.includes(column);
  const unit = { fraction: "%", count: "", "": "" }[measure.unit] ?? measure.unit;
  const of = column.startsWith("latency_") && batch !== "all" && batch !== undefined ? ` of a request of ${batch}` : "";
  return {
    title: { text: `${plain(measure.label)}${of}${unit ? ` (${unit})` : ""}`, standoff: 8 },
    ...(log ? { type: "log", ...logTicks(run, column) } : { type: "linear", nticks: 7 }),
    tickformat: measure.unit === "fraction" ? ".4~p" : undefined,
    exponentformat: "none",
    gridcolor: css("--grid"), linecolor: css("--line"), zerolinecolor: css("--grid"),
    automargin: true,
  };
}

function errors(points, column, show) {
  const estimates = points.map((t) => t.v[column]);
  return {
    type: "data", symmetric: false, visible: show, thickness: 1, width: 0,
    array: estimates.map((e) => (e[2] === null ? 0 : e[2] - e[0])),
    arrayminus: estimates.map((e) => (e[1] === null ? 0 : e[0] - e[1])),
  };
}

// The trials that no other of `points` beats in both columns, by increasing x.
function staircase(run, points, x, y) {
  const sx = run.measure[x].direction === "min" ? 1 : -1, sy = run.measure[y].direction === "max" ? 1 : -1;
  const order = [...points].sort((a, b) => sx * (a.v[x][0] - b.v[x][0]) || sy * (b.v[y][0] - a.v[y][0]));
  let best = -Infinity;
  return order.filter((t) => { const v = sy * t.v[y][0]; if (v <= best) return false; best = v; return true; });
}

function groups(run, points) {
  const found = new Map();
  for (const t of points) {
    const key = JSON.stringify([t.k.backend ?? null, t.k.precision ?? null, t.front]);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(t);
  }
  return [...found.values()].sort((a, b) => a[0].front - b[0].front);
}

function marker(run, trial) {
  const front = trial.front, colour = colourOf(run, trial.k.backend);
  return {
    color: colour, size: front ? 11 : 8, opacity: front ? 1 : 0.4,
    symbol: SYMBOLS[run.precisions.indexOf(trial.k.precision) % SYMBOLS.length],
    line: { width: front ? 1 : 0, color: css("--paper") },
  };
}

function ring(trials, x, y, size, colour, width, name) {
  return {
    type: "scatter", mode: "markers", name, hoverinfo: "skip", showlegend: false,
    x: trials.map((t) => t.v[x][0]), y: trials.map((t) => t.v[y][0]),
    marker: { symbol: "circle-open", size, color: colour, line: { width, color: colour } },
  };
}

function flatTraces(run, state, x, y) {
  const points = visible(run, state, [x, y]);
  const bars = (t) => run.completed.length <= 150 || t.front;
  const traces = groups(run, points).map((group) => {
    const look = marker(run, group[0]);
    return {
      type: "scatter", mode: "markers", name: "trials", showlegend: false,
      x: group.map((t) => t.v[x][0]), y: group.map((t) => t.v[y][0]),
      customdata: group.map((t) => t.n), text: group.map((t) => hoverText(run, t)), hoverinfo: "text",
      marker: look,
      error_x: { ...errors(group, x, bars(group[0])), color: faint(look.color) },
      error_y: { ...errors(group, y, bars(group[0])), color: faint(look.color) },
    };
  });
  const line = staircase(run, points, x, y);
  traces.unshift({
    type: "scatter", mode: "lines", name: "front", hoverinfo: "skip", showlegend: false,
    x: line.map((t) => t.v[x][0]), y: line.map((t) => t.v[y][0]),
    line: { shape: run.measure[x].direction === "min" ? "hv" : "vh", width: 1.5, color: css("--muted") },
  });
  const among = (n) => points.filter((t) => t.n === n);
  traces.push({
    ...ring(points.filter((t) => t.origin === "baseline"), x, y, 13, css("--ink"), 0, "baseline"),
    marker: { symbol: "x-thin", size: 12, line: { width: 2.5, color: css("--ink") } },
  });
  traces.push(ring(among(state.pick), x, y, 24, css("--good"), 2.5, "pick"));
  traces.push(ring(among(state.selected), x, y, 18, css("--accent"), 2, "selected"));
  return traces;
}

function notes(run, state, x, y) {
  const points = visible(run, state, [x, y]);
  const scale = (column, value) => (axis(run, column).type === "log" ? Math.log10(value) : value);
  const note = (t, text, below) => ({
    x: scale(x, t.v[x][0]), y: scale(y, t.v[y][0]), text, showarrow: false, yshift: below ? -20 : 22,
    font: { color: css("--ink"), size: 12 },
  });
  const given = points.filter((t) => t.origin === "baseline");
  const first = given.find((t) => String(t.k.batch) === state.batch) || given[0];
  const pick = points.find((t) => t.n === state.pick);
  return [...(first && first !== pick ? [note(first, "model as given", true)] : []), ...(pick ? [note(pick, "pick", false)] : [])];
}

function limitLines(run, state, x, y) {
  const base = { type: "line", line: { color: css("--bad"), width: 1.25, dash: "dash" } };
  const lines = [];
  for (const check of state.bounds) {
    if (check.column === x) lines.push({ ...base, x0: check.bound, x1: check.bound, y0: 0, y1: 1, yref: "paper" });
    if (check.column === y) lines.push({ ...base, y0: check.bound, y1: check.bound, x0: 0, x1: 1, xref: "paper" });
  }
  return lines;
}

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: css("--sans"), size: 13, color: css("--muted") }, margin: { l: 8, r: 12, t: 12, b: 8 },
    hoverlabel: { align: "left", bgcolor: css("--raised"), bordercolor: css("--line"), font: { family: css("--sans"), size: 12, color: css("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--muted") },
    ...more,
  };
}

// The buttons are named one by one because Plotly's own set offers to upload the chart to its cloud.
function config(buttons) {
  return { displaylogo: false, responsive: true, showTips: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtons: [buttons] };
}

function drawFlat(run, state, id, x, y) {
  return Plotly.react(id, flatTraces(run, state, x, y), layout({
    xaxis: axis(run, x, x.startsWith("latency_") ? state.batch : "all"), yaxis: axis(run, y),
    shapes: limitLines(run, state, x, y), annotations: notes(run, state, x, y),
    uirevision: `${state.batch} ${x} ${y}`,
  }), config(["zoom2d", "pan2d", "resetScale2d"]));
}

function drawSpace(run, state, id, columns) {
  const points = visible(run, state, columns);
  const at = (trials) => Object.fromEntries(["x", "y", "z"].map((k, i) => [k, trials.map((t) => t.v[columns[i]][0])]));
  const base = { type: "scatter3d", mode: "markers", showlegend: false };
  const traces = groups(run, points).map((group) => ({
    ...base, ...at(group), customdata: group.map((t) => t.n), text: group.map((t) => hoverText(run, t)), hoverinfo: "text",
    marker: { ...marker(run, group[0]), size: group[0].front ? 5 : 3.5 },
  }));
  const special = (trials, symbol, size, colour) => trials.length && traces.push({
    ...base, ...at(trials), hoverinfo: "skip", marker: { symbol, size, color: colour, line: { width: 2, color: colour } },
  });
  special(points.filter((t) => t.origin === "baseline"), "circle", 5, css("--ink"));
  special(points.filter((t) => t.n === state.pick), "circle-open", 12, css("--good"));
  special(points.filter((t) => t.n === state.selected), "circle-open", 9, css("--accent"));
  const flat = (column) => ({ ...axis(run, column), title: { text: plain(run.measure[column].label) }, backgroundcolor: "rgba(0,0,0,0)", tickfont: { size: 11 } });
  return Plotly.react(id, traces, layout({
    margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: "space",
    scene: { xaxis: flat(columns[0]), yaxis: flat(columns[1]), zaxis: flat(columns[2]), camera: { eye: { x: -1.4, y: -2.1, z: 0.8 }, center: { x: 0, y: 0, z: -0.2 } }, aspectmode: "cube" },
  }), config(["orbitRotation", "zoom3d", "resetCameraDefault3d"]));
}

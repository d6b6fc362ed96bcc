// The page at work: one state, changed by the controls, from which everything is drawn again.
"use strict";

function load() {
  const run = JSON.parse(document.getElementById("run-data").textContent);
  const distinct = (list) => [...new Set(list)];
  run.measure = Object.fromEntries(run.measures.map((m) => [m.column, m]));
  run.completed = run.trials.filter((t) => t.outcome === "completed");
  run.backends = distinct(run.completed.map((t) => t.k.backend)).sort();
  const order = ["fp32", "bf16", "int8", "fp16", "fp8", "int8_dynamic", "int8_weights", "int4_weights"];
  run.precisions = distinct([...order.filter((p) => run.completed.some((t) => t.k.precision === p)), ...run.completed.map((t) => t.k.precision)]);
  run.batches = distinct(run.completed.map((t) => t.k.batch)).filter((b) => b !== undefined).sort((a, b) => a - b);
  run.positive = (column) => run.completed.every((t) => !t.v[column] || t.v[column][0] > 0);
  run.single = run.figure === "latency_p50_ms";
  run.byNumber = new Map(run.trials.map((t) => [t.n, t]));
  return run;
}

function begin(run) {
  const picked = run.byNumber.get(run.pick);
  const only99 = run.limits.p99 !== null && run.limits.p50 === null && run.measure.latency_p99_ms;
  const first = picked ? picked.k.batch : run.batches[0];
  return {
    batch: run.batches.length > 1 && first !== undefined ? String(first) : "all",
    latency: only99 && run.single ? "latency_p99_ms" : run.figure, metric: run.metrics[0],
    hidden: new Set(), pick: picked ? picked.n : null, selected: null, bounds: [],
  };
}

async function unpack() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser cannot unpack the charts; any browser of 2023 or later can");
  const packed = atob(document.getElementById("plotly-gzip").textContent.trim());
  const raw = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const script = await new Response(new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(element("script", {}, script));
}

// ---- controls ------------------------------------------------------------------------------------

function segments(id, values, current, onChange) {
  const box = document.getElementById(id);
  box.hidden = values.length < 2;
  const buttons = values.map(([value, label]) => {
    const button = element("button", { type: "button", "data-value": value }, label);
    button.addEventListener("click", () => { onChange(value); show(value); });
    return button;
  });
  const show = (value) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.value === String(value))));
  box.append(...buttons);
  show(current);
  return show;
}

const SHAPES = {
  circle: "M5 0a5 5 0 1 0 .01 0z", square: "M.5.5h9v9h-9z", diamond: "M5-.8 10.8 5 5 10.8-.8 5z", cross: "M3.2 0h3.6v3.2H10v3.6H6.8V10H3.2V6.8H0V3.2h3.2z",
};

function glyph(symbol, variable) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SHAPES[symbol.replace("-open", "")]);
  path.setAttribute("style", symbol.endsWith("-open") ? `fill:none;stroke:var(${variable});stroke-width:2` : `fill:var(${variable})`);
  svg.append(path);
  return svg;
}

function chips(id, word, values, glyphs, state, redraw) {
  const box = document.getElementById(id);
  box.hidden = !values.some((value) => value !== undefined);
  values.forEach((value, i) => {
    const chip = element("button", { type: "button", class: "chip", "aria-pressed": "true", title: "show or hide" }, glyphs[i], String(value ?? "none"));
    chip.addEventListener("click", () => {
      const key = `${word} ${value}`, hide = !state.hidden.has(key);
      state.hidden[hide ? "add" : "delete"](key);
      chip.setAttribute("aria-pressed", String(!hide));
      redraw();
    });
    box.append(chip);
  });
}

// ---- live limits ---------------------------------------------------------------------------------

function numberField(name, label, unit, value) {
  const input = element("input", { type: "number", name, min: "0", step: "any", inputmode: "decimal", placeholder: "none" });
  if (value !== null && value !== undefined) input.setAttribute("value", value);
  return element("label", { class: "field" }, label, element("span", { class: "entry" }, input, element("span", { class: "unit" }, unit)));
}

function limitFields(run) {
  const box = document.getElementById("limit-fields");
  for (const p of ["p50", "p99"]) if (run.single && run.measure[`latency_${p}_ms`]) box.append(numberField(p, `Latency ${p} at most`, "ms", run.limits[p]));
  run.metrics.forEach((name, i) => {
    const fraction = run.measure[name].unit === "fraction";
    const drop = run.limits.drops[name];
    box.append(numberField(`drop ${i}`, `${run.measure[name].label} worse by at most`, fraction ? "pt" : "", fraction || drop === null ? drop : drop / 100));
  });
  run.limits.kept.forEach((limit, i) => {
    box.append(element("label", { class: "field check" }, element("input", { type: "checkbox", name: `kept ${i}`, checked: "" }), limit.text));
  });
  const select = element("select", { name: "objective" });
  for (const m of run.measures) {
    if (!run.single && m.column.startsWith("latency_")) continue; // of each trial's own rate: they do not compare
    const option = element("option", { value: m.column }, `${m.direction === "min" ? "lowest" : "highest"} ${m.label.toLowerCase()}`);
    if (m.column === run.objective) option.setAttribute("selected", "");
    select.append(option);
  }
  box.append(element("label", { class: "field" }, "Then the", select));
}

function limitsNow(run, form) {
  const limits = [], value = (name) => { const f = form.elements[name]; return f && f.value !== "" && Number.isFinite(Number(f.value)) ? Number(f.value) : null; };
  for (const p of ["p50", "p99"]) {
    if (run.single && value(p) !== null) limits.push({ column: `latency_${p}_ms`, at_most: true, bound: value(p), relative: "", text: `latency ${p} ≤ ${value(p)} ms` });
  }
  run.metrics.forEach((name, i) => {
    const drop = value(`drop ${i}`), measure = run.measure[name];
    if (drop === null) return;
    const size = measure.unit === "fraction" ? drop / 100 : drop, more = measure.direction === "max";
    limits.push({ column: name, at_most: !more, bound: more ? -size : size, relative: "points", text: `${measure.label} at most ${drop}${measure.unit === "fraction" ? " pt" : ""} worse` });
  });
  run.limits.kept.forEach((limit, i) => { if (form.elements[`kept ${i}`].checked) limits.push(limit); });
  return limits;
}

function checkText(run, trial, check) {
  const measure = run.measure[check.limit.column];
  if (!measure || !trial.v[check.limit.column]) return `${check.limit.text}: not measured`;
  if (check.value === null && check.excess) return `${check.limit.text}: ${amount(trial.v[check.limit.column][0], measure)} was seen`;
  if (check.value === null) return `${check.limit.text}: upper bound unknown, too few samples`;
  return `${check.limit.text}: ${amount(check.value, measure)}${check.met ? "" : `, the limit is ${amount(check.bound, measure)}`}`;
}

function liveResult(run, limits, found, objective, onSelect) {
  const box = document.getElementById("live");
  if (!run.completed.length) { box.replaceChildren(element("p", {}, "No trial has completed.")); return; }
  const trial = found.pick || (found.miss && found.miss.trial);
  if (!trial) { box.replaceChildren(element("p", {}, "No trial that meets the limits measured this objective.")); return; }
  const { alike, any } = baselineOf(run.trials, trial);
  const measure = run.measure[objective.column], speed = trial.v[run.figure];
  const lines = [];
  if (found.pick) lines.push(element("p", { class: "big" }, `Trial ${trial.n}`));
  else lines.push(element("p", { class: "big bad" }, "Nothing fits"), element("p", {}, `The nearest miss is trial ${trial.n}:`));
  const facts = found.pick ? [`${measure.label.toLowerCase()} ${amount(trial.v[measure.column][0], measure)}${measure.column === "cost_usd_per_million" ? " per million" : ""}`] : [];
  if (speed && speed[0] && alike && alike !== trial && alike.v[run.figure] && alike.v[run.figure][0]) {
    const ratio = alike.v[run.figure][0] / speed[0], at = run.figure === RATE || trial.k.batch === undefined ? "" : ` at batch ${trial.k.batch}`;
    facts.push(`${number(run.single ? ratio : 1 / ratio, 2)} times as fast as given${at}`);
  }
  for (const name of run.metrics) if (any && trial.v[name] && any.v[name]) facts.push(`${run.measure[name].label.toLowerCase()} ${change(trial.v[name][0] - any.v[name][0], run.measure[name])}`);
  if (facts.length) lines.push(element("p", {}, facts.join("; ")));
  for (const check of checksOf(run.trials, trial, limits)) {
    lines.push(element("p", { class: check.met ? "good" : "bad" }, `${check.met ? "✓" : "✗"} ${checkText(run, trial, check)}`));
  }
  if (found.pick) lines.push(element("p", { class: "muted" }, `${found.meeting.length} of ${run.completed.length} completed trials meet the limits.`));
  const open = element("button", { type: "button" }, `Details of trial ${trial.n}`);
  open.addEventListener("click", () => onSelect(trial.n));
  box.replaceChildren(...lines, open);
}

function details(run, trial) {
  const box = document.getElementById("selected");
  box.hidden = !trial;
  if (!trial) return;
  const figures = run.measures.filter((m) => trial.v[m.column]).map((m) => {
    const bounds = interval(trial.v[m.column], m);
    return [m.label, amount(trial.v[m.column][0], m) + (bounds ? ` (${bounds})` : "")];
  });
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => { box.hidden = true; });
  const parts = [["Configuration", configurationLines(trial)], ["Measured", figures], ["What really ran", Object.entries(trial.facts)]].filter(([, list]) => list.length);
  box.replaceChildren(
    element("header", {}, element("h3", {}, `Trial ${trial.n}, ${trial.outcome}${trial.front ? ", on the front" : ""}, from ${trial.origin}`), close),
    ...(trial.reason ? [element("p", {}, trial.reason)] : []),
    element("div", { class: "cards" }, ...parts.map(([head, list]) => element("div", {}, element("b", {}, head), rows(list)))));
}

// Paper is narrower than a screen, and a chart keeps the width that it was drawn with.
function fitPaper(charts, draw) {
  const wide = (width) => Promise.all(charts.map((id) => {
    document.getElementById(id).style.width = width;
    return Plotly.Plots.resize(id);
  })).then(draw);
  addEventListener("beforeprint", () => wide("680px"));
  addEventListener("afterprint", () => wide(""));
}

// ---- the page ------------------------------------------------------------------------------------

async function main() {
  const run = load(), state = begin(run), form = document.getElementById("limits");
  const hasCost = Boolean(run.measure.cost_usd_per_million) && run.metrics.length > 0;
  const canDraw = run.completed.length > 0 && run.metrics.length > 0 && Boolean(run.measure[state.latency]);
  let ready = false;

  const draw = () => {
    if (!ready || !canDraw) return Promise.resolve();
    const jobs = [drawFlat(run, state, "latency", state.latency, state.metric)];
    if (hasCost) jobs.push(drawFlat(run, state, "cost", "cost_usd_per_million", state.metric), drawSpace(run, state, "space", [state.latency, "cost_usd_per_million", state.metric]));
    if (run.profile) jobs.push(drawProfile(run));
    return Promise.all(jobs);
  };
  const select = (n) => {
    state.selected = n;
    details(run, run.byNumber.get(n));
    mark(state.pick, n);
    const batch = run.byNumber.get(n).k.batch;
    if (state.batch !== "all" && batch !== undefined && run.byNumber.get(n).outcome === "completed") follow(batch);
    draw();
  };
  const mark = makeTable(run, select);
  const follow = (batch) => { state.batch = String(batch); showBatch(state.batch); };
  const repickNow = () => {
    const limits = limitsNow(run, form), objective = run.measure[form.elements.objective.value] || { column: run.objective };
    const found = repick(run.trials, limits, objective);
    state.pick = found.pick ? found.pick.n : null;
    if (found.pick && state.batch !== "all" && found.pick.k.batch !== undefined) follow(found.pick.k.batch);
    const reference = found.pick || (found.miss && found.miss.trial);
    state.bounds = reference ? limits.map((limit) => ({ column: limit.column, bound: checkLimit(reference, limit, baselineOf(run.trials, reference).any).bound })).filter((b) => b.bound !== null) : [];
    liveResult(run, limits, found, objective, select);
    mark(state.pick, state.selected);
    draw();
  };

  const showBatch = segments("batches", [["all", "all"], ...run.batches.map((b) => [String(b), String(b)])].slice(run.batches.length > 1 ? 0 : 1), state.batch, (v) => { state.batch = v; draw(); });
  const percentiles = ["p50", "p99"].filter((p) => run.single && run.measure[`latency_${p}_ms`]);
  segments("percentiles", percentiles.map((p) => [`latency_${p}_ms`, p]), state.latency, (v) => { state.latency = v; draw(); });
  segments("metrics", run.metrics.map((m) => [m, run.measure[m].label]), state.metric, (v) => { state.metric = v; draw(); });
  chips("backends", "backend", run.backends, run.backends.map((b, i) => glyph("circle", `--c${i % 6}`)), state, draw);
  chips("precisions", "precision", run.precisions, run.precisions.map((p, i) => glyph(SYMBOLS[i % SYMBOLS.length], "--muted")), state, draw);
  limitFields(run);
  form.addEventListener("input", repickNow);
  addEventListener("keydown", (event) => { if (event.key === "Escape") document.getElementById("selected").hidden = true; });
  form.addEventListener("reset", () => setTimeout(repickNow));
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["cost-figure", "space-figure"]) document.getElementById(id).hidden = !hasCost || !canDraw;
  document.getElementById("bars").textContent = run.completed.length > 150 ? " (of the front alone, with this many trials)" : "";
  repickNow();

  if (!canDraw) { document.getElementById("explore").classList.add("empty"); await notDrawn("There is nothing to draw: no trial has completed."); return; }
  try {
    await unpack();
    ready = true;
    await draw();
    const drawn = [...(hasCost ? ["latency", "cost", "space"] : ["latency"]), ...(run.profile ? ["profile"] : [])];
    for (const id of drawn) {
      document.getElementById(id).on("plotly_click", (event) => { const n = event.points[0].customdata; if (n !== undefined) select(n); });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    fitPaper(drawn, draw);
    document.documentElement.dataset.charts = "drawn";
  } catch (error) {
    await notDrawn(`The charts could not be drawn: ${error.message}. Everything else on this page works.`);
  }
}

function notDrawn(text) {
  const box = document.getElementById("no-charts");
  box.textContent = text;
  box.hidden = false;
  for (const chart of document.querySelectorAll(".chart")) chart.hidden = true;
  document.documentElement.dataset.charts = "none";
}

main();

// The table of every trial: sorted by a click on a head, filtered by words, reachable by keyboard.
"use strict";

const PAGE = 200;
const OWN_UNIT = ["fraction", "bytes", "count"]; // said in every cell rather than in the head

function tableColumns(run) {
  const text = (key, label, of) => ({ key, label, of, shown: (t) => of(t) ?? "" });
  const knob = (name) => ({
    key: `k ${name}`, label: name.replace(".", "\n"), of: (t) => t.k[name] ?? null,
    shown: (t) => (name in t.k ? String(t.k[name]) : "·"), number: run.trials.every((t) => !(name in t.k) || typeof t.k[name] === "number"),
  });
  const measured = (m) => ({
    key: `v ${m.column}`, label: m.label + (m.unit && !OWN_UNIT.includes(m.unit) ? `\n${m.unit}` : ""), number: true,
    extra: ["latency_p90_ms", "mean_batch", "parameters", "macs", "sparsity", "memory_peak_bytes", "load_seconds"].includes(m.column),
    of: (t) => (t.v[m.column] ? t.v[m.column][0] : null),
    shown: (t) => (t.v[m.column] ? amount(t.v[m.column][0], { unit: OWN_UNIT.includes(m.unit) ? m.unit : "" }) : "·"),
    title: (t) => (t.v[m.column] ? interval(t.v[m.column], m) : ""),
  });
  const batch = run.knobs.includes("server.max_batch") ? "server.max_batch" : "batch";
  const first = ["target", "backend", "precision", batch].filter((name) => run.knobs.includes(name));
  return [
    { ...text("n", "trial", (t) => t.n), number: true }, text("outcome", "outcome", (t) => t.outcome),
    { ...text("front", "front", (t) => Number(t.front)), shown: (t) => (t.front ? "yes" : "") },
    ...first.map(knob), ...run.measures.map(measured),
    ...[ // not on paper, which is too narrow for them
      ...run.knobs.filter((name) => !first.includes(name)).map(knob), text("origin", "origin", (t) => t.origin),
      { ...text("s", "stages\ns", (t) => t.s), number: true, shown: (t) => number(t.s) },
      { ...text("reason", "reason", (t) => t.reason), wide: true },
    ].map((column) => ({ ...column, extra: true })),
  ];
}

function searchable(run) {
  for (const t of run.trials) {
    const knobs = Object.entries(t.k).map(([name, value]) => `${name}=${value}`);
    t.text = [`trial=${t.n}`, t.outcome, t.origin, ...knobs, t.reason].join(" ").toLowerCase();
  }
}

function compare(a, b, column, sign) {
  const x = column.of(a), y = column.of(b);
  if (x === null || y === null) return (x === null) - (y === null) || a.n - b.n;
  if (typeof x === "number" && typeof y === "number") return sign * (x - y) || a.n - b.n;
  return sign * String(x).localeCompare(String(y), "en", { numeric: true }) || a.n - b.n;
}

function makeTable(run, onSelect) {
  const columns = tableColumns(run), view = { sort: columns[0], sign: 1, all: false, pick: null, selected: null };
  const by = (id) => document.getElementById(id);
  const head = by("trials").tHead, body = by("trials").tBodies[0];
  searchable(run);

  const row = (t) => {
    const tr = element("tr", { tabindex: "0", "data-trial": t.n, "aria-selected": String(t.n === view.selected) });
    if (t.n === view.pick) tr.className = "pick";
    for (const column of columns) {
      const shown = column.shown(t), cell = element("td", {}, String(shown));
      cell.className = [column.number ? "number" : "", shown === "·" ? "none" : "", column.wide ? "reason" : "", column.extra ? "extra" : ""].join(" ").trim();
      const title = column.title ? column.title(t) : column.wide ? t.reason : "";
      if (title) cell.title = title;
      tr.append(cell);
    }
    return tr;
  };
  const draw = () => {
    const words = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = run.trials.filter((t) => words.every((w) => t.text.includes(w)) && (!by("only-front").checked || t.front));
    found.sort((a, b) => compare(a, b, view.sort, view.sign));
    const shown = view.all ? found : found.slice(0, PAGE);
    body.replaceChildren(...shown.map(row));
    by("shown").textContent = `${found.length} of ${run.trials.length} trials`;
    by("more").hidden = shown.length === found.length;
    by("more").textContent = `Show all ${found.length}`;
    for (const [i, th] of [...head.rows[0].cells].entries()) {
      if (columns[i] === view.sort) th.setAttribute("aria-sort", view.sign > 0 ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
  };
  head.append(element("tr", {}, ...columns.map((column) => {
    const button = element("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      view.sign = view.sort === column ? -view.sign : 1;
      view.sort = column;
      draw();
    });
    return element("th", { scope: "col", class: `${column.number ? "number" : ""} ${column.extra ? "extra" : ""}` }, button);
  })));
  const chosen = (event) => event.target.closest("tr[data-trial]");
  body.addEventListener("click", (event) => chosen(event) && onSelect(Number(chosen(event).dataset.trial)));
  body.addEventListener("keydown", (event) => {
    const tr = chosen(event), next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (event.key === "Enter" || event.key === " ") onSelect(Number(tr.dataset.trial));
    else if (next && tr[next]) tr[next].focus();
    else return;
    event.preventDefault();
  });
  by("filter").addEventListener("input", draw);
  by("only-front").addEventListener("change", draw);
  by("more").addEventListener("click", () => { view.all = true; draw(); });

  return (pick, selected) => {
    const first = view.pick === null && view.selected === null && !body.rows.length;
    Object.assign(view, { pick, selected });
    if (first) { draw(); return; }
    for (const tr of body.rows) {
      const n = Number(tr.dataset.trial);
      tr.setAttribute("aria-selected", String(n === selected));
      tr.classList.toggle("pick", n === pick);
    }
  };
}

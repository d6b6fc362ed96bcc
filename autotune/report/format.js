// Numbers in the words of the page, and elements made without ever reading text as markup.
"use strict";

function number(value, digits = 3) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const decimals = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  if (decimals > 8) return value.toExponential(digits - 1);
  const places = Math.max(0, decimals);
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function bytes(value) {
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= size) return `${number(value / size)} ${unit}`;
  }
  return `${value.toFixed(0)} B`;
}

function count(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${number(value / size)} ${unit}`;
  }
  return value.toFixed(0);
}

function amount(value, measure) {
  if (measure.unit === "fraction") return `${(value * 100).toFixed(2)} %`;
  if (measure.unit === "bytes") return bytes(value);
  if (measure.unit === "count") return count(value);
  if (measure.unit === "USD per million") return `$${number(value)}`;
  return `${number(value)} ${measure.unit}`.trim();
}

function interval(estimate, measure) {
  if (estimate[1] === null && estimate[2] === null) return "";
  const end = (bound) => (bound === null ? "unknown" : amount(bound, measure));
  const low = end(estimate[1]), high = end(estimate[2]), unit = ["bytes", "count"].includes(measure.unit) ? "" : low.split(" ")[1];
  return `${unit && high.endsWith(` ${unit}`) ? low.split(" ")[0] : low} to ${high}`;
}

function change(difference, measure) {
  if (Math.abs(difference) < 5e-6) return "as given";
  const size = measure.unit === "fraction" ? `${(Math.abs(difference) * 100).toFixed(2)} points` : number(Math.abs(difference));
  return `${difference < 0 ? "−" : "+"}${size}`;
}

// The active knobs, one line a section: [["run", "batch 1  precision int8"], ["prune", "ratio 0.3"]].
function configurationLines(trial) {
  const groups = new Map([["run", []]]);
  for (const [name, value] of Object.entries(trial.k)) {
    const dot = name.lastIndexOf(".");
    const section = dot < 0 ? "run" : name.slice(0, dot);
    if (!groups.has(section)) groups.set(section, []);
    groups.get(section).push(`${name.slice(dot + 1)} ${value}`);
  }
  return [...groups].filter(([, knobs]) => knobs.length).map(([section, knobs]) => [section, knobs.join(" · ")]);
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function rows(pairs) {
  const list = element("dl", { class: "rows" });
  for (const [label, text] of pairs) list.append(element("div", {}, element("dt", {}, label), element("dd", {}, text)));
  return list;
}

// Plotly reads a little markup in its labels: nothing of the user's may be taken for it.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

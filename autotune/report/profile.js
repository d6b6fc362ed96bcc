// Where the time of a request goes: a pair of bars for each kind of work, the baseline's and the answer's.
"use strict";

function drawProfile(run) {
  const { families, sides } = run.profile;
  const colours = sides.length > 1 ? [css("--muted"), css("--good")] : [css("--good")];
  const traces = sides.map((side, i) => ({
    type: "bar", orientation: "h", name: plain(side.title), y: families.map(plain), x: side.ms,
    marker: { color: colours[i] }, text: side.label.map(plain), textposition: "outside", cliponaxis: false,
    textfont: { color: css("--ink"), size: 12 }, hoverinfo: "text",
    hovertext: side.about.map((lines, k) => [`<b>${plain(families[k])}</b>  ${plain(side.title)}`, ...lines.map(plain)].join("<br>")),
  }));
  const most = Math.max(...sides.flatMap((side) => side.ms));
  const place = document.getElementById("profile");
  place.style.height = `${Math.round(90 + families.length * (14 + 24 * sides.length))}px`;
  return Plotly.react(place, traces, layout({
    barmode: "group", bargap: 0.3, bargroupgap: 0.08, showlegend: true,
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", traceorder: "normal", itemclick: false, itemdoubleclick: false },
    xaxis: { automargin: true, title: { text: "ms of one request", standoff: 8 }, range: [0, most * (place.clientWidth < 640 ? 1.8 : 1.28)], gridcolor: css("--grid"), zerolinecolor: css("--line"), fixedrange: true },
    yaxis: { autorange: "reversed", automargin: true, fixedrange: true, ticksuffix: "  " },
    margin: { l: 8, r: 12, t: 34, b: 8 },
  }), { displayModeBar: false, responsive: true, showTips: false, plotlyServerURL: "" });
}

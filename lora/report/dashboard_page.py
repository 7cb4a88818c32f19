"""The page of the dashboard: HTML, plotly's library, the numbers, and what joins the figures.

It stands by itself: numbers and plotly's library lie in it compressed, and the browser unpacks
them.  Chrome shows a page inside of Snakemake's report only below 1.5 MB.  So the library is a part
of plotly.js, and not the 4.8 MB that the Python package brings; envs/plotly.js makes it, with lines
of parallel coordinates that want no WebGL.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.io import templates
from plotly.utils import PlotlyJSONEncoder

from lora.report.dashboard_style import TEMPLATE, Panel
from lora.report.page import STYLE, TEMPLATES

LIBRARY = Path(__file__).with_name("plotly.min.js.gz")
COMPACT: dict[str, Any] = {"cls": PlotlyJSONEncoder, "separators": (",", ":")}
PAGE = TEMPLATES.from_string("""\
<!doctype html>
<html lang=en><head><meta charset=utf-8><title>{{ title }}</title>
<meta name=viewport content="width=device-width, initial-scale=1">
{{ style }}<style>
body {margin: 0}
.sweep h2 {font-size: 1.1em; margin: 1.6em 0 .2em}
.sweep .note {color: #595959; max-width: 62em}
.sweep label {margin-right: 1.2em}
.sweep select {font: inherit; max-width: 26em}
.sweep .plot {width: 100%; overflow: hidden}
.sweep [role=status] {min-height: 1.5em; font-weight: bold}
</style></head><body><main class=sweep><h1>{{ title }}</h1>
<p>{{ lead }}</p>
<p id=trouble role=alert></p>
{% for panel in panels %}
<section aria-labelledby={{ panel.key }}-title><h2 id={{ panel.key }}-title>{{ panel.title }}</h2>
{% for chooser in panel.choosers %}
<label>{{ chooser.label }} <select id={{ chooser.key }}>
{% for group, options in chooser.grouped.items() %}
{% if group %}<optgroup label="{{ group }}">{% endif %}
{% for value, text in options %}
<option value="{{ value }}"{% if value == chooser.value %} selected{% endif %}>{{ text }}</option>
{% endfor %}
{% if group %}</optgroup>{% endif %}
{% endfor %}
</select></label>
{% endfor %}
<div class=plot id={{ panel.key }} role=group aria-label="{{ panel.title }}: {{ panel.about }}"
 style="height: {{ panel.figure.layout.height }}px"></div>
{% if panel.key in ("parallel", "scatter", "structure") %}
<p id={{ panel.key }}-said role=status></p>
{% endif %}
{% if panel.key == "structure" %}
<table id=told><tbody></tbody></table>
{% endif %}
<p class=note>{{ panel.about }}</p></section>
{% endfor %}
</main>
<script type="text/plain" id=numbers>{{ numbers }}</script>
<script type="text/plain" id=library>{{ library }}</script>
<script>{{ script }}</script></body></html>
""")
SCRIPT = r"""
"use strict";
const at = id => document.getElementById(id);
let data, points, told, shown;  // shown: the points that the filter keeps
let current;  // the frame that is shown
const SETUP = {
  responsive: true, displaylogo: false, plotlyServerURL: "",  // nothing is sent to anyone
  modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d",
    "resetCameraLastSave3d", "tableRotation"],
};

function unpack(id) {
  const packed = Uint8Array.from(atob(at(id).textContent), x => x.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const tracesOf = (figure, meta) => at(figure).data.map((trace, i) => [trace, i])
  .filter(([trace]) => trace.meta === meta);
const text = (i, key) => {
  const x = points.columns[key][i];
  return x === null ? "not known" : String(Number(x.toPrecision(4)));
};

// Each of the following does nothing before its figure is drawn, which then calls it.

// any number against any other, and the front of those that are shown
function scatter() {
  if (!at("scatter").data) return;
  const [x, y] = [at("x").value, at("y").value], places = {};
  const of = i => [points.columns[x][i], points.columns[y][i]];
  const known = i => shown[i] && of(i).every(v => v !== null);
  const drawn = points.names.map((_, i) => i).filter(
    i => points.names[i] !== points.foundation && known(i));
  const best = drawn.slice().sort((a, b) => of(a)[0] - of(b)[0] || of(a)[1] - of(b)[1]);
  let low = Infinity;
  const front = best.filter(i => of(i)[1] < low && (low = of(i)[1], true));
  const choice = drawn.filter(i => points.names[i] === points.chosen);
  const update = at("scatter").data.map(trace => {
    const members = trace.meta === "front" ? front : trace.meta === "choice" ? choice
      : trace.customdata.filter(known);
    return {
      x: members.map(i => of(i)[0]), y: members.map(i => of(i)[1]),
      hovertext: members.map(i => `${points.names[i]}<br>${points.labels[x]}: ${text(i, x)}` +
        `<br>${points.labels[y]}: ${text(i, y)}`),
    };
  });
  const layout = structuredClone(at("scatter").layout);
  for (const [axis, key] of [["xaxis", x], ["yaxis", y]])
    layout[axis] = { ...points.axes[key], title: { text: points.labels[key] }, automargin: true };
  const traces = at("scatter").data.map((trace, k) => ({ ...trace, ...update[k] }));
  Plotly.react("scatter", traces, layout, SETUP);
  const base = points.names.indexOf(points.foundation);
  at("scatter-said").textContent = `${drawn.length} points are drawn.` + (base < 0 ? "" :
    ` The foundation model, not drawn: across ${text(base, x)}, up ${text(base, y)}.`);
}

// what is kept on the axes of the parallel coordinates
function filter() {
  const [trace] = at("parallel").data, names = at("parallel").layout.meta;
  const kept = k => trace.dimensions.every(d => {
    if (!d.constraintrange) return true;
    const ranges = Array.isArray(d.constraintrange[0]) ? d.constraintrange : [d.constraintrange];
    return ranges.some(([low, high]) => low <= d.values[k] && d.values[k] <= high);
  });
  const free = trace.dimensions.every(d => !d.constraintrange);
  const left = new Set(names.filter((_, k) => kept(k)));
  points.names.forEach((name, i) => { shown[i] = free || left.has(name); });
  at("parallel-said").textContent = free ? "" : `${left.size} of ${names.length} points are kept.`;
  scatter();
  curves();
}

const whole = new Map();  // the curves before any filter
function curves() {
  if (!at("races").data) return;
  const found = tracesOf("races", "curves");
  for (const [trace, i] of found) if (!whole.has(i)) whole.set(i, Array.from(trace.y));
  Plotly.restyle("races", { y: found.map(([trace, i]) => whole.get(i).map(
    (y, k) => shown[trace.customdata[k]] ?? true ? y : null)) }, found.map(([, i]) => i));
}

// the frame of a number: where it is from, its numbers in the plot, and its atoms
function frame(i) {
  const [set, file, number, energy, force] = told.frames[i], drawn = told.structures[i];
  current = i;
  at("told").tBodies[0].replaceChildren(...[
    ["Source file", told.files[file] || "not known"], ["Frame", number < 0 ? "not known" : number],
    ["Set", set], ["Energy error (meV/atom)", energy ?? "no label"],
    ["Force RMSE (meV/Å)", force ?? "no label"],
  ].map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    row.insertCell().textContent = value;
    return row;
  }));
  if (drawn) at("frame").value = String(i);
  else at("frame").selectedIndex = -1;
  at("structure-said").textContent = drawn ? "" :
    "This frame is none of the worst of its set; its atoms are not in this page.";
  atoms();
  rings();
}

function atoms() {
  if (!at("structure").data || current === undefined) return;
  const drawn = told.structures[current];
  const layout = structuredClone(at("structure").layout);
  if (drawn) layout.scene.camera = drawn.camera;
  Plotly.react("structure", drawn?.traces ?? [], layout, SETUP);
}

function rings() {
  if (!at("parity").data || current === undefined) return;
  const found = tracesOf("parity", "frame"), x = found.map(() => []), y = found.map(() => []);
  for (const [trace] of tracesOf("parity", "numbers")) trace.customdata.forEach((owner, k) => {
    if (owner !== Number(current)) return;
    const panel = found.findIndex(([ring]) => (ring.xaxis ?? "x") === (trace.xaxis ?? "x"));
    x[panel].push(trace.x[k]);
    y[panel].push(trace.y[k]);
  });
  Plotly.restyle("parity", { x, y }, found.map(([, k]) => k));
}

const listed = (id, figure) => () => at(figure).data && Plotly.restyle(
  figure, { visible: at(figure).data.map(trace => trace.meta === at(id).value) });
const pair = listed("pair", "dimers"), crystal = listed("crystal", "volumes");

function parallel() {
  at("parallel").on("plotly_restyle", filter);
  at("parallel").on("plotly_hover", event => {
    const name = at("parallel").layout.meta[event.curveNumber];
    const i = points.names.indexOf(name), key = points.metric;
    if (name) at("parallel-said").textContent = `${name}; ${points.labels[key]}: ${text(i, key)}`;
  });
}

function parity() {
  at("parity").on("plotly_click", event => {
    const owner = event.points[0].customdata;
    if (owner !== undefined) frame(owner);
  });
  rings();
}

// Figures are drawn once they are within a window's height of the window, one at a time, so that
// the page answers between them; what needs WebGL comes last: without a GPU it takes seconds.
const AFTER = {
  parallel, scatter, races: curves, parity, structure: atoms, dimers: pair, volumes: crystal,
};
const SLOW = "structure", near = [];
let drawing = false;

async function draw() {
  if (drawing) return;
  drawing = true;
  while (near.length) {
    await new Promise(go => requestAnimationFrame(() => setTimeout(go)));
    const fast = near.findIndex(id => id !== SLOW);
    const [id] = near.splice(Math.max(0, fast), 1), { data: traces, layout } = data.figures[id];
    await Plotly.newPlot(id, traces, { ...layout, template: data.template }, SETUP);
    AFTER[id]?.();
  }
  drawing = false;
  document.body.dataset.ready = "yes";
}

const failed = error => {
  at("trouble").textContent = `The figures cannot be drawn (${error.message}). This page wants ` +
    "Chrome or Edge 98, Firefox 113, Safari 16.4, or a later one.";
};

async function start() {
  data = JSON.parse(await unpack("numbers"));
  ({ points, told } = data);
  shown = points.names.map(() => true);
  const script = document.createElement("script");
  script.textContent = await unpack("library");
  document.head.append(script);
  at("x").onchange = at("y").onchange = scatter;
  for (const [id, show] of [["pair", pair], ["crystal", crystal]])
    if (at(id)) at(id).onchange = show;
  at("frame").onchange = () => frame(at("frame").value);
  if (at("frame").value) frame(at("frame").value);
  const watch = new IntersectionObserver(found => {
    for (const { isIntersecting, target } of found) if (isIntersecting) {
      watch.unobserve(target);
      near.push(target.id);
    }
    draw().catch(failed);
  }, { rootMargin: "100%" });
  for (const id in data.figures) watch.observe(at(id));
}
start().catch(failed);
"""


def packed(content: bytes) -> str:
    """Return bytes as text for the page."""
    return base64.b64encode(content).decode()


def render(title: str, lead: str, panels: Sequence[Panel], data: dict[str, Any]) -> str:
    """Return the page.

    Args:
        title: Its heading.
        lead: What stands below the heading.
        panels: The figures.
        data: What the script needs beside the figures, as JSON.
    """
    figures = {panel.key: panel.figure.to_plotly_json() for panel in panels}
    look = templates[TEMPLATE].to_plotly_json()
    text = json.dumps(data | {"figures": figures, "template": look}, **COMPACT)
    return PAGE.render(
        title=title,
        lead=lead,
        panels=panels,
        style=Markup(STYLE),
        numbers=packed(gzip.compress(text.encode(), 9, mtime=0)),
        library=packed(LIBRARY.read_bytes()),
        script=Markup(SCRIPT),
    )

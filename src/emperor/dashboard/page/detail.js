// One vassal beside the list: charts, what the emperor knows of it, its last lines.

const CHARTS = [
  { id: "rate", label: "Requests/s", show: rate, least: 1, zero: true },
  { id: "latency", label: "Latency", show: latency, least: 1000, zero: true },
  { id: "memory", label: "Memory", show: bytes, least: 1e6, zero: false },
];

const detail = { key: null, why: null, parts: null };

function openDetail(key) {
  if (detail.key === key && detail.parts) return;
  detail.key = key;
  detail.why = null;
  buildDetail();
  drawDetail();
  askWhy();
  writePlace();
}

function closeDetail() {
  if (detail.key === null) return false;
  detail.key = null;
  detail.parts = null;
  byId("detail").hidden = true;
  byId("detail").replaceChildren();
  byId("scroll").focus();
  writePlace();
  return true;
}

function buildDetail() {
  const panel = byId("detail");
  const parts = { title: make("h2"), sign: make("span", "sign"), state: make("span"), acts: make("div", "acts"), said: make("span", "quiet") };
  const head = make("header");
  const close = make("button", "", "Close");
  close.type = "button";
  close.title = "Close (Esc)";
  close.addEventListener("click", closeDetail);
  head.append(parts.title, close);
  const state = make("p", "state");
  state.append(parts.sign, " ", parts.state);
  const charts = make("div", "charts");
  parts.charts = CHARTS.map((chart) => buildChart(chart, charts));
  parts.adviceTitle = make("h3", "", "What to do");
  parts.advice = make("ul", "advice");
  parts.facts = make("dl");
  parts.logTitle = make("h3", "", "Last lines");
  parts.log = make("div", "log");
  parts.log.tabIndex = 0;
  panel.replaceChildren(head, state, parts.acts, parts.adviceTitle, parts.advice, charts, parts.facts, parts.logTitle, parts.log);
  panel.scrollTop = 0;
  panel.hidden = false;
  detail.parts = parts;
  buildActs();
}

function buildChart(chart, into) {
  const box = make("div", "chart");
  const line = make("p");
  const [label, value, span] = [make("span", "", chart.label), make("b"), make("span")];
  line.append(label, span, value);
  const area = make("div");
  const svg = spark(chart.id);
  const cursor = make("u");
  cursor.hidden = true;
  area.append(svg, cursor);
  box.append(line, area);
  into.append(box);
  const part = { chart, box, svg, value, span, index: null };
  area.addEventListener("mousemove", (event) => {
    const { left, width } = area.getBoundingClientRect();
    const last = axis.shown() - 1;
    const column = Math.max(0, Math.min(last, Math.round(((event.clientX - left) / width) * last)));
    part.index = SAMPLES - 1 - last + column;
    cursor.style.left = (column / last) * 100 + "%";
    cursor.hidden = false;
    drawDetail();
  });
  area.addEventListener("mouseleave", () => {
    part.index = null;
    cursor.hidden = true;
    drawDetail();
  });
  return part;
}

function drawChart({ chart, box, svg, value, span, index }, vassal) {
  const series = vassal[chart.id];
  const range = series.range();
  box.hidden = !range;
  draw(svg, series, scale(series, chart.least, chart.zero));
  if (index === null) {
    setText(value, chart.show(series.last()));
    setText(span, range ? `${chart.show(range.low)} to ${chart.show(range.high)}` : "");
  } else {
    const at = axis.times[(axis.ticks + index) % SAMPLES];
    setText(value, chart.show(series.at(index)));
    setText(span, Number.isFinite(at) ? duration(serverNow() - at / 1000) + " ago" : "");
  }
}

function facts(vassal, why) {
  const row = vassal.row;
  const figures = row.figures;
  const out = [["File", plain(row.config)]];
  if (row.pid) out.push(["Process", `${row.pid}, uid ${row.uid}, gid ${row.gid}`]);
  else out.push(["Owner", `uid ${row.uid}, gid ${row.gid}`]);
  if (row.since) out.push(["Since", clock(row.since)]);
  if (row.next_try && row.state === "throttled") out.push(["Next try", clock(row.next_try)]);
  if (row.reason && !(row.last_exit && row.reason.startsWith(row.last_exit))) out.push(["Reason", plain(row.reason)]);
  if (row.last_exit) out.push(["Last exit", plain(row.last_exit) + (why?.last_exit_at ? ", " + clock(why.last_exit_at) : "")]);
  out.push(["Restarts", String(row.restarts)]);
  if (row.on_demand) out.push(["Starts on", plain(row.on_demand)]);
  if (figures) {
    out.push(["Workers", `${figures.workers}, ${figures.busy} busy, ${figures.respawns} respawned`]);
    out.push(["Requests", `${figures.requests.toLocaleString()}, ${figures.errors.toLocaleString()} errors, ${bytes(figures.tx)} sent`]);
    out.push(["Queue", String(figures.queue)]);
    out.push(["Generation", String(figures.generation)]);
  } else if (row.pid) {
    out.push(["Figures", "it gave none: it starts, is busy, or is no Imperator"]);
  }
  if (why?.log) out.push(["Log", plain(why.log)]);
  return out;
}

function drawDetail() {
  const parts = detail.parts;
  const vassal = estate.vassals.get(detail.key);
  if (!parts) return;
  if (!vassal) {
    setText(parts.title, plain(detail.key));
    if (estate.answer) setText(parts.state, "is gone");
    return;
  }
  setText(parts.title, vassal.name);
  setClass(parts.sign, "sign " + vassal.row.state);
  setText(parts.state, stateText(vassal.row));
  setClass(parts.state, "state-" + vassal.row.state);
  parts.charts.forEach((chart) => drawChart(chart, vassal));
  drawFacts(parts.facts, facts(vassal, detail.why));
  const advice = [detail.why?.trouble, ...(detail.why?.advice || [])].filter(Boolean);
  parts.adviceTitle.hidden = parts.advice.hidden = !advice.length;
  drawLines(parts.advice, "li", advice);
  drawLog(parts);
  drawActs();
}

function drawFacts(list, pairs) {
  while (list.children.length > 2 * pairs.length) list.lastChild.remove();
  while (list.children.length < 2 * pairs.length) list.append(make("dt"), make("dd"));
  pairs.forEach(([name, value], index) => {
    setText(list.children[2 * index], name);
    setText(list.children[2 * index + 1], value);
  });
}

function drawLines(list, tag, lines) {
  while (list.children.length > lines.length) list.lastChild.remove();
  while (list.children.length < lines.length) list.append(make(tag));
  lines.forEach((line, index) => setText(list.children[index], plain(line)));
}

// Whoever reads the end goes on reading the end.
function drawLog({ log }) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 20;
  const why = detail.why;
  const none = !why ? "" : why.error ? plain(why.error) : "It has said nothing, or vassal-log = inherit.";
  drawLines(log, "p", why?.lines?.length ? why.lines : [none]);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// What the emperor calls it. A helper is asked for under the name of its vassal.
function nameOf(key) {
  return (estate.vassals.get(key)?.row.name ?? key).replace(/:zerg$/, "");
}

async function askWhy() {
  const key = detail.key;
  if (key === null) return;
  const response = await ask(`vassal/${encodeURIComponent(nameOf(key))}.json`).catch(() => null);
  const why = await response?.json().catch(() => null);
  if (why && detail.key === key) {
    detail.why = why;
    drawDetail();
  }
}

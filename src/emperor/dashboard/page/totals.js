// The estate in one line, and the buttons that show one state only.

const TOTALS = [
  { id: "rate", label: "Requests/s", series: "rate", show: rate, draw: drawRate },
  { id: "latency", label: "Latency, mean by requests", series: "latency", show: latency, draw: drawLatency },
  { id: "errors", label: "Errors/s", series: "errors", show: rate, draw: drawRate },
  { id: "workers", label: "Workers busy", series: "busy", show: count, draw: drawRate },
  { id: "memory", label: "Memory", series: "memory", show: bytes, draw: drawMemory },
];

const cells = {};

function buildTotals() {
  for (const { id, label } of [{ id: "vassals", label: "Vassals" }, ...TOTALS]) {
    const cell = make("div", "total");
    const value = make("b", "", NONE);
    const more = make("small");
    const line = id === "vassals" ? null : spark(id);
    cell.append(make("h2", "", label), value, ...(line ? [line] : []));
    byId("totals").append(cell);
    cells[id] = { value, more, line };
  }
  for (const state of ["all", ...STATES]) {
    const button = make("button");
    button.type = "button";
    button.append(...(state === "all" ? [] : [make("span", "sign " + state)]), make("span", "", state), make("span", "", "0"));
    button.addEventListener("click", () => showState(table.state === state ? "all" : state));
    byId("chips").append(button);
    cells["chip-" + state] = button;
  }
}

function showState(state) {
  table.state = state;
  byId("scroll").scrollTop = 0;
  drawTotals();
  reorder();
}

function drawTotals() {
  const states = Object.fromEntries(STATES.map((state) => [state, 0]));
  let ill = 0;
  for (const vassal of estate.vassals.values()) {
    states[vassal.row.state] = (states[vassal.row.state] || 0) + 1;
    ill += vassal.isIll();
  }
  const all = estate.vassals.size;
  for (const state of ["all", ...STATES]) {
    const button = cells["chip-" + state];
    const number = state === "all" ? all : states[state];
    button.hidden = number === 0 && state !== "all" && table.state !== state;
    button.setAttribute("aria-pressed", table.state === state);
    setText(button.lastChild, String(number));
  }
  const value = cells.vassals.value;
  setText(value, String(all));
  setText(cells.vassals.more, ill ? ` ${ill} in trouble` : ` ${states.running} running`);
  if (!cells.vassals.more.isConnected || cells.vassals.more.parentNode !== value) value.append(cells.vassals.more);
  setClass(cells.vassals.more, ill ? "hot" : "");
  for (const { id, series, show, draw } of TOTALS) {
    const last = estate.total[series].last();
    const text = show(last) + (id === "workers" ? ` / ${estate.workers}` : "");
    setText(cells[id].value, text);
    draw(cells[id].line, estate.total[series]);
  }
  setClass(cells.errors.value, estate.total.errors.last() > 0 ? "bad" : "");
  document.title = (ill ? `(${ill}) ` : "") + "Imperator";
  drawIcon(ill ? "c0352b" : "2c8a57");
}

function drawIcon(colour) {
  const icon = byId("icon");
  const href = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='%23${colour}'/%3E%3C/svg%3E`;
  if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
}

function drawAbout() {
  const { version, pid, since, sources } = estate.answer;
  setText(byId("about"), `${sources.map(plain).join(", ")}  ·  ${version}  ·  pid ${pid}  ·  up ${duration(serverNow() - since)}`);
}

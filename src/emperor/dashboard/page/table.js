// The list: sorted, filtered, and only as many rows in the document as the window shows.

const ROW = 33;
const SPARE = 6;
// So many samples count for the order, and so often (ms) it is made anew: rows hold still while one reads.
const SETTLED = 10;
const REORDER = 10000;

const number = (value) => (Number.isFinite(value) ? value : -1);
const figure = (name) => (v) => number(v.row.figures ? v.row.figures[name] : NaN);

const COLUMNS = [
  { id: "name", label: "Vassal", width: "16%", key: (v) => v.name },
  { id: "state", label: "State", width: "138px", key: (v) => (v.isIll() ? 0 : STATES.indexOf(v.row.state)) },
  { id: "rate", label: "Requests/s", width: "152px", number: true, down: true, live: true, key: (v) => number(v.rate.recent(SETTLED)) },
  { id: "latency", label: "Latency", width: "152px", number: true, down: true, live: true, key: (v) => number(v.latency.recent(SETTLED)) },
  { id: "memory", label: "Memory", width: "152px", number: true, down: true, live: true, key: (v) => number(v.memory.recent(SETTLED)) },
  { id: "workers", label: "Workers", width: "80px", number: true, down: true, key: figure("workers") },
  { id: "queue", label: "Queue", width: "66px", number: true, down: true, live: true, key: figure("queue") },
  { id: "errors", label: "Errors", width: "68px", number: true, down: true, key: figure("errors") },
  { id: "restarts", label: "Restarts", width: "78px", number: true, down: true, key: (v) => v.row.restarts },
  { id: "words", label: "Last word", width: "auto", key: (v) => v.words() },
];

const table = { order: [], orderedAt: 0, sort: "state", down: false, filter: "", state: "all", chosen: null, rows: [], open() {} };

function buildTable() {
  for (const column of COLUMNS) {
    const col = make("col", "c-" + column.id);
    col.style.width = column.width;
    byId("columns").append(col);
    const head = make("th", "c-" + column.id + (column.number ? " number" : ""));
    const button = make("button", "", column.label);
    button.type = "button";
    button.addEventListener("click", () => sortBy(column.id));
    head.setAttribute("role", "columnheader");
    head.append(button);
    byId("heads").append(head);
  }
  table.before = padding();
  table.after = padding();
  byId("rows").append(table.before, table.after);
  byId("scroll").addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  new ResizeObserver(drawRows).observe(byId("scroll"));
  byId("rows").addEventListener("click", (event) => {
    const key = event.target.closest("tr")?.vassal?.key;
    if (key !== undefined) choose(key, true);
  });
}

function padding() {
  const row = make("tr", "pad");
  row.setAttribute("aria-hidden", "true");
  const cell = make("td");
  row.append(cell);
  return row;
}

function sortBy(id) {
  const column = COLUMNS.find((c) => c.id === id);
  if (!column) return;
  table.down = table.sort === id ? !table.down : !!column.down;
  table.sort = id;
  reorder();
}

function matches(vassal) {
  if (table.state !== "all" && vassal.row.state !== table.state) return false;
  return table.filter.split(/\s+/).every((word) => vassal.text.includes(word));
}

// Who is shown, in which order.
function reorder() {
  const column = COLUMNS.find((c) => c.id === table.sort);
  const keyed = [...estate.vassals.values()].filter(matches).map((v) => [column.key(v), v]);
  const sign = table.down ? -1 : 1;
  keyed.sort(([a, v], [b, w]) => {
    const first = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
    return sign * first || v.name.localeCompare(w.name, undefined, { numeric: true });
  });
  table.order = keyed.map(([, v]) => v);
  table.orderedAt = performance.now();
  for (const [index, head] of [...byId("heads").children].entries()) {
    if (COLUMNS[index].id === table.sort) head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  drawRows();
}

// After an answer: a new order only where it can have changed for good.
function refreshTable() {
  const column = COLUMNS.find((c) => c.id === table.sort);
  if (!column.live || performance.now() - table.orderedAt >= REORDER) return reorder();
  const shown = new Set(table.order);
  const wanted = [...estate.vassals.values()].filter(matches);
  if (wanted.length !== shown.size || wanted.some((v) => !shown.has(v))) return reorder();
  drawRows();
}

function buildRow() {
  const row = make("tr");
  row.setAttribute("role", "row");
  const cells = {};
  for (const column of COLUMNS) {
    const cell = make("td", "c-" + column.id + (column.number ? " number" : ""));
    cell.setAttribute("role", "gridcell");
    cells[column.id] = cell;
    row.append(cell);
  }
  const sign = make("span", "sign");
  const name = make("span", "name");
  const folder = make("i");
  const last = make("span");
  name.append(folder, last);
  cells.name.append(sign, name);
  const pairs = {};
  for (const id of ["rate", "latency", "memory"]) {
    const pair = make("div", "pair");
    pairs[id] = { svg: spark(id), text: make("span") };
    pair.append(pairs[id].svg, pairs[id].text);
    cells[id].append(pair);
  }
  cells.words.className += " words";
  const trouble = make("b");
  const words = make("span");
  cells.words.append(trouble, words);
  row.parts = { cells, sign, folder, last, pairs, trouble, words };
  return row;
}

function fillRow(row, vassal, index) {
  const { cells, sign, folder, last, pairs, trouble, words } = row.parts;
  const data = vassal.row;
  row.vassal = vassal;
  row.id = "row-" + index;
  row.setAttribute("aria-rowindex", index + 2);
  row.setAttribute("aria-selected", vassal.key === table.chosen);
  setClass(sign, "sign " + data.state);
  const slash = vassal.name.lastIndexOf("/") + 1;
  setText(folder, vassal.name.slice(0, slash));
  setText(last, vassal.name.slice(slash));
  setTitle(cells.name, vassal.name);
  setText(cells.state, stateText(data));
  setClass(cells.state, "c-state state-" + data.state);
  drawRate(pairs.rate.svg, vassal.rate);
  drawLatency(pairs.latency.svg, vassal.latency);
  drawMemory(pairs.memory.svg, vassal.memory);
  setText(pairs.rate.text, rate(vassal.rate.last()));
  setClass(pairs.rate.text, vassal.rate.last() > 0 ? "" : "quiet");
  setText(pairs.latency.text, latency(vassal.latency.last()));
  setClass(pairs.latency.text, vassal.rate.last() > 0 ? "" : "quiet");
  setText(pairs.memory.text, bytes(vassal.memory.last()));
  setClass(pairs.memory.text, data.figures ? "" : "quiet");
  const figures = data.figures;
  setText(cells.workers, figures ? `${figures.busy} / ${figures.workers}` : NONE);
  setClass(cells.workers, "c-workers number" + (figures && figures.workers && figures.busy >= figures.workers ? " hot" : figures ? "" : " quiet"));
  setText(cells.queue, figures ? count(figures.queue) : NONE);
  setClass(cells.queue, "c-queue number" + (figures && figures.queue > 0 ? "" : " quiet"));
  setText(cells.errors, figures ? count(figures.errors) : NONE);
  setClass(cells.errors, "c-errors number" + (vassal.errors.last() > 0 ? " hot" : figures && figures.errors ? "" : " quiet"));
  setText(cells.restarts, count(data.restarts));
  setClass(cells.restarts, "c-restarts number" + (data.restarts ? "" : " quiet"));
  const said = plain(vassal.words());
  const ill = vassal.isIll();
  setText(trouble, ill ? said : "");
  setText(words, ill ? (data.last_line ? " · " + plain(data.last_line) : "") : said);
  setTitle(cells.words, [ill ? said : "", plain(data.last_line)].filter(Boolean).join("\n") || said);
}

function stateText(row) {
  if (row.state === "throttled" && row.next_try) return "retry in " + duration(row.next_try - serverNow());
  if (!row.since || row.state === "stopped") return row.state;
  return row.state + " " + duration(serverNow() - row.since);
}

function drawRows() {
  const scroll = byId("scroll");
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - SPARE);
  const room = Math.ceil((scroll.clientHeight || 800) / ROW) + 2 * SPARE;
  const end = Math.min(table.order.length, first + room);
  const begin = Math.max(0, Math.min(first, end - room));
  while (table.rows.length < end - begin) {
    const row = buildRow();
    table.rows.push(row);
    table.after.before(row);
  }
  for (const row of table.rows.splice(end - begin)) row.remove();
  table.before.firstChild.style.height = begin * ROW + "px";
  table.after.firstChild.style.height = (table.order.length - end) * ROW + "px";
  table.rows.forEach((row, offset) => fillRow(row, table.order[begin + offset], begin + offset));
  scroll.setAttribute("aria-rowcount", table.order.length + 1);
  const active = table.rows.find((row) => row.vassal.key === table.chosen);
  if (active) scroll.setAttribute("aria-activedescendant", active.id);
  else scroll.removeAttribute("aria-activedescendant");
  const empty = byId("empty");
  empty.hidden = table.order.length > 0 || !estate.answer;
  setText(empty, estate.vassals.size ? "No vassal fits the filter." : "No vassals yet: put a file into one of the emperor's sources.");
  const all = estate.vassals.size;
  setText(byId("shown"), table.order.length === all ? "" : `${table.order.length} of ${all}`);
}

function choose(key, open) {
  table.chosen = key;
  drawRows();
  if (open) table.open(key);
}

// Up and down, and what is chosen stays in sight.
function step(by) {
  if (!table.order.length) return;
  const from = table.order.findIndex((v) => v.key === table.chosen);
  const to = Math.max(0, Math.min(table.order.length - 1, from < 0 ? 0 : from + by));
  const scroll = byId("scroll");
  const [top, bottom] = [to * ROW, (to + 1) * ROW + 31];
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight;
  choose(table.order[to].key, false);
}

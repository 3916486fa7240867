// The page's life: asks while somebody looks, and draws what comes.

const EVERY = 2000;
const SLOWEST = 30000;
const PATIENCE = 30000;

const life = { paused: false, timer: 0, asking: false, interval: EVERY, lostSince: 0, offset: 0, secret: "" };

// Seconds since 1970 by the emperor's clock.
function serverNow() {
  return (performance.now() + life.offset) / 1000;
}

function ask(path, options = {}) {
  const headers = life.secret ? { Authorization: "Bearer " + life.secret } : {};
  return fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE), headers, ...options });
}

async function poll() {
  clearTimeout(life.timer);
  if (life.asking || life.paused || document.hidden || byId("login").open) return;
  life.asking = true;
  const begun = performance.now();
  try {
    const response = await ask("estate.json");
    if (response.status === 401) return askSecret();
    if (!response.ok) throw new Error(`${response.status}`);
    take(await response.json());
    life.lostSince = 0;
  } catch {
    life.lostSince = life.lostSince || performance.now();
  } finally {
    life.asking = false;
    // A large estate takes its time to answer: then it is asked less often.
    life.interval = Math.min(SLOWEST, Math.max(EVERY, 5 * (performance.now() - begun)));
    drawLive();
    plan();
  }
}

function plan() {
  clearTimeout(life.timer);
  if (!life.paused && !document.hidden) life.timer = setTimeout(poll, life.interval);
}

function take(answer) {
  // Several pages share an answer: one that was seen is no news.
  if (estate.answer?.at === answer.at) return;
  life.offset = answer.at - performance.now();
  takeEstate(answer, life.interval);
  drawAbout();
  drawTotals();
  refreshTable();
  drawDetail();
  askWhy();
}

function drawLive() {
  const lost = life.lostSince > 0;
  setClass(byId("live"), "live" + (life.paused ? " paused" : lost ? " lost" : ""));
  const text = life.paused ? "paused" : lost ? "no answer from the emperor" : estate.answer ? `live, every ${Math.round(life.interval / 1000)} s` : "connecting";
  setText(byId("live-text"), text);
}

function pause() {
  life.paused = !life.paused;
  byId("pause").setAttribute("aria-pressed", life.paused);
  setText(byId("pause"), life.paused ? "Go on" : "Pause");
  drawLive();
  poll();
}

// -- the secret: in the tab's memory, or from the fragment of a link, which no server sees

function askSecret() {
  const had = life.secret;
  life.secret = "";
  store(sessionStorage, "secret", null);
  if (had) setText(byId("login-text"), "The emperor does not know this secret.");
  if (!byId("login").open) byId("login").showModal();
}

function store(storage, name, value) {
  try {
    if (value === null) storage.removeItem("imperator-" + name);
    else storage.setItem("imperator-" + name, value);
  } catch {
    // a browser may forbid it: then it is for this page only
  }
}

function stored(storage, name) {
  try {
    return storage.getItem("imperator-" + name) || "";
  } catch {
    return "";
  }
}

// -- the place in the address: which vassal is open, filter and order survive a reload of the page

function readPlace() {
  const place = new URLSearchParams(location.hash.slice(1));
  if (place.has("secret")) store(sessionStorage, "secret", place.get("secret"));
  life.secret = stored(sessionStorage, "secret");
  table.filter = (place.get("filter") || "").toLowerCase();
  byId("filter").value = table.filter;
  if (place.has("state")) table.state = place.get("state");
  const column = COLUMNS.find((c) => c.id === place.get("sort"));
  if (column) [table.sort, table.down] = [column.id, place.has("down")];
  if (place.has("vassal")) {
    table.chosen = place.get("vassal");
    openDetail(table.chosen);
  }
  writePlace();
}

function writePlace() {
  const place = new URLSearchParams();
  if (table.filter) place.set("filter", table.filter);
  if (table.state !== "all") place.set("state", table.state);
  if (table.sort !== "state" || table.down) place.set("sort", table.sort);
  if (table.down) place.set("down", "");
  if (detail.key !== null) place.set("vassal", detail.key);
  history.replaceState(null, "", location.pathname + (place.size ? "#" + place : ""));
}

// -- light and dark

const THEMES = ["auto", "light", "dark"];

function useTheme(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
  setText(byId("theme"), "Theme: " + theme);
  life.theme = theme;
}

function nextTheme() {
  useTheme(THEMES[(THEMES.indexOf(life.theme) + 1) % THEMES.length]);
  store(localStorage, "theme", life.theme === "auto" ? null : life.theme);
}

// -- keys

const KEYS = {
  "/": () => byId("filter").focus(),
  "?": () => byId("keys").showModal(),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  j: () => step(1),
  k: () => step(-1),
  PageDown: () => step(20),
  PageUp: () => step(-20),
  Home: () => step(-1e9),
  End: () => step(1e9),
  Enter: () => table.chosen !== null && openDetail(table.chosen),
  s: () => sortBy(COLUMNS[(COLUMNS.findIndex((c) => c.id === table.sort) + 1) % COLUMNS.length].id),
  r: () => sortBy(table.sort),
  p: pause,
  t: nextTheme,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input");
  if (event.key === "Escape") {
    if (typing || !closeDetail()) setFilter("");
    byId("scroll").focus();
    return;
  }
  // In a field letters are letters; on a button Enter presses it; in the panel the arrows scroll it.
  const moves = ["ArrowDown", "ArrowUp", "Enter"].includes(event.key);
  if (typing && !moves) return;
  if (event.key === "Enter" && event.target.closest("button")) return;
  if (event.target.closest(".detail") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
  if (!typing) writePlace();
}

function setFilter(text) {
  if (byId("filter").value !== text) byId("filter").value = text;
  table.filter = text.toLowerCase().trim();
  byId("scroll").scrollTop = 0;
  reorder();
  writePlace();
}

function main() {
  buildTable();
  buildTotals();
  useTheme(THEMES.find((theme) => theme === stored(localStorage, "theme")) || "auto");
  table.open = openDetail;
  readPlace();
  byId("filter").addEventListener("input", (event) => setFilter(event.target.value));
  byId("heads").addEventListener("click", writePlace);
  byId("chips").addEventListener("click", writePlace);
  byId("pause").addEventListener("click", pause);
  byId("theme").addEventListener("click", nextTheme);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("login-form").addEventListener("submit", () => {
    life.secret = byId("secret").value.trim();
    byId("secret").value = "";
    store(sessionStorage, "secret", life.secret);
  });
  byId("login").addEventListener("close", poll);
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(life.timer) : poll()));
  setInterval(() => document.hidden || life.paused || (drawLive(), estate.answer && drawRows()), 1000);
  drawRows();
  poll();
}

main();

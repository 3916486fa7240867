// What was, for the sparklines: kept here, so that the emperor remembers nothing for pages that nobody looks at.

const SAMPLES = 150;
const FEWEST = 30;
const PATIENT = 3;

// All series of the page share one time axis: sample n of each is of the same moment.
const axis = {
  times: new Float64Array(SAMPLES).fill(NaN),
  ticks: 0,
  // How many columns are shown: a young page has few, and draws them wide.
  shown() {
    return Math.min(SAMPLES, Math.max(FEWEST, this.ticks));
  },
  // A column for this moment; after a pause an empty one before it, so that no line bridges what was not seen.
  advance(at, interval) {
    const last = this.times[(this.ticks - 1 + SAMPLES) % SAMPLES];
    if (this.ticks > 0 && at - last > 4 * interval) this.times[this.ticks++ % SAMPLES] = NaN;
    this.times[this.ticks++ % SAMPLES] = at;
  },
};

class Series {
  constructor() {
    this.values = new Float32Array(SAMPLES).fill(NaN);
    this.until = axis.ticks;
  }

  // Columns in which nobody said anything stay empty.
  put(value) {
    const from = Math.max(this.until, axis.ticks - SAMPLES);
    for (let tick = from; tick < axis.ticks; tick++) this.values[tick % SAMPLES] = NaN;
    this.values[(axis.ticks - 1) % SAMPLES] = value;
    this.until = axis.ticks;
  }

  // By age: 0 is the oldest.
  at(index) {
    return this.values[(axis.ticks + index) % SAMPLES];
  }

  last() {
    return this.until === axis.ticks && axis.ticks > 0 ? this.at(SAMPLES - 1) : NaN;
  }

  // The mean of the last samples: what a column is sorted by, so that rows do not jump at each tick.
  recent(samples) {
    let [sum, seen] = [0, 0];
    for (let index = SAMPLES - samples; index < SAMPLES; index++) {
      const value = this.at(index);
      if (!Number.isNaN(value)) [sum, seen] = [sum + value, seen + 1];
    }
    return seen ? sum / seen : NaN;
  }

  range() {
    let [low, high] = [Infinity, -Infinity];
    for (const value of this.values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return high === -Infinity ? null : { low, high };
  }
}

// A counter begins anew with a generation: then all of it is news.
function grown(now, before) {
  return now >= before ? now - before : now;
}

class Vassal {
  constructor(key) {
    this.key = key;
    this.rate = new Series();
    this.latency = new Series();
    this.memory = new Series();
    this.errors = new Series();
    this.before = null;
    this.unread = 0;
  }

  // A row of the answer, taken `at` (ms).
  take(row, at) {
    this.row = row;
    this.name = plain(row.name);
    const figures = row.figures;
    const before = this.before;
    const seconds = before ? (at - before.at) / 1000 : 0;
    const known = figures && before && seconds > 0;
    this.rate.put(known ? grown(figures.requests, before.requests) / seconds : NaN);
    this.errors.put(known ? grown(figures.errors, before.errors) / seconds : NaN);
    this.latency.put(figures && figures.requests > 0 ? figures.avg_rt_us : NaN);
    this.memory.put((figures && this.resident(figures)) || NaN);
    this.before = figures ? { at, requests: figures.requests, errors: figures.errors } : null;
    this.text = (this.name + " " + row.state + " " + plain(this.words())).toLowerCase();
  }

  // One kind of memory only. A master that had no time to read the one without shared pages tells it the next time; one that never does cannot.
  resident(figures) {
    if (figures.pss) this.pss = figures.pss;
    else this.unread++;
    return figures.rss && (this.pss || (this.unread > PATIENT ? figures.rss : NaN));
  }

  // In trouble: it waits after a death, or tries again just now.
  isIll() {
    const { state, last_exit: exit, on_demand: socket } = this.row;
    return state === "throttled" || (state === "starting" && !!exit && !socket);
  }

  // What it says, or why it does not run.
  words() {
    const row = this.row;
    if (this.isIll()) return (row.last_exit || row.reason || "").replace(/^pid \d+ ended with /, "");
    if (row.state === "stopped") return row.reason || row.last_exit || "";
    return row.last_line || "";
  }
}

const estate = { vassals: new Map(), total: { rate: new Series(), errors: new Series(), latency: new Series(), memory: new Series(), busy: new Series() } };

// Takes one answer to `ps`.
function takeEstate(answer, interval) {
  axis.advance(answer.at, interval);
  const gone = new Set(estate.vassals.keys());
  const sum = { rate: NaN, errors: NaN, memory: NaN, busy: NaN, workers: 0, weighted: 0, weight: 0 };
  const add = (name, value) => {
    if (Number.isFinite(value)) sum[name] = (Number.isNaN(sum[name]) ? 0 : sum[name]) + value;
  };
  for (const row of answer.vassals) {
    // Helpers of one vassal have one name.
    let key = row.name;
    for (let twin = 2; !gone.has(key) && estate.vassals.get(key)?.seen === axis.ticks; twin++) key = row.name + "\n" + twin;
    gone.delete(key);
    let vassal = estate.vassals.get(key);
    if (!vassal) estate.vassals.set(key, (vassal = new Vassal(key)));
    vassal.seen = axis.ticks;
    vassal.take(row, answer.at);
    add("rate", vassal.rate.last());
    add("errors", vassal.errors.last());
    add("memory", vassal.memory.last());
    add("busy", row.figures ? row.figures.busy : NaN);
    sum.workers += row.figures ? row.figures.workers : 0;
    if (vassal.rate.last() > 0 && Number.isFinite(vassal.latency.last())) {
      sum.weighted += vassal.rate.last() * vassal.latency.last();
      sum.weight += vassal.rate.last();
    }
  }
  gone.forEach((key) => estate.vassals.delete(key));
  estate.answer = answer;
  estate.workers = sum.workers;
  estate.total.rate.put(sum.rate);
  estate.total.errors.put(sum.errors);
  estate.total.memory.put(sum.memory);
  estate.total.busy.put(sum.busy);
  estate.total.latency.put(sum.weight > 0 ? sum.weighted / sum.weight : NaN);
}

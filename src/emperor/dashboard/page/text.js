// Words and numbers. What vassals say reaches the page as text only: nothing here or elsewhere makes markup of it.

const NONE = "–";
const STATES = ["throttled", "stopping", "reloading", "starting", "running", "sleeping", "stopped"];

const byId = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// A text that stays the same is not written again: no flicker, no lost selection.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setClass(element, name) {
  if (element.getAttribute("class") !== name) element.setAttribute("class", name);
}

function setTitle(element, text) {
  if (element.title !== text) element.title = text;
}

// Characters that turn the direction of what follows could make one name look like another.
function plain(text) {
  return String(text ?? "").replace(/[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "\ufffd");
}

function digits(value) {
  if (value >= 100 || value === 0) return String(Math.round(value));
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function count(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value >= 1e9) return digits(value / 1e9) + " G";
  if (value >= 1e6) return digits(value / 1e6) + " M";
  if (value >= 1e4) return digits(value / 1e3) + " k";
  return String(Math.round(value));
}

function rate(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value >= 1e4) return count(value);
  return value >= 100 || value === 0 ? String(Math.round(value)) : value.toFixed(1);
}

function bytes(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value >= 1e9) return digits(value / 1e9) + " GB";
  if (value >= 1e6) return digits(value / 1e6) + " MB";
  return Math.round(value / 1e3) + " kB";
}

function latency(microseconds) {
  if (!Number.isFinite(microseconds)) return NONE;
  if (microseconds >= 1e6) return digits(microseconds / 1e6) + " s";
  if (microseconds >= 1e3) return digits(microseconds / 1e3) + " ms";
  return Math.round(microseconds) + " µs";
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

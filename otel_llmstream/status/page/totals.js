// The numbers at the top.

import { count, make, put, seconds, share } from "./format.js";

const OUTCOMES = ["completed", "truncated", "failed", "cancelled", "abandoned"];

const TILES = [
  ["open now", (h) => count(h.active)],
  ["stalled now", (h) => count(h.stalled), (h) => (h.stalled ? "stalled" : "")],
  ["ended", (h) => count(OUTCOMES.reduce((sum, name) => sum + h.totals[name], 0))],
  ["failure rate", (h) => share(h.failure_ratio), (h) => (h.failure_ratio ? "bad" : "")],
  ["retries", (h) => count(h.retries)],
  ["first chunk, p50", (h) => seconds(h.time_to_first_chunk.p50)],
  ["first chunk, p95", (h) => seconds(h.time_to_first_chunk.p95)],
  ["mean duration", (h) => seconds(h.mean_duration)],
];

const tiles = document.querySelector("#tiles");
const values = TILES.map(([name]) => {
  const box = make("div");
  const value = make("dd", "", "–");
  box.append(make("dt", "", name), value);
  tiles.append(box);
  return value;
});
const bar = document.querySelector("#outcomes");
const parts = OUTCOMES.map((name) => {
  const part = make("span", name);
  bar.append(part);
  return part;
});
const reasons = document.querySelector("#reasons");
const served = document.querySelector("#served");
let drawn = "";

export function showTotals({ health }) {
  TILES.forEach(([, text, kind], place) => {
    put(values[place], text(health));
    values[place].className = kind ? kind(health) : "";
  });
  // What follows changes only when a call ends.
  const facts = JSON.stringify([health.totals, health.error_types, health.served, health.internal_errors]);
  if (facts === drawn) return;
  drawn = facts;
  showOutcomes(health.totals);
  showReasons(health);
  showServed(health.served);
}

function showOutcomes(totals) {
  OUTCOMES.forEach((name, place) => {
    parts[place].style.flexGrow = String(totals[name]);
    parts[place].hidden = !totals[name];
  });
  bar.setAttribute("aria-label", OUTCOMES.map((name) => `${totals[name]} ${name}`).join(", "));
}

function showReasons(health) {
  const outcomes = OUTCOMES.filter((name) => health.totals[name]).map((name) => [name, health.totals[name], "outcome"]);
  const errors = Object.entries(health.error_types).sort((one, other) => other[1] - one[1]);
  const internal = health.internal_errors ? [["errors of otel-llmstream itself", health.internal_errors]] : [];
  reasons.replaceChildren(
    ...[...outcomes, ...errors, ...internal].map(([name, number, kind]) => {
      const item = make("li", kind);
      item.append(make("b", "", count(number)), ` ${name}`);
      return item;
    }),
  );
}

function showServed(totals) {
  const found = Object.entries(totals).filter(([, number]) => number);
  served.hidden = !found.length;
  served.textContent = `Served to own clients: ${found.map(([name, number]) => `${count(number)} ${name}`).join(", ")}`;
}

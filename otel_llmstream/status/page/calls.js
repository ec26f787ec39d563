// The table of the calls that have ended, the newest one first.

import { openCall } from "./call.js";
import { SIGNS, clock, count, make, put, seconds, whatHappened } from "./format.js";
import { Table } from "./table.js";

const MOST = 500; // calls of each kind that the page keeps

const table = new Table(document.querySelector("#calls-view"), {
  key: (item) => item.number,
  make: makeRow,
  fill,
  open: (item) => openCall(item, () => table.focus()),
});
const none = document.querySelector("#calls-none");
const number = document.querySelector("#calls-count");
const filter = document.querySelector("#filter");
let calls = [];
let failures = []; // kept apart, so that successes cannot push them out

filter.addEventListener("change", show);

export function addCalls(news) {
  if (news.reset) calls = failures = [];
  const newest = news.calls.toReversed();
  calls = [...newest, ...calls].slice(0, MOST);
  failures = [...newest.filter((it) => it.failed), ...failures].slice(0, MOST);
  show();
}

function show() {
  const found = filter.querySelector(":checked").value === "failures" ? failures : calls;
  table.show(found);
  table.view.hidden = !found.length;
  none.hidden = Boolean(found.length);
  put(none, calls.length ? "No call has failed." : "No call has ended yet.");
  put(number, count(found.length));
}

function makeRow() {
  const row = make("tr");
  row.cells_ = ["muted", "", "verdict", "", "number", "number", "number", "number"].map((name) => make("td", name));
  row.append(...row.cells_);
  return row;
}

function fill(row, it) {
  const [at, model, verdict, reason, duration, first, chunks, tokens] = row.cells_;
  row.className = it.outcome;
  put(at, clock(it.at));
  put(model, it.model ?? it.response_model ?? "no model named");
  put(verdict, `${SIGNS[it.outcome]} ${it.outcome}`);
  put(reason, whatHappened(it));
  reason.title = it.message;
  put(duration, seconds(it.duration));
  put(first, seconds(it.time_to_first_chunk));
  put(chunks, count(it.chunks));
  put(tokens, count(it.output_tokens));
}

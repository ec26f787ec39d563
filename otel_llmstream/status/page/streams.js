// The table of open streams.

import { count, make, put, seconds } from "./format.js";
import { Table } from "./table.js";

const WORDS = {
  headers: "the headers",
  first_chunk: "the first chunk",
  streaming: "the next chunk",
  held: "nothing: the application has it",
  backoff: "its next attempt",
};
const GAPS = 32;
const [WIDTH, HEIGHT] = [134, 22];
const SVG = "http://www.w3.org/2000/svg";

const table = new Table(document.querySelector("#open-view"), { key: (item) => item.key, make: makeRow, fill });
const none = document.querySelector("#open-none");
const more = document.querySelector("#open-more");
const number = document.querySelector("#open-count");
const serving = document.querySelector("#serving tbody");
let drawn = "";

export function showStreams({ streams, open, served }) {
  table.show(streams);
  table.view.hidden = !streams.length;
  none.hidden = Boolean(streams.length);
  more.hidden = open === streams.length;
  put(more, `${count(open - streams.length)} more are open. The stalled and the oldest ones are listed.`);
  put(number, count(open));
  showServing(served);
}

function makeRow() {
  const row = make("tr");
  const cells = ["", "phase", "number", "number", "number", "", "", "muted"].map((name) => make("td", name));
  const bar = make("div", "bar");
  bar.setAttribute("role", "img");
  bar.append(make("span", "wait"), make("span", "hold"));
  cells[5].append(bar);
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "gaps");
  drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  drawing.setAttribute("role", "img");
  const [gaps, now] = [document.createElementNS(SVG, "path"), document.createElementNS(SVG, "path")];
  now.setAttribute("class", "now");
  drawing.append(gaps, now);
  cells[6].append(drawing);
  row.append(...cells);
  Object.assign(row, { cells_: cells, bar, drawing, gaps, now });
  return row;
}

function fill(row, it) {
  const [model, phase, age, silence, chunks, , , server] = row.cells_;
  row.className = it.stalled ? "stalled" : "";
  put(model, it.model ?? "no model named");
  model.title = `${it.provider}, ${it.dialect}`;
  const again = it.attempt > 1 ? ` (attempt ${it.attempt})` : "";
  put(phase, `${it.stalled ? "▲ stalled: " : ""}${WORDS[it.phase] ?? it.phase}${again}`);
  phase.title = `phase ${it.phase}`;
  put(age, seconds(it.age));
  put(silence, it.phase === "held" || it.phase === "backoff" ? "" : seconds(it.silence));
  put(chunks, it.unread ? `${count(it.chunks)} + ${it.unread}` : count(it.chunks));
  chunks.title = it.unread ? `${it.unread} reads came that have not been examined yet` : "";
  put(server, it.server);
  server.title = `${it.server}:${it.port} over ${it.transport}`;
  fillBar(row.bar, it);
  fillGaps(row, it);
}

function fillBar(bar, it) {
  const all = it.wait + it.hold || 1;
  bar.children[0].style.width = `${(100 * it.wait) / all}%`;
  bar.children[1].style.width = `${(100 * it.hold) / all}%`;
  bar.setAttribute("aria-label", `network wait ${seconds(it.wait)}, hold ${seconds(it.hold)}`);
  bar.title = `network wait ${seconds(it.wait)}, hold ${seconds(it.hold)}`;
}

// One line for each gap, and one for the silence that lasts. Heights are logarithmic, from 1 ms to a minute.
function fillGaps(row, it) {
  const silence = it.phase === "streaming" ? it.silence * 1000 : 0;
  const gaps = it.gaps.slice(-(GAPS - 1));
  row.gaps.setAttribute("d", gaps.map((gap, place) => line(place, gap)).join(""));
  row.now.setAttribute("d", silence ? line(gaps.length, silence) : "");
  const longest = Math.max(0, ...gaps);
  row.drawing.setAttribute("aria-label", `the longest of the last gaps is ${seconds(longest / 1000)}`);
}

function line(place, milliseconds) {
  const tall = Math.max(1.5, Math.min(1, Math.log10(1 + milliseconds) / Math.log10(60_001)) * HEIGHT);
  return `M${(place * (WIDTH / GAPS) + 2).toFixed(1)} ${HEIGHT}v${(-tall).toFixed(1)}`;
}

function showServing(served) {
  const facts = JSON.stringify(served);
  if (facts === drawn) return;
  drawn = facts;
  document.querySelector("#served-section").hidden = !served.length;
  serving.replaceChildren(
    ...served.map((it) => {
      const row = make("tr");
      row.append(make("td", "", it.route ?? "–"), make("td", "", it.model ?? "–"), make("td", "number", count(it.open)));
      return row;
    }),
  );
}

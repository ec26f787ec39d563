// One call with its time line.

import { SIGNS, clock, count, make, seconds, whatHappened } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, TOP, DEEP, SIDE] = [800, 26, 34, 4];

const dialog = document.querySelector("#call");

export function openCall(it, closed) {
  document.querySelector("#call-title").textContent = `${SIGNS[it.outcome]} ${it.model ?? "call"}: ${it.outcome}`;
  document.querySelector("#call-reason").textContent = whatHappened(it);
  document.querySelector("#line").replaceChildren(drawLine(it));
  document.querySelector("#facts").replaceChildren(...facts(it).map(fact));
  dialog.addEventListener("close", closed, { once: true });
  dialog.showModal();
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // beside it
});

// --- the time line ---

function drawLine(it) {
  const scale = (time) => SIDE + (time / (it.duration || 1)) * (WIDTH - 2 * SIDE);
  const marks = named(it);
  const drawing = element("svg", { viewBox: `0 0 ${WIDTH} ${TOP + DEEP + 16 * (marks.length + 1)}`, role: "img" });
  drawing.setAttribute("aria-label", marks.map(([name, time]) => `${name} after ${seconds(time)}`).join(", "));
  drawing.append(element("rect", { class: "span", x: SIDE, y: TOP, width: WIDTH - 2 * SIDE, height: DEEP, rx: 3 }));
  for (const offset of it.chunk_offsets) drawing.append(upright("chunk", scale(offset / 1000), TOP + 8, TOP + DEEP));
  marks.forEach(([name, time, kind], row) => {
    const [x, y] = [scale(time), TOP + DEEP + 14 + 16 * row];
    drawing.append(upright(`mark ${kind}`, x, TOP, kind ? TOP + DEEP : y + 2));
    const late = x > WIDTH * 0.7;
    const text = element("text", { x: late ? x - 5 : x + 5, y, "text-anchor": late ? "end" : "start" });
    text.textContent = `${name} ${seconds(time)}`;
    drawing.append(text);
  });
  const head = element("text", { x: SIDE, y: 14 });
  const thinned = it.chunk_offsets.length < it.chunks ? `, ${it.chunk_offsets.length} of them drawn` : "";
  head.textContent = `0 to ${seconds(it.duration)}, ${count(it.chunks)} chunks${thinned}`;
  drawing.append(head);
  return drawing;
}

function named(it) {
  const before = Math.max(0, (it.time_to_first_chunk ?? 0) - (it.attempt_time_to_first_chunk ?? it.time_to_first_chunk ?? 0));
  return [
    ["headers", it.time_to_headers === null ? null : before + it.time_to_headers, ""],
    ["first chunk", it.time_to_first_chunk, ""],
    ["first answer", it.time_to_first_answer === it.time_to_first_chunk ? null : it.time_to_first_answer, ""],
    ["last chunk", it.time_to_last_chunk, ""],
    [it.outcome, it.duration, `end ${it.outcome}`],
  ].filter(([, time]) => time !== null && time !== undefined);
}

function upright(kind, x, from, to) {
  return element("line", { class: kind, x1: x.toFixed(1), x2: x.toFixed(1), y1: from, y2: to });
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// --- the facts ---

function facts(it) {
  return [
    ["ended", clock(it.at)],
    ["stage of the failure", it.stage],
    ["HTTP status", it.status],
    ["close code", it.close_code],
    ["server", `${it.server}:${it.port}`],
    ["protocol", [it.transport, it.protocol && `HTTP/${it.protocol}`, it.tls && `TLS ${it.tls}`].filter(Boolean).join(", ")],
    ["dialect", it.dialect],
    ["answered by", it.response_model],
    ["attempts", it.attempts > 1 ? it.attempts : null],
    ["fallback", it.fallback],
    ["finish reasons", it.finish_reasons.join(", ")],
    ["terminator", it.terminator ? "seen" : "not seen"],
    ["network wait", seconds(it.wait)],
    ["hold", seconds(it.hold)],
    ["gaps: mean", it.gap_mean === null ? null : seconds(it.gap_mean)],
    ["gaps: p95", it.gap_p95 === null ? null : seconds(it.gap_p95)],
    ["gaps: longest", it.gap_max === null ? null : seconds(it.gap_max)],
    ["stalls", it.stalls || null],
    ["buffered", it.buffered ? "yes" : null],
    ["events", count(it.frames)],
    ["malformed events", it.malformed_events || null],
    ["bytes", count(it.bytes)],
    ["input tokens", it.input_tokens === null ? null : count(it.input_tokens)],
    ["output tokens", it.output_tokens === null ? null : count(it.output_tokens)],
    ["tokens per second", it.output_tokens_per_second === null ? null : it.output_tokens_per_second.toFixed(1)],
    ["usage", it.usage],
    ["request id", it.request_id],
    ["response id", it.response_id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function fact([name, value]) {
  const box = make("div");
  box.append(make("dt", "", name), make("dd", "", String(value)));
  return box;
}

// How numbers are written. Nothing here knows the page.

export const NOTHING = "–";

// A duration in seconds: `12 ms`, `3.41 s`, `2 m 05 s`.
export function seconds(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(value);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (minutes < 60) return `${minutes} m ${String(rest).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} m`;
}

export function count(value) {
  return value === null || value === undefined ? NOTHING : value.toLocaleString("en-US");
}

export function share(value) {
  if (value === null || value === undefined) return NOTHING;
  const percent = value * 100;
  return `${percent.toFixed(percent > 0 && percent < 10 ? 1 : 0)} %`;
}

// A time of day, from seconds since 1970.
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

// The sign of an outcome, so that its colour is not alone.
export const SIGNS = { completed: "✓", truncated: "✂", failed: "✕", cancelled: "–", abandoned: "–" };

// Set a text only if it changes: an element that is left alone is not laid out again.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The reason of a failure, or what else is worth a word.
export function whatHappened(it) {
  const words = [
    it.error_type && (it.stage ? `${it.error_type}, in ${it.stage}` : it.error_type),
    it.message,
    it.attempts > 1 && `${it.attempts} attempts`,
    it.buffered && "buffered",
    it.stalls && `${it.stalls} stalled`,
    it.incomplete_tool_calls && "incomplete tool call",
    !it.failed && it.finish_reason === "length" && "cut at its limit of tokens",
  ];
  return words.filter(Boolean).join(" · ");
}

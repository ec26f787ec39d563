// Puts the parts of the page together. While the page is hidden, it asks for nothing.

import { addCalls } from "./calls.js";
import { Events } from "./events.js";
import { showStreams } from "./streams.js";
import { showTotals } from "./totals.js";

const connection = document.querySelector("#connection");
const ask = document.querySelector("#ask");
const field = document.querySelector("#token");

const STATES = { live: "live", lost: "The process does not answer. Asking again.", refused: "a token is needed" };

const events = new Events({
  picture(value) {
    document.querySelector("#process").textContent = `process ${value.pid}, otel-llmstream ${value.version}`;
    showTotals(value);
    showStreams(value);
  },
  calls: addCalls,
  state: showState,
  refused() {
    showState("refused");
    ask.hidden = false;
    field.focus();
  },
});

function showState(state) {
  connection.textContent = STATES[state];
  connection.className = state;
  if (state === "live") ask.hidden = true;
}

// An address can bring the token after `#`: it is not sent to any server, and leaves the address at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given !== null) {
  events.token = given;
  history.replaceState(null, "", location.pathname);
}

ask.addEventListener("submit", (event) => {
  event.preventDefault();
  events.token = field.value.trim();
  field.value = "";
  events.follow();
});

document.addEventListener("visibilitychange", () => (document.hidden ? events.stop() : events.follow()));
if (!document.hidden) events.follow();

// Reads the event stream. `EventSource` cannot send a token, so it is read by hand.

const RETRY = 1000; // milliseconds before the stream is asked for again, if it broke

export class Events {
  // `on` has `picture`, `calls`, `state` (live, lost or hidden) and `refused` (the token is missing or wrong).
  constructor(on) {
    this.on = on;
    this.token = sessionStorage.getItem("token") ?? "";
    this.cursor = "";
    this.current = null;
  }

  // Read on until the page is hidden. A server may end a stream at any time; then it is asked for again.
  async follow() {
    const mine = new AbortController();
    this.stop();
    this.current = mine;
    while (this.current === mine) {
      const ended = await this.read(mine.signal);
      if (this.current !== mine) return;
      if (ended === "refused") {
        this.stop();
        this.on.refused();
        return;
      }
      if (ended === "lost") {
        this.on.state("lost");
        await new Promise((resolve) => setTimeout(resolve, RETRY));
      }
    }
  }

  stop() {
    this.current?.abort();
    this.current = null;
  }

  async read(signal) {
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const url = `events?after=${encodeURIComponent(this.cursor)}`;
      const response = await fetch(url, { headers, signal, cache: "no-store" });
      if (response.status === 401) return "refused";
      if (!response.ok) return "lost";
      sessionStorage.setItem("token", this.token);
      this.on.state("live");
      await this.take(response.body.pipeThrough(new TextDecoderStream()).getReader());
      return "ended";
    } catch {
      return "lost";
    }
  }

  async take(reader) {
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        this.tell(text.slice(0, end));
        text = text.slice(end + 2);
      }
    }
  }

  tell(event) {
    const [name, data] = event.split("\n", 2);
    const value = JSON.parse(data.slice("data: ".length));
    if (name === "event: calls") {
      this.cursor = value.cursor;
      this.on.calls(value);
    } else {
      this.on.picture(value);
    }
  }
}

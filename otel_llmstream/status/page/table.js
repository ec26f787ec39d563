// A table that draws only the rows that are in view, and changes them in place. So its length costs nothing.
// It is one stop of the Tab key; arrow keys move inside it.

const MORE = 6; // rows above and below the view
const STEP = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };

export class Table {
  // `make()` makes an empty row, `fill(row, item)` writes an item into it, `open(item)` is what Enter and a click do.
  constructor(view, { key, make, fill, open }) {
    this.view = view;
    this.body = view.querySelector("tbody");
    this.key = key;
    this.make = make;
    this.fill = fill;
    this.open = open ?? (() => {});
    this.items = [];
    this.rows = [];
    this.chosen = null; // the key of the row that the keyboard is at
    this.above = this.space();
    this.below = this.space();
    this.body.append(this.above, this.below);
    view.addEventListener("scroll", () => this.draw(), { passive: true });
    this.body.addEventListener("keydown", (event) => this.press(event));
    this.body.addEventListener("focusin", (event) => {
      if (event.target.item) this.chosen = this.key(event.target.item);
    });
    this.body.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(view);
  }

  space() {
    const row = document.createElement("tr");
    row.className = "space";
    row.setAttribute("aria-hidden", "true");
    row.append(document.createElement("td"));
    return row;
  }

  show(items) {
    this.items = items;
    this.view.querySelector("table").setAttribute("aria-rowcount", String(items.length + 1));
    this.draw();
  }

  get height() {
    return Number.parseFloat(getComputedStyle(this.view).getPropertyValue("--row")) || 30;
  }

  draw() {
    const height = this.height;
    const first = Math.max(0, Math.min(Math.floor(this.view.scrollTop / height) - MORE, this.items.length - 1));
    const shown = Math.ceil((this.view.clientHeight || 420) / height) + 2 * MORE;
    const items = this.items.slice(first, first + shown);
    this.size(items.length);
    this.above.firstChild.style.height = `${first * height}px`;
    this.below.firstChild.style.height = `${Math.max(0, this.items.length - first - items.length) * height}px`;
    const chosen = items.some((item) => this.key(item) === this.chosen) ? this.chosen : items[0] && this.key(items[0]);
    const focused = this.rows.includes(document.activeElement);
    items.forEach((item, place) => {
      const row = this.rows[place];
      row.item = item;
      row.setAttribute("aria-rowindex", String(first + place + 2));
      row.tabIndex = this.key(item) === chosen ? 0 : -1;
      this.fill(row, item);
      if (focused && row.tabIndex === 0 && document.activeElement !== row) row.focus({ preventScroll: true });
    });
  }

  // Have so many rows.
  size(wanted) {
    while (this.rows.length > wanted) this.rows.pop().remove();
    while (this.rows.length < wanted) {
      const row = this.make();
      this.rows.push(row);
      this.below.before(row);
    }
  }

  click(event) {
    const row = event.target.closest("tr");
    if (!row?.item) return;
    this.chosen = this.key(row.item);
    this.open(row.item);
  }

  press(event) {
    const row = event.target.closest("tr");
    if (!row?.item) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.chosen = this.key(row.item);
      this.open(row.item);
      return;
    }
    const at = this.items.findIndex((item) => this.key(item) === this.key(row.item));
    const to = { Home: 0, End: this.items.length - 1 }[event.key] ?? at + (STEP[event.key] ?? 0);
    if (STEP[event.key] === undefined && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(this.items.length - 1, to)));
  }

  choose(place) {
    this.chosen = this.key(this.items[place]);
    const height = this.height;
    const head = this.view.querySelector("thead").offsetHeight;
    const top = place * height;
    if (top < this.view.scrollTop) this.view.scrollTop = top;
    const room = this.view.clientHeight - head - height;
    if (top > this.view.scrollTop + room) this.view.scrollTop = top - room;
    this.draw();
    this.focus();
  }

  focus() {
    this.rows.find((row) => row.item && this.key(row.item) === this.chosen)?.focus({ preventScroll: true });
  }
}

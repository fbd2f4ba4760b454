"use strict";
/* The page of `dawnchorus report`. Names come from people and files: they reach the page as text
   alone, through textContent, or as what ECharts draws on a canvas. */

const HOUR = 3600;
const DAY_MS = 86_400_000;
const ROWS = 200; // More would make a phone slow; the CSV has all.
const LINES = 8; // More lines than this in one plot cannot be told apart.
const dark = matchMedia("(prefers-color-scheme: dark)");

const number = (value, digits = 0) =>
  value === null || value === undefined
    ? "–"
    : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (value) =>
  value === null || !Number.isFinite(value)
    ? "–"
    : number(100 * value, value > 0 && value < 0.1 ? 2 : 1) + " %";
const hours = (seconds) =>
  seconds > 0 && seconds < HOUR
    ? number(seconds / 60, 1) + " min"
    : number(seconds / HOUR, seconds < 10 * HOUR ? 2 : seconds < 100 * HOUR ? 1 : 0) + " h";
const many = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
const two = (value) => String(value).padStart(2, "0");
const sum = (values) => values.reduce((total, value) => total + value, 0);
const escaped = (text) =>
  String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
const shown = (text, length = 28) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function unpack() {
  const text = document.getElementById("data").textContent;
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    fg: of("--fg"), muted: of("--muted"), line: of("--line"), accent: of("--accent"),
    card: of("--card"), warn: of("--warn"),
    zero: dark.matches ? "#27322e" : "#eceeea",
    ramp: dark.matches
      ? ["#1d4a58", "#257078", "#3a9688", "#74bf8b", "#bfe18d", "#faf8b8"]
      : ["#d3ead0", "#93cdb0", "#4daca0", "#22838c", "#1b5a79", "#1d2f57"],
    lines: dark.matches
      ? ["#6fd0b5", "#f0b35a", "#8fb4ff", "#f08a6c", "#c9a3e8", "#b7d968", "#6cc7e6", "#e6a3bf"]
      : ["#0b6b57", "#b8720a", "#2f5fc0", "#b3432b", "#7a4aa3", "#5d7d0e", "#127a9c", "#a33d68"],
    sun: dark.matches ? "#ffd76a" : "#c98a00",
  };
}

/** What is asked of the data, for one site or all (-1) and one label. */
class View {
  constructor(data, site, label) {
    Object.assign(this, { data, site, label, width: document.querySelector("main section").clientWidth });
    this.sites = site < 0 ? data.sites : [data.sites[site]];
    this.cells = this.sites.map((one) => one.cells).filter((cells) => cells.at.length);
    const days = this.cells.flatMap(({ at }) => [at[0], at[at.length - 1]].map((h) => Math.floor(h / 24)));
    this.first = days.length ? Math.min(...days) : 0;
    this.days = days.length ? Math.max(...days) - this.first + 1 : 0;
    const make = () => new Float64Array(24 * this.days);
    Object.assign(this, { expected: make(), scored: make(), windows: make(), positive: make() });
    for (const cells of this.cells)
      cells.at.forEach((at, i) => {
        const place = at - 24 * this.first;
        this.expected[place] += cells.expected[i];
        this.scored[place] += cells.scored[i];
        this.windows[place] += cells.windows[i];
      });
    const found = data.labels[label]?.positive ?? {};
    for (const [index, pairs] of Object.entries(found))
      if (site < 0 || site === Number(index))
        for (let i = 0; i < pairs.length; i += 2) this.positive[pairs[i] - 24 * this.first] += pairs[i + 1];
  }
  date(day) {
    return new Date(Date.parse(this.data.base) + (this.first + day) * DAY_MS).toISOString().slice(0, 10);
  }
  get dates() {
    return Array.from({ length: this.days }, (_, day) => this.date(day));
  }
  /** Seconds by day of one site's cells: [expected, scored]. */
  byDay(cells) {
    const found = new Map();
    cells.at.forEach((at, i) => {
      const day = Math.floor(at / 24) - this.first;
      const [expected, scored] = found.get(day) ?? [0, 0];
      found.set(day, [expected + cells.expected[i], scored + cells.scored[i]]);
    });
    return found;
  }
  /** Positive and scored windows by hour of the day, of the sites given by number. */
  diel(numbers) {
    const positive = Array(24).fill(0), windows = Array(24).fill(0);
    for (const number of numbers) {
      const { at, windows: counts } = this.data.sites[number].cells;
      at.forEach((hour, i) => (windows[hour % 24] += counts[i]));
      const pairs = this.data.labels[this.label]?.positive[number] ?? [];
      for (let i = 0; i < pairs.length; i += 2) positive[pairs[i] % 24] += pairs[i + 1];
    }
    return { positive, windows };
  }
  /** The rows of a table, whose first column is the site, of what is shown. */
  rows(table) {
    return this.data[table].filter((row) => this.site < 0 || row[0] === this.site);
  }
}

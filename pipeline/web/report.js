/* The page: its figures, the choice of site and label, and what is said of it. */

const FIGURES = [
  ["coverage", "Recorded hours by site and date", "A cell is a day; its colour is the hours that were scored. Days without a cell have no recording.", calendar, "days"],
  ["coverage", "Recorded minutes by date and hour", "All sites shown together. Lines are sunrise and sunset, where the position is known.", effort, "hours"],
  ["coverage", "Gaps", "Days without audio between a site's first and last day.", gaps, "gaps"],
  ["coverage", "Damage by reason", "Recordings of which something was skipped.", damage, "damage"],
  ["coverage", "Flags", "What is odd about recordings that may still be scored.", flags, "flags"],
  ["activity", "By date and hour", "Share of the scored windows at or above the threshold. Grey cells: scored, and nothing found. No cell: nothing was scored. Lines are sunrise and sunset.", when, "activity"],
  ["activity", "By hour of the day", "The same share, over all dates. Grey hours: nothing was scored.", diel, "diel"],
  ["overview", "Activity by label and site", "Share of each site's scored windows, also of those without a time; colours go by its square root, so that rare labels show. No cell: nothing at or above the threshold.", overview, "label_sites"],
  ["overview", "Labels", "Windows at or above the threshold, also those without a time.", labelTable, "labels"],
  ["overview", "Sites", "", siteTable, "sites"],
  ["scores", "Detections by score", "All detections that the dataset keeps, of all sites; those from the dashed line on count.", scores, "scores"],
  ["cost", "Runs", "Status 0: finished. A run does what is not yet done.", runTable, "runs"],
  ["cost", "Where the time went", "Seconds, summed over the workers of all runs.", stages, "stages"],
];

function tableOf({ columns, rows }) {
  const body = element("tbody");
  const numeric = columns.map((_, i) => rows.length > 0 && rows.every((row) => /^[–\d.,]+( %| s)?$/.test(row[i])));
  for (const row of rows.slice(0, ROWS))
    body.append(element("tr", {}, ...row.map((cell, i) => element("td", numeric[i] ? { class: "number" } : {}, cell))));
  const head = columns.map((name, i) => element("th", { scope: "col", ...(numeric[i] ? { class: "number" } : {}) }, name));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), body);
  const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, table);
  const more = rows.length > ROWS ? [element("p", { class: "muted" }, `The first ${ROWS} of ${number(rows.length)} rows; the CSV has all.`)] : [];
  return [scroll, ...more];
}

class Figure {
  constructor([section, title, note, make, csv]) {
    this.make = make;
    this.none = element("p", { class: "muted" });
    this.chart = element("div", { class: "chart", role: "img" });
    this.details = element("details", {}, element("summary", {}, "Table"));
    this.details.addEventListener("toggle", () => this.table());
    this.plain = element("div");
    const link = element("a", { href: `data/${csv}.csv`, download: "" }, `${csv}.csv`);
    const caption = element("figcaption", {}, element("h3", {}, title), ...(note ? [element("p", {}, note)] : []));
    this.box = element("figure", {}, caption, this.none, this.chart, this.plain, element("div", { class: "tools" }, this.details, link));
    document.getElementById(section).append(this.box);
    new ResizeObserver(() => this.plot?.resize()).observe(this.chart);
  }
  draw(view, c) {
    this.found = this.make(view, c);
    const { option, none = "", label = "", height } = this.found;
    this.none.textContent = none;
    this.none.hidden = !none;
    const drawn = Boolean(option) && !none;
    this.chart.hidden = !drawn;
    this.details.hidden = !option || Boolean(none);
    this.plain.replaceChildren(...(option || none ? [] : tableOf(this.found)));
    if (drawn) {
      this.chart.style.height = `${height}px`;
      this.chart.setAttribute("aria-label", `${label} The table below has the data.`);
      this.plot ??= echarts.init(this.chart);
      this.plot.resize();
      this.plot.setOption(option, true);
    }
    this.table();
  }
  table() {
    while (this.details.children.length > 1) this.details.lastChild.remove();
    if (this.details.open) this.details.append(...tableOf(this.found));
  }
}

function tiles(view) {
  const expected = sum(view.sites.map((s) => s.seconds_expected)), scored = sum(view.sites.map((s) => s.seconds_scored));
  const recordings = sum(view.sites.map((s) => s.recordings)), unreadable = sum(view.sites.map((s) => s.unreadable));
  const undated = sum(view.sites.map((s) => s.undated));
  const entries = [
    ["Audio scored", hours(scored), `of ${hours(expected)}`],
    ["Skipped", percent(expected ? 1 - scored / expected : NaN), hours(expected - scored)],
    ["Recordings", number(recordings), unreadable ? `${number(unreadable)} unreadable` : "all readable"],
    ["Sites", number(view.sites.length), `${many(view.days, "day")} from first to last`],
    ...(undated ? [["Without a time", hours(undated), "in no plot by time"]] : []),
  ];
  document.getElementById("tiles").replaceChildren(
    ...entries.map(([name, value, note]) => element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, note)))));
}

async function main() {
  const data = await unpack();
  const site = document.getElementById("site"), label = document.getElementById("label");
  if (data.sites.length !== 1) site.append(element("option", { value: -1 }, `All ${many(data.sites.length, "site")}`));
  data.sites.forEach((one, i) => site.append(element("option", { value: i }, one.name)));
  data.labels.forEach((one, i) => one.positive && label.append(element("option", { value: i }, one.name)));
  document.getElementById("lead").textContent = data.lead;
  document.getElementById("unfinished").textContent = data.unfinished;
  document.getElementById("clock").textContent = data.clock;
  document.getElementById("about").textContent = data.about;
  document.getElementById("activity-note").textContent = data.notes.join(" ");
  const figures = FIGURES.map((one) => new Figure(one));
  const draw = () => {
    const view = new View(data, Number(site.value), Number(label.value || 0)), c = colours();
    tiles(view);
    const name = data.labels[view.label]?.name;
    for (const [id, title] of [["activity-title", "Activity"], ["scores-title", "Scores"]])
      document.getElementById(id).textContent = name ? `${title}: ${name}` : title;
    for (const figure of figures) figure.draw(view, c);
  };
  const told = () => {
    draw();
    document.getElementById("said").textContent = `Shown: ${site.selectedOptions[0]?.text}, ${label.selectedOptions[0]?.text ?? "no label"}`;
  };
  site.addEventListener("change", told);
  label.addEventListener("change", told);
  dark.addEventListener("change", draw);
  draw();
  document.getElementById(location.hash.slice(1))?.scrollIntoView(); // It lay higher before.
  document.body.dataset.ready = "yes";
}

main().catch((error) => {
  const told = document.getElementById("lead");
  told.textContent = `This browser cannot show the page (${error.message}): take a newer one, or the CSV files in the folder data.`;
});

/* What each plot and table of the report shows: functions of a view and the colours. */

const NO_TIME = "No recording shown has a time.";
const NOT_SCORED = "Nothing with a time was scored.";

const axis = (c, more) => ({
  axisLine: { lineStyle: { color: c.line } }, axisTick: { show: false },
  axisLabel: { color: c.muted, fontSize: 13, hideOverlap: true }, nameTextStyle: { color: c.muted, fontSize: 13 },
  splitLine: { lineStyle: { color: c.line } }, ...more,
});
const frame = (c, more) => ({
  backgroundColor: "transparent", animation: false,
  textStyle: { fontFamily: "system-ui, sans-serif", color: c.fg },
  grid: { left: 8, right: 12, top: 42, bottom: 8, containLabel: true },
  tooltip: {
    backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.fg, fontSize: 14 }, confine: true,
  },
  ...more,
});
const hourAxis = (c, more) => {
  const made = axis(c, { type: "category", data: Array.from({ length: 24 }, (_, h) => two(h)), ...more });
  Object.assign(made.axisLabel, { interval: 2 });
  return made;
};
const dateAxis = (view, c) => {
  const made = axis(c, { type: "category", data: view.dates, splitLine: { show: false } });
  Object.assign(made.axisLabel, { alignMinLabel: "left", alignMaxLabel: "right" });
  return made;
};
/** Room at the right of a grid, so that few columns do not grow to blocks. */
const roomLeft = (width, columns, least = 12) => Math.max(least, width - 130 - 36 * columns);
const ramp = (c, max, format, seriesIndex = 0) => ({
  type: "continuous", min: 0, max: max || 1, seriesIndex, orient: "horizontal", right: 8, top: 0,
  itemWidth: 12, itemHeight: 110, inRange: { color: c.ramp }, calculable: false,
  text: [format(max || 1), "0"], textStyle: { color: c.muted, fontSize: 13 },
});

function calendar(view, c) {
  const rows = view.sites.flatMap((site) => {
    const found = view.byDay(site.cells);
    return [...found].sort((a, b) => a[0] - b[0]).map(([day, [e, s]]) => [site.name, view.date(day), e, s]);
  });
  const largest = Math.max(0, ...rows.map((row) => row[3]));
  const tip = ({ data: [, , , site, date, e, s] }) =>
    `${escaped(site)}, ${date}<br>${hours(s)} scored of ${hours(e)}` + (e - s > 0.5 ? `<br>${hours(e - s)} skipped` : "");
  const base = frame(c);
  base.tooltip.formatter = tip;
  let option, height;
  if (view.site >= 0) {
    const years = [...new Set(rows.map((row) => row[1].slice(0, 4)))];
    height = 40 + 165 * years.length;
    option = {
      ...base,
      visualMap: ramp(c, largest / HOUR, (x) => hours(x * HOUR)),
      calendar: years.map((year, i) => ({
        top: 60 + 165 * i, left: 60, right: 8, range: year, cellSize: ["auto", 15],
        itemStyle: { color: "transparent", borderColor: c.line, borderWidth: 0.5 },
        splitLine: { lineStyle: { color: c.muted } },
        dayLabel: { color: c.muted, firstDay: 1, nameMap: ["Su", "Mo", "Tu", "We", "Th", "Fr", "Sa"] },
        monthLabel: { color: c.muted }, yearLabel: { color: c.muted, fontSize: 14, margin: 34 },
      })),
      series: years.map((year, i) => ({
        type: "heatmap", coordinateSystem: "calendar", calendarIndex: i,
        data: rows.filter((row) => row[1].startsWith(year)).map((row) => [row[1], row[3] / HOUR, 0, ...row]),
        encode: { time: 0, value: 1 },
      })),
    };
    option.visualMap.seriesIndex = years.map((_, i) => i);
    option.visualMap.dimension = 1;
  } else {
    const names = view.data.sites.map((site) => site.name);
    const seen = Math.min(names.length, 40);
    height = 110 + 18 * seen;
    const dayOf = (date) => (Date.parse(date) - Date.parse(view.data.base)) / DAY_MS - view.first;
    const place = new Map(names.map((name, i) => [name, i]));
    option = {
      ...base,
      xAxis: dateAxis(view, c),
      yAxis: axis(c, { type: "category", data: names, inverse: true, axisLabel: { color: c.muted, fontSize: 13, formatter: (x) => shown(x, 18) } }),
      visualMap: ramp(c, largest / HOUR, (x) => hours(x * HOUR)),
      dataZoom: names.length > seen
        ? [{ type: "slider", yAxisIndex: 0, startValue: 0, endValue: seen - 1, width: 14, right: 0, showDetail: false },
           { type: "inside", yAxisIndex: 0, zoomOnMouseWheel: false, moveOnMouseWheel: true }] : [],
      series: [{ type: "heatmap", data: rows.map((row) => [dayOf(row[1]), place.get(row[0]), row[3] / HOUR, ...row]) }],
    };
    option.visualMap.dimension = 2;
    option.grid.right = roomLeft(view.width, view.days, names.length > seen ? 30 : 12);
  }
  const lost = sum(rows.map((row) => row[2] - row[3]));
  return {
    option, height, none: rows.length ? "" : NO_TIME, columns: ["site", "date", "hours expected", "hours scored"],
    rows: rows.map(([site, date, e, s]) => [site, date, number(e / HOUR, 2), number(s / HOUR, 2)]),
    label: `Hours scored by site and date: ${many(rows.length, "day")} with audio, ${hours(sum(rows.map((r) => r[3])))} in all, at most ${hours(largest)} on a day, ${hours(lost)} skipped.`,
  };
}

function heat(view, c, values, { unit, format, zero, sun, table }) {
  const cells = [], empty = [];
  let best = -1;
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (Number.isNaN(value)) continue;
    const cell = [Math.floor(at / 24), at % 24, value];
    (value > 0 || !zero ? cells : empty).push(cell);
    if (best < 0 || value > values[best]) best = at;
  }
  const largest = best < 0 ? 0 : values[best];
  const option = frame(c, {
    xAxis: dateAxis(view, c),
    yAxis: [hourAxis(c, { splitLine: { show: false } }), { type: "value", min: 0, max: 24, show: false }],
    visualMap: ramp(c, largest, format),
    series: [
      { type: "heatmap", data: cells, progressive: 0 },
      { type: "heatmap", data: empty, progressive: 0, itemStyle: { color: c.zero } },
      ...sun.map(([name, points]) => ({
        name, type: "line", yAxisIndex: 1, data: points, showSymbol: points.length < 3, symbolSize: 6, connectNulls: true, silent: true,
        lineStyle: { color: c.sun, width: 2 }, itemStyle: { color: c.sun }, z: 5, tooltip: { show: false },
      })),
    ],
  });
  option.grid.right = roomLeft(view.width, view.days);
  option.tooltip.formatter = ({ data: [day, hour] }) => table(24 * day + hour);
  const most = best < 0 ? "nothing" : `at most ${format(largest)} on ${view.date(Math.floor(best / 24))} at ${two(best % 24)} h`;
  return { option, most: `${unit}: ${most}.` };
}

function sunLines(view) {
  const near = Object.entries(view.data.near).every(([name, widest]) => {
    const known = view.sites.map((site) => site[name]).filter((degrees) => degrees !== null);
    return known.length && Math.max(...known) - Math.min(...known) <= widest;
  });
  if (!near) return [];
  return ["sunrise", "sunset"].map((name) => {
    const points = new Map();
    for (const site of view.sites)
      site.sun.day.forEach((day, i) => site.sun[name][i] !== null && points.set(day - view.first, site.sun[name][i]));
    return [name, view.dates.map((_, day) => points.get(day) ?? null)];
  });
}

function effort(view, c) {
  const values = Float64Array.from(view.expected, (e, at) => (e > 0 ? view.scored[at] / 60 : NaN));
  const { option, most } = heat(view, c, values, {
    unit: "Minutes scored by date and hour", format: (x) => number(x, x < 10 ? 1 : 0) + " min", zero: true, sun: sunLines(view),
    table: (at) => `${view.date(Math.floor(at / 24))}, ${two(at % 24)} h<br>${number(view.scored[at] / 60, 1)} min scored of ${number(view.expected[at] / 60, 1)}`,
  });
  const rows = [];
  view.expected.forEach((e, at) => e > 0 && rows.push([view.date(Math.floor(at / 24)), two(at % 24), number(e / 60, 1), number(view.scored[at] / 60, 1)]));
  return { option, none: rows.length ? "" : NO_TIME, label: most, columns: ["date", "hour", "minutes expected", "minutes scored"], rows, height: 330 };
}

function when(view, c) {
  const values = Float64Array.from(view.windows, (n, at) => (n > 0 ? view.positive[at] / n : NaN));
  const name = view.data.labels[view.label]?.name ?? "no label";
  const count = (at) => `${number(view.positive[at])} of ${number(view.windows[at])} windows`;
  const { option, most } = heat(view, c, values, {
    unit: `Activity of ${name} by date and hour`, format: percent, zero: true, sun: sunLines(view),
    table: (at) => `${view.date(Math.floor(at / 24))}, ${two(at % 24)} h<br>${percent(values[at])}: ${count(at)}`,
  });
  const rows = [];
  view.windows.forEach((n, at) => n > 0 && rows.push([view.date(Math.floor(at / 24)), two(at % 24), number(view.positive[at]), number(n), percent(values[at])]));
  return { option, none: rows.length ? "" : NOT_SCORED, label: most, columns: ["date", "hour", "positive", "scored", "activity"], rows, height: 330 };
}

function diel(view, c) {
  const all = view.data.sites.map((_, i) => i);
  const numbers = view.site < 0 ? all : [view.site];
  const lines = [[view.site < 0 ? "all sites" : view.sites[0].name, view.diel(numbers)]];
  if (view.site < 0 && all.length > 1 && all.length <= LINES) for (const i of all) lines.push([view.data.sites[i].name, view.diel([i])]);
  const share = ({ positive, windows }) => windows.map((n, hour) => (n ? positive[hour] / n : null));
  const single = lines.length === 1;
  const unknown = { name: "", type: "bar", yAxisIndex: 1, barGap: "-100%", barCategoryGap: 0, silent: true, z: 0, itemStyle: { color: c.zero }, tooltip: { show: false } };
  const option = frame(c, {
    color: single ? [c.accent] : [c.fg, ...c.lines],
    legend: single ? undefined : { type: "scroll", data: lines.map(([name]) => name), top: 0, textStyle: { color: c.muted, fontSize: 13 }, formatter: (x) => shown(x) },
    xAxis: hourAxis(c),
    yAxis: [
      axis(c, { type: "value", min: 0, axisLabel: { color: c.muted, fontSize: 13, formatter: (x) => (100 * x).toLocaleString("en") + " %" } }),
      { type: "value", min: 0, max: 1, show: false },
    ],
    series: [
      ...lines.map(([name, found], i) => ({
        name, type: single ? "bar" : "line", data: share(found), showAllSymbol: true, symbolSize: 5,
        lineStyle: { width: i ? 1.5 : 3 }, z: i ? 3 : 2, ...(single && { itemStyle: { borderColor: c.card, borderWidth: 2 } }),
      })),
      { ...unknown, data: lines[0][1].windows.map((n) => (n ? null : 1)) },
    ],
  });
  option.tooltip.trigger = "axis";
  option.tooltip.formatter = (points) =>
    `${points[0].axisValue} h<br>` + points.filter((p) => p.value != null && p.seriesIndex < lines.length).map((p) => {
      const found = lines[p.seriesIndex][1], hour = p.dataIndex;
      return `${escaped(shown(p.seriesName))}: ${percent(p.value)} (${number(found.positive[hour])} of ${number(found.windows[hour])})`;
    }).join("<br>");
  const [, pooled] = lines[0], values = share(pooled);
  const best = values.reduce((top, value, hour) => (value !== null && (top < 0 || value > values[top]) ? hour : top), -1);
  const rows = lines.flatMap(([name, { positive, windows }]) =>
    windows.map((n, hour) => [name, two(hour), number(positive[hour]), number(n), n ? percent(positive[hour] / n) : "–"]).filter((row) => row[3] !== "0"));
  const label = `Activity by hour of the day: highest ${percent(values[best] ?? NaN)} at ${two(Math.max(0, best))} h.`;
  return { option, none: best < 0 ? NOT_SCORED : "", label, rows, columns: ["site", "hour", "positive", "scored", "activity"], height: 330 };
}

function overview(view, c) {
  const { sites, labels, label_sites: pairs } = view.data;
  const numbers = view.site < 0 ? sites.map((_, i) => i) : [view.site];
  const heard = labels.map((_, i) => i).filter((i) => labels[i].windows_positive > 0);
  const column = new Map(numbers.map((n, i) => [n, i])), line = new Map(heard.map((n, i) => [n, i]));
  const rows = pairs.filter(([label, site]) => column.has(site) && line.has(label));
  const largest = Math.max(0, ...rows.map((row) => row[2] / row[3]));
  const seen = Math.min(heard.length, 40);
  const option = frame(c, {
    xAxis: axis(c, { type: "category", data: numbers.map((n) => sites[n].name), splitLine: { show: false }, axisLabel: { color: c.muted, fontSize: 13, rotate: numbers.length > 6 ? 60 : 0, formatter: (x) => shown(x, 14) } }),
    yAxis: axis(c, { type: "category", data: heard.map((n) => labels[n].name), inverse: true, splitLine: { show: false }, axisLabel: { color: c.muted, fontSize: 13, formatter: (x) => shown(x, 22) } }),
    visualMap: { ...ramp(c, Math.sqrt(largest), (root) => percent(root ** 2)), dimension: 2 },
    dataZoom: heard.length > seen ? [{ type: "slider", yAxisIndex: 0, startValue: 0, endValue: seen - 1, width: 14, right: 0, showDetail: false }] : [],
    series: [{ type: "heatmap", data: rows.map(([label, site, positive, windows]) => [column.get(site), line.get(label), Math.sqrt(positive / windows), label, site, positive, windows]) }],
  });
  option.grid.right = roomLeft(view.width, 2 * numbers.length, heard.length > seen ? 30 : 12);
  option.tooltip.formatter = ({ data: [, , , label, site, positive, windows] }) =>
    `${escaped(labels[label].name)}, ${escaped(sites[site].name)}<br>${percent(positive / windows)}: ${number(positive)} of ${number(windows)} windows`;
  const top = rows.reduce((best, row) => (!best || row[2] / row[3] > best[2] / best[3] ? row : best), null);
  return {
    option, height: 120 + 20 * seen, columns: ["label", "site", "positive", "scored", "activity"],
    rows: rows.map(([label, site, positive, windows]) => [labels[label].name, sites[site].name, number(positive), number(windows), percent(positive / windows)]),
    label: top ? `Activity by label and site: highest ${percent(top[2] / top[3])}, ${labels[top[0]].name} at ${sites[top[1]].name}.` : "No label was heard.",
  };
}

function scores(view, c) {
  const label = view.data.labels[view.label];
  const counts = label?.scores ?? [];
  const step = 1 / (counts.length || 1);
  const option = frame(c, {
    xAxis: axis(c, { type: "value", min: 0, max: 1, name: "score", nameLocation: "middle", nameGap: 26, splitLine: { show: false } }),
    yAxis: axis(c, { type: "value", name: "detections", nameTextStyle: { color: c.muted, fontSize: 13, align: "left" } }),
    grid: { left: 8, right: 16, top: 30, bottom: 26, containLabel: true },
    series: [{
      type: "custom", itemStyle: { color: c.accent }, encode: { x: [0, 1], y: 2 },
      renderItem: (_, api) => {
        const [x, y] = api.coord([api.value(0), api.value(2)]), [right, bottom] = api.coord([api.value(1), 0]);
        return { type: "rect", shape: { x: x + 1, y, width: Math.max(1, right - x - 2), height: bottom - y }, style: { fill: c.accent } };
      },
      data: counts.map((n, i) => [i * step, (i + 1) * step, n]),
      markLine: {
        symbol: "none", silent: true, lineStyle: { color: c.warn, width: 2, type: "dashed" },
        label: { formatter: "threshold", color: c.fg, fontSize: 13 }, data: label?.threshold > 0 ? [{ xAxis: label.threshold }] : [],
      },
    }],
  });
  option.tooltip.formatter = ({ data: [from, to, n] }) => `${from.toFixed(2)} to ${to.toFixed(2)}: ${number(n)} detections`;
  return {
    option, height: 300, columns: ["from", "to", "detections"],
    rows: counts.map((n, i) => [(i * step).toFixed(2), ((i + 1) * step).toFixed(2), number(n)]),
    label: label ? `Detections of ${label.name} by score, all sites: ${number(sum(counts))}, threshold ${number(label.threshold, 2)}.` : "No label.",
  };
}

function bars(c, names, values, format, colour, minInterval = 0) {
  const option = frame(c, {
    xAxis: axis(c, { type: "value", minInterval, axisLabel: { color: c.muted, fontSize: 13, formatter: format, hideOverlap: true } }),
    yAxis: axis(c, { type: "category", data: names, inverse: true, axisLabel: { color: c.muted, fontSize: 13, formatter: (x) => shown(x, 22) } }),
    grid: { left: 8, right: 70, top: 8, bottom: 8, containLabel: true },
    series: [{ type: "bar", data: values, barMaxWidth: 20, itemStyle: { color: colour }, label: { show: true, position: "right", color: c.fg, fontSize: 13, formatter: ({ value }) => format(value) } }],
  });
  option.tooltip.formatter = ({ name, value }) => `${escaped(name)}: ${format(value)}`;
  return { option, height: 60 + 28 * names.length };
}

function damage(view, c) {
  const rows = view.rows("damage"), reasons = new Map();
  for (const [, reason, curable, recordings, windows, seconds] of rows) {
    const known = reasons.get(reason) ?? [curable, 0, 0, 0];
    reasons.set(reason, [curable, known[1] + recordings, known[2] + windows, known[3] + seconds]);
  }
  const ordered = [...reasons].sort((a, b) => b[1][1] - a[1][1]);
  return {
    ...bars(c, ordered.map(([reason]) => reason), ordered.map(([, row]) => row[1]), (n) => number(n), c.warn, 1),
    none: ordered.length ? "" : "Nothing was skipped.",
    columns: ["reason", "tried again", "recordings", "windows lost", "hours lost"],
    rows: ordered.map(([reason, [curable, recordings, windows, seconds]]) => [reason, curable ? "yes" : "no", number(recordings), number(windows), number(seconds / HOUR, 2)]),
    label: `Recordings by reason of damage: ${ordered.map(([reason, row]) => `${reason} ${number(row[1])}`).join(", ")}.`,
  };
}

function flags(view, c) {
  const found = new Map();
  for (const [, flag, recordings] of view.rows("flags")) found.set(flag, (found.get(flag) ?? 0) + recordings);
  const ordered = [...found].sort((a, b) => b[1] - a[1]);
  return {
    ...bars(c, ordered.map(([flag]) => flag), ordered.map(([, n]) => n), (n) => number(n), c.accent, 1),
    none: ordered.length ? "" : "No recording has a flag.",
    columns: ["flag", "recordings"], rows: ordered.map(([flag, n]) => [flag, number(n)]),
    label: `Recordings by flag: ${ordered.map(([flag, n]) => `${flag} ${number(n)}`).join(", ")}.`,
  };
}

function stages(view, c) {
  const found = new Map();
  for (const [, stage, seconds] of view.data.stages) found.set(stage, (found.get(stage) ?? 0) + seconds);
  const ordered = [...found].sort((a, b) => b[1] - a[1]);
  return {
    ...bars(c, ordered.map(([stage]) => stage), ordered.map(([, s]) => s), (s) => number(s, s < 1 ? 2 : s < 100 ? 1 : 0) + " s", c.accent),
    none: ordered.length ? "" : "The runs have noted no stages.",
    columns: ["stage", "worker seconds"], rows: ordered.map(([stage, s]) => [stage, number(s, 1)]),
    label: `Seconds of the workers by stage: ${ordered.map(([stage, s]) => `${stage} ${number(s, 1)}`).join(", ")}.`,
  };
}

const gaps = (view) => ({
  columns: ["site", "first day", "last day", "days"],
  rows: view.rows("gaps").map(([site, first, last, days]) => [view.data.sites[site].name, first, last, number(days)]),
  none: view.rows("gaps").length ? "" : view.days ? "Every day between a site's first and last has audio." : NO_TIME,
});
const siteTable = (view) => ({
  columns: ["site", "position", "time zone", "recordings", "unreadable", "first", "last", "days", "hours scored", "skipped"],
  rows: view.sites.map((s) => [
    s.name, s.latitude === null ? "–" : `${s.latitude.toFixed(4)}, ${s.longitude.toFixed(4)}`, s.time_zone ?? "–", number(s.recordings), number(s.unreadable),
    s.first ?? "–", s.last ?? "–", number(s.days), number(s.seconds_scored / HOUR, 1), percent(s.seconds_expected ? s.seconds_skipped / s.seconds_expected : NaN),
  ]),
});
function labelTable(view) {
  const { labels, label_sites: pairs } = view.data;
  if (view.site < 0)
    return {
      columns: ["label", "threshold", "positive windows", "activity", "sites", "first hour", "last hour"],
      rows: labels.map((l) => [l.name, number(l.threshold, 3), number(l.windows_positive), percent(l.activity), number(l.sites), l.first_hour ?? "–", l.last_hour ?? "–"]),
    };
  const own = new Map(pairs.filter(([, site]) => site === view.site).map(([label, , positive, windows]) => [label, [positive, positive / windows]]));
  const scored = view.sites[0].seconds_scored > 0;
  const rows = labels.map((l, i) => [l, ...(own.get(i) ?? [0, scored ? 0 : NaN])]).sort((a, b) => b[1] - a[1]);
  return {
    columns: ["label", "threshold", "positive windows", "activity"],
    rows: rows.map(([l, positive, share]) => [l.name, number(l.threshold, 3), number(positive), percent(share)]),
  };
}
const runTable = (view) => ({
  none: view.data.runs.length ? "" : "No run has left a record.",
  columns: ["started (UTC)", "version", "status", "shards", "hours of audio", "scoring", "whole run", "times real time"],
  rows: view.data.runs.map(([started, version, status, shards, audio, scoring, seconds]) => [
    started, version ?? "–", status === null ? "not ended" : number(status), number(shards), audio === null ? "–" : number(audio / HOUR, 1),
    scoring === null ? "–" : number(scoring, 1) + " s", seconds === null ? "–" : number(seconds, 1) + " s", audio && scoring ? number(audio / scoring) : "–",
  ]),
});

// The page of a review. All text from tables and people goes in as textContent, never as markup.

import { fetchAhead, louder, openPlayer, showClip, slower, togglePlay } from "./review_clip.js";
import { askJson, at, clockTime, recall, remember, say } from "./review_page.js";

const noMark = { verdict: null, other_label: "", comment: "" };

let sample; // what the server tells: rows, labels, axes, slowness, id
let marks = new Map(); // row -> this reviewer's own mark
let reviewer = "";
let row = 0;
let auto = false;
let busy = false; // a mark is on its way

// --- What is shown

const own = (number) => marks.get(number) ?? noMark;

function inFilter(number) {
  const label = at("label").value, show = at("show").value, { verdict } = own(number);
  if (label && sample.rows[number].label !== label) return false;
  return show === "all" || (show === "unsure" ? verdict === "unsure" : verdict === null);
}

/** The next row, onward or back and all around to this one, for which `wanted` holds, or null. */
function find(step, wanted) {
  const total = sample.rows.length;
  for (let far = 1; far <= total; far++) {
    const number = (row + step * far + total * far) % total;
    if (wanted(number)) return number;
  }
  return null;
}

function nextToJudge() {
  if (at("show").value === "unsure") return find(1, inFilter);
  return find(1, (number) => inFilter(number) && own(number).verdict === null);
}

function refresh() {
  const total = sample.rows.length, judged = [...marks.values()].filter((m) => m.verdict).length;
  at("bar").max = total;
  at("bar").value = judged;
  at("count").textContent = `${judged} of ${total} judged`;
  at("place").textContent = `${row + 1} of ${total}`;
  at("name").textContent = reviewer;
  document.title = `${judged}/${total} · Review ${sample.folder}`;
  const mark = own(row);
  for (const verdict of ["right", "wrong", "unsure"]) {
    at(verdict).ariaPressed = String(mark.verdict === verdict && !mark.other_label);
  }
  at("other").ariaPressed = String(mark.other_label !== "");
  at("other").querySelector("span").textContent = mark.other_label || "Other label";
  at("own-comment").hidden = !mark.comment;
  at("own-comment").textContent = mark.comment;
}

function showDetails() {
  const told = sample.rows[row];
  at("asked").textContent = told.label;
  const parts = [told.recording, `${clockTime(told.start, 1)} to ${clockTime(told.end, 1)}`];
  if (told.start_clock) parts.push(told.start_clock.replace(/\.0+$/, ""));
  if (told.channel !== null) parts.push(`channel ${told.channel}`);
  if (told.site && !told.recording.includes(told.site)) parts.unshift(told.site);
  at("where").textContent = parts.join("  ·  ");
}

async function show(number) {
  row = number;
  closeForms();
  showDetails();
  refresh();
  await showClip(number, auto);
  if (row !== number) return;
  const next = nextToJudge();
  if (next !== null && next !== row) fetchAhead(next);
}

function setAuto(value) {
  auto = value;
  at("auto").ariaPressed = String(auto);
  remember("auto", auto);
}

// --- Marks

function alarm(sentence) {
  at("alarm").textContent = sentence;
  at("alarm").hidden = !sentence;
}

/** Does one thing with the server at a time; what fails is said, and nothing is changed. */
async function once(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
    alarm("");
  } catch (error) {
    alarm(error.message);
  } finally {
    busy = false;
  }
}

const post = (path, body) => askJson(path, { sample: sample.id, reviewer, ...body });

async function keep(mark) {
  const into = marks; // Another reviewer may take over meanwhile.
  const told = await post("/mark", { row, ...mark });
  into.set(told.row, told.mark);
}

const judge = (verdict, otherLabel = "") => once(async () => {
  const judged = row;
  await keep({ verdict, other_label: otherLabel, comment: own(row).comment });
  say(`${judged + 1}: ${otherLabel ? `wrong, it is ${otherLabel}` : verdict}`);
  if (row === judged) goToJudge();
  else refresh(); // Somebody went on before the answer came.
});

function goToJudge() {
  const next = nextToJudge();
  if (next !== null) {
    show(next);
    return;
  }
  closeForms();
  refresh();
  if (own(row).verdict !== null) say(`${at("said").textContent} · None is left to judge here.`);
}

const undo = () => once(async () => {
  const told = await post("/undo", {});
  if (told.row === null) {
    say("There is nothing to take back.");
    return;
  }
  if (told.mark) marks.set(told.row, told.mark);
  else marks.delete(told.row);
  say(`${told.row + 1}: taken back`);
  show(told.row);
});

function go(by) {
  const next = find(by, inFilter);
  if (next === null || next === row) say("There is no other one here.");
  else show(next);
}

// --- Forms and dialogs

function closeForms() {
  for (const form of document.querySelectorAll("main form")) {
    // Else the browser takes the focus away later, perhaps when the form is open again.
    if (form.contains(document.activeElement)) document.activeElement.blur();
    form.hidden = true;
  }
}

function openForm(id, input, value) {
  closeForms();
  at(id).hidden = false;
  at(input).value = value;
  at(input).focus();
}

at("other-form").onsubmit = (event) => {
  event.preventDefault();
  const label = at("other-label").value.trim();
  if (label) judge("wrong", label);
};

at("comment-form").onsubmit = (event) => {
  event.preventDefault();
  once(async () => {
    const about = row;
    await keep({ ...own(row), comment: at("comment-text").value.trim() });
    say(`${about + 1}: comment kept`);
    if (row === about) closeForms();
    refresh();
  });
};

at("reviewer-form").onsubmit = async (event) => {
  event.preventDefault();
  try {
    await becomeReviewer(at("reviewer-name").value.trim());
    at("reviewer-dialog").close();
    showFirst();
  } catch (error) {
    at("reviewer-wrong").textContent = error.message;
  }
};

async function becomeReviewer(name) {
  const told = await askJson(`/marks?reviewer=${encodeURIComponent(name)}`);
  marks = new Map(Object.entries(told).map(([number, mark]) => [Number(number), mark]));
  reviewer = name;
  remember("reviewer", name, sessionStorage);
}

function openReviewer() {
  at("reviewer-wrong").textContent = "";
  at("reviewer-name").value = reviewer;
  at("reviewer-dialog").showModal();
  at("reviewer-name").select();
}

const openAgreement = () => once(async () => {
  const told = await askJson("/progress");
  fillTable("progress-table", ["", "judged", "right", "wrong", "unsure"], told.reviewers.map(
    (one) => [one.name, `${one.judged} of ${told.total}`, one.right, one.wrong, one.unsure]));
  fillTable("pairs-table", ["", "both judged", "equal", "kappa"], told.pairs.map((pair) => [
    `${pair.first} and ${pair.second}`,
    pair.shared,
    `${Math.round(100 * pair.equal)} %`,
    pair.kappa === null ? "-" : pair.kappa.toFixed(2),
  ]));
  at("pairs-table").hidden = !told.pairs.length;
  at("pairs-none").textContent = told.pairs.length
    ? "Kappa (Cohen 1960) is agreement beyond chance: 1 is perfect, 0 is chance."
    : "No two reviewers have judged the same detections yet.";
  at("agreement-dialog").showModal();
});

function fillTable(id, head, lines) {
  const rowOf = (cells, tag) => {
    const line = document.createElement("tr");
    cells.forEach((text, place) => {
      const cell = document.createElement(place ? tag : "th");
      cell.textContent = text;
      if (place) cell.className = "number";
      line.append(cell);
    });
    return line;
  };
  at(id).replaceChildren(rowOf(head, "th"), ...lines.map((cells) => rowOf(cells, "td")));
}

for (const button of document.querySelectorAll(".cancel")) button.onclick = closeForms;
for (const button of document.querySelectorAll("dialog .close")) {
  button.onclick = () => button.closest("dialog").close();
}

// --- Buttons and keys

const actions = {
  previous: () => go(-1),
  next: () => go(1),
  unjudged: goToJudge,
  play: togglePlay,
  auto: () => setAuto(!auto),
  right: () => judge("right"),
  wrong: () => judge("wrong"),
  unsure: () => judge("unsure"),
  other: () => openForm("other-form", "other-label", own(row).other_label),
  comment: () => openForm("comment-form", "comment-text", own(row).comment),
  undo,
  reviewer: openReviewer,
  agreement: openAgreement,
  help: () => at("help-dialog").showModal(),
  slower: () => slower(1),
  faster: () => slower(-1),
  louder: () => louder(1),
  softer: () => louder(-1),
};
const keys = {
  " ": "play", a: "auto", r: "right", w: "wrong", u: "unsure", o: "other", c: "comment", z: "undo",
  j: "next", k: "previous", arrowright: "next", arrowleft: "previous", n: "unjudged", "?": "help",
  "+": "louder", "=": "louder", "-": "softer",
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") closeForms();
  if (event.target.closest("input, select")) return;
  // A button that was reached by keys is pressed by them.
  if (event.key === " " && event.target.closest("button")) return;
  const key = event.key.toLowerCase();
  const name = key === "s" ? (event.shiftKey ? "faster" : "slower") : keys[key];
  if (!name || (event.repeat && !["next", "previous"].includes(name))) return;
  event.preventDefault();
  actions[name]();
});

for (const [name, action] of Object.entries(actions)) at(name)?.addEventListener("click", action);
// What was clicked must not take the next space for itself.
document.addEventListener("click", (event) => {
  if (event.detail > 0) event.target.closest("button")?.blur();
});

function showFirst() {
  row = sample.rows.length - 1; // So that the first of all is the next one.
  return show(nextToJudge() ?? 0);
}

async function start() {
  sample = await askJson("/sample");
  at("folder").textContent = sample.folder;
  const everything = new Option("all", "");
  at("label").replaceChildren(everything, ...sample.labels.map((label) => new Option(label, label)));
  at("labels").replaceChildren(...sample.labels.map((label) => new Option(label, label)));
  at("label").onchange = at("show").onchange = (event) => {
    event.target.blur();
    if (inFilter(row)) refresh();
    else go(1);
  };
  openPlayer(sample);
  setAuto(recall("auto", (value) => value === true, false));
  const isText = (name) => typeof name === "string";
  const name = recall("reviewer", isText, sample.reviewer, sessionStorage);
  await becomeReviewer(name).catch(() => becomeReviewer(sample.reviewer));
  await showFirst();
}

start().catch((error) => alarm(error.message));

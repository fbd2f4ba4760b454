// The clip of a row: its picture, and its sound, slowed and raised as is wanted.

import { ask, at, clockTime, recall, remember, say } from "./review_page.js";

const GAINS = [0, 6, 12, 20, 30];
const KEPT_CLIPS = 6;

const audio = at("audio");

let sample; // what the server tells of it
let row = 0;
let slow = 1;
let gain = 0;
let startAt = 0; // share of the clip at which playing begins
let wanted = false; // whether it is to play, once it is there
let loads = 0;
let loaded = null; // the clip that is shown
let graph = null; // Web Audio's nodes, once something was played

/** Shows the clip of a row, and plays it at once or not. */
export async function showClip(number, atOnce) {
  audio.pause();
  row = number;
  startAt = 0;
  wanted = atOnce;
  // Nobody must see the last clip under the next one's label.
  for (const id of ["picture", "trouble", "cursor"]) at(id).hidden = true;
  for (const id of ["kilohertz", "seconds"]) at(id).replaceChildren();
  await load(0);
}

/** Fetches a row's clip, which will be wanted next. */
export const fetchAhead = (number) => clipOf(number, slow);

// --- Clips: a few of them are kept

const clips = new Map();

function clipOf(number, slowness) {
  const key = `${number}/${slowness}`;
  const clip = clips.get(key) ?? fetchClip(number, slowness);
  clips.delete(key);
  clips.set(key, clip);
  for (const [old, promise] of clips) {
    if (clips.size <= KEPT_CLIPS) break;
    clips.delete(old);
    promise.then(({ picture, sound }) => [picture, sound].forEach((url) => URL.revokeObjectURL(url)));
  }
  return clip;
}

async function fetchClip(number, slowness) {
  const clip = { picture: "", sound: "", rate: 0, trouble: "" };
  const picture = ask(`/clips/${number}.png`)
    .then(async (response) => { clip.picture = URL.createObjectURL(await response.blob()); })
    .catch(() => {});
  try {
    const response = await ask(`/clips/${number}.wav?slow=${slowness}`);
    clip.rate = Number(response.headers.get("Clip-Rate"));
    clip.sound = URL.createObjectURL(await response.blob());
  } catch (error) {
    clip.trouble = error.message;
    clips.delete(`${number}/${slowness}`); // It may be there when it is asked for again.
  }
  await picture;
  return clip;
}

// --- Picture

/** Fetches what is wanted and shows it, unless other is wanted meanwhile; plays from a share on. */
async function load(from) {
  const turn = ++loads;
  loaded = null;
  const clip = await clipOf(row, slow);
  if (turn !== loads) return;
  audio.removeAttribute("src");
  audio.load();
  if (clip.sound) {
    const ready = new Promise((done) => {
      audio.onloadedmetadata = () => done(true);
      audio.onerror = () => done(false);
    });
    audio.src = clip.sound;
    if (!(await ready)) clip.trouble = "This browser cannot play the clip.";
    if (turn !== loads) return;
  }
  loaded = clip;
  at("picture").hidden = !clip.picture;
  at("picture").src = clip.picture;
  at("picture").alt = clip.picture ? `Spectrogram of ${sample.rows[row].label}` : "";
  at("trouble").hidden = !clip.trouble && Boolean(clip.picture);
  at("trouble").textContent = clip.trouble || "There is no picture of this clip.";
  at("play").disabled = Boolean(clip.trouble);
  placePicture();
  if (wanted) play(from);
  else stop();
}

/** Cuts the picture to its axes, whose ticks are written here: they stay readable at any size. */
function placePicture() {
  const began = sample.rows[row].clip_start, fits = !loaded.trouble && began !== null;
  const [left, bottom, width, height] = fits ? sample.axes : [0, 0, 1, 1];
  const style = at("picture").style;
  style.width = `${100 / width}%`;
  style.height = `${100 / height}%`;
  style.left = `${(-100 * left) / width}%`;
  style.top = `${(-100 * (1 - bottom - height)) / height}%`;
  style.objectFit = fits ? "fill" : "contain";
  at("plot").classList.toggle("seekable", fits);
  at("kilohertz").replaceChildren();
  at("seconds").replaceChildren();
  if (!fits) return;
  const top = loaded.rate / 2000, length = audio.duration / slow;
  for (const value of ticks(0, top, 5)) {
    addTick("kilohertz", "bottom", value / top, value ? `${value}` : "kHz");
  }
  for (const value of ticks(began, began + length, at("plot").clientWidth / 80)) {
    const share = (value - began) / length;
    if (share > 0.03 && share < 0.97) {
      const digits = `${value}`.split(".")[1]?.length ?? 0;
      addTick("seconds", "left", share, clockTime(value, digits));
    }
  }
}

function ticks(low, high, most) {
  const raw = (high - low) / Math.max(2, most), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= raw);
  const found = [];
  for (let place = Math.ceil(low / step); place * step < high; place++) {
    found.push(Number((place * step).toFixed(6)));
  }
  return found;
}

function addTick(axis, side, share, text) {
  const tick = document.createElement("span");
  tick.style[side] = `${100 * share}%`;
  tick.textContent = text;
  at(axis).append(tick);
}

// --- Sound

function setGain(decibels) {
  gain = decibels;
  press("gain", gain);
  remember("gain", gain);
  if (!graph) return;
  graph.gain.gain.value = 10 ** (gain / 20);
  graph.gain.disconnect();
  // What is raised is limited; what is not stays as it is.
  graph.gain.connect(gain ? graph.limiter : graph.context.destination);
}

function openGraph() {
  const context = new AudioContext();
  graph = { context, gain: context.createGain(), limiter: context.createDynamicsCompressor() };
  const { threshold, knee, ratio, attack, release } = graph.limiter;
  [threshold.value, knee.value, ratio.value, attack.value, release.value] = [-6, 0, 20, 0.002, 0.1];
  context.createMediaElementSource(audio).connect(graph.gain);
  graph.limiter.connect(context.destination);
  setGain(gain);
}

async function play(from) {
  wanted = true;
  if (!loaded) return; // It plays once it is there.
  if (loaded.trouble) {
    stop();
    return;
  }
  if (!graph) openGraph();
  graph.context.resume();
  audio.currentTime = from * audio.duration;
  try {
    await audio.play();
  } catch (error) {
    if (error.name !== "NotAllowedError") return; // Another clip came meanwhile.
    stop();
    say("Press space to play: the browser waits for a key.");
  }
}

function stop() {
  wanted = false;
  audio.pause();
  if (loaded?.sound && !loaded.trouble) audio.currentTime = startAt * audio.duration;
  moveCursor();
}

export function togglePlay() {
  if (wanted) stop();
  else play(startAt);
}

function moveCursor() {
  const fits = loaded && at("plot").classList.contains("seekable");
  at("cursor").hidden = !fits;
  at("playing").textContent = wanted ? "■ Stop" : "▶ Play";
  at("time").value = "";
  if (fits) {
    at("cursor").style.left = `${(100 * audio.currentTime) / audio.duration}%`;
    at("time").value = clockTime(sample.rows[row].clip_start + audio.currentTime / slow, 2);
  }
  if (!audio.paused) requestAnimationFrame(moveCursor);
}

at("picture").onerror = () => {
  if (!loaded?.picture) return;
  at("picture").hidden = true;
  if (!at("trouble").hidden) return;
  at("trouble").hidden = false;
  at("trouble").textContent = "The picture of this clip cannot be shown.";
};
audio.onplay = moveCursor;
audio.onpause = moveCursor;
audio.onended = stop;

function setSlow(times) {
  const isOn = wanted && loaded && !audio.paused;
  const from = isOn ? audio.currentTime / audio.duration : startAt;
  audio.pause();
  slow = times;
  press("slowness", slow);
  remember("slow", slow);
  load(from);
}

function stepped(values, current, by) {
  const place = values.indexOf(current) + by;
  return values[Math.min(Math.max(place, 0), values.length - 1)];
}

at("plot").onclick = (event) => {
  if (!loaded || !at("plot").classList.contains("seekable")) return;
  const box = at("plot").getBoundingClientRect();
  startAt = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.999);
  play(startAt);
};

export const slower = (by) => setSlow(stepped(sample.slowness, slow, by));

export const louder = (by) => setGain(stepped(GAINS, gain, by));

function press(group, value) {
  for (const button of at(group).querySelectorAll("button")) {
    button.ariaPressed = String(Number(button.value) === value);
  }
}

function addSteps(group, values, text, choose) {
  for (const value of values) {
    const button = document.createElement("button");
    button.type = "button";
    button.value = value;
    button.textContent = text(value);
    button.onclick = () => choose(value);
    at(group).append(button);
  }
}

/** Makes the controls, for a sample as the server tells it. */
export function openPlayer(told) {
  sample = told;
  addSteps("slowness", sample.slowness, (times) => `${times}×`, setSlow);
  addSteps("gain", GAINS, String, setGain);
  slow = recall("slow", (times) => sample.slowness.includes(times), 1);
  press("slowness", slow);
  setGain(recall("gain", (decibels) => GAINS.includes(decibels), 0));
  addEventListener("resize", () => { if (loaded) placePicture(); });
}

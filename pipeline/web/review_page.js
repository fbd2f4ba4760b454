// What the parts of the review's page share: elements, the server, and what the browser remembers.

const UNREACHED = "The server does not answer: start dawnchorus review again, then repeat this.";

export const at = (id) => document.getElementById(id);

/** The server's answer; throws an Error with a sentence for anything but success. */
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(UNREACHED);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `The server answers ${response.status}.`);
}

export const askJson = async (path, body) => (await ask(path, body)).json();

export function say(sentence) {
  at("said").textContent = sentence;
}

/** Seconds as m:ss or h:mm:ss, with some digits of a second. */
export function clockTime(seconds, digits) {
  const units = 10 ** digits, whole = Math.round(seconds * units) / units;
  const hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function remember(name, value, storage = localStorage) {
  try {
    storage.setItem(`review-${name}`, JSON.stringify(value));
  } catch { /* A browser that keeps nothing works as well. */ }
}

/** What was remembered, if `valid` holds for it, else `otherwise`. */
export function recall(name, valid, otherwise, storage = localStorage) {
  try {
    const value = JSON.parse(storage.getItem(`review-${name}`));
    return valid(value) ? value : otherwise;
  } catch {
    return otherwise;
  }
}

/** The console's server. Every call raises Problem with one clear sentence. */

export class Problem extends Error {
  constructor(message, status = 0, lost = null) {
    super(message);
    this.status = status;
    this.lost = lost; // files that have to be sent again
  }
}

// Seeds have 64 bits: one that a number would round stays whole.
const exact = (_, value, context) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
    ? BigInt(context.source)
    : value;

export const parse = (text) => JSON.parse(text, exact);

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The console does not answer.");
  }
  return result(await answer.text(), answer.status);
}

function result(text, status) {
  if (status >= 200 && status < 300) return parse(text);
  let said = {};
  try {
    said = JSON.parse(text);
  } catch {
    // A page in words, or none: the status has to do.
  }
  throw new Problem(said.error || `The console answered ${status}.`, status, said.lost);
}

export const get = (path, options) => call(path, options);

/** JSON with whole numbers of any size. */
export function json(value) {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(json).join(",")}]`;
  if (value && typeof value === "object") {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${json(field)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export const post = (path, body, options) =>
  call(path, {
    method: "POST",
    headers: { accept: "application/json", "content-type": "application/json" },
    body: json(body),
    ...options,
  });

/** Send a file. With fetch its bytes would go through the page's own process: half of the time. */
export async function send(path, file) {
  const request = new XMLHttpRequest();
  const over = new Promise((resolve) => (request.onloadend = resolve));
  request.open("POST", path);
  request.send(file);
  await over;
  if (!request.status) throw new Problem("The console does not answer.");
  return result(request.responseText, request.status);
}

/** A path of the API; a waiting job's id has slashes, which stay. */
export const jobPath = (id) => `/api/jobs/${id.split("/").map(encodeURIComponent).join("/")}`;

/** Where a picture of a job is. What waits may still get other files: its address changes with the card. */
export function picture(card, what, { n = 1, size = "thumb", download = false } = {}) {
  if (card.local) return `${card.local[what] ?? ""}${size === "large" ? "?size=large" : ""}`; // not uploaded yet
  const query = new URLSearchParams({ what, size });
  if (what === "output") query.set("n", n);
  if (card.state === "waiting") query.set("v", card.version);
  else query.set("attempt", card.attempt);
  if (download) query.set("download", "1");
  return `/api/pictures/${card.job_id.split("/").map(encodeURIComponent).join("/")}?${query}`;
}

/** Where a character's contact sheet is, without its ending. */
export const sheet = (character) => `/api/sheet/${character.split("/").map(encodeURIComponent).join("/")}`;

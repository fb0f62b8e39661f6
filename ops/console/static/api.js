/** The console's server. Every call raises Problem with one clear sentence. */

export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// Seeds have 64 bits: one that a number would round stays whole.
const exact = (_, value, context) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
    ? BigInt(context.source)
    : value;

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The console does not answer.");
  }
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text, exact);
  let said = "";
  try {
    said = JSON.parse(text).error;
  } catch {
    // A page in words, or none: the status has to do.
  }
  if (answer.status === 403) said ||= "This start of the console is over: open the address that it printed last.";
  throw new Problem(said || `The console answered ${answer.status}.`, answer.status);
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

export const post = (path, body) =>
  call(path, {
    method: "POST",
    headers: { accept: "application/json", "content-type": "application/json" },
    body: json(body),
  });

export const send = (path, form, options) => call(path, { method: "POST", body: form, ...options });

/** A path of the API; a waiting job's id has slashes, which stay. */
export const jobPath = (id) => `/api/jobs/${id.split("/").map(encodeURIComponent).join("/")}`;

/** Where a picture of a job is. What waits may still get other files: its address changes with the card. */
export function picture(card, what, { n = 1, size = "thumb", download = false } = {}) {
  const query = new URLSearchParams({ what, size });
  if (what === "output") query.set("n", n);
  if (card.state === "waiting") query.set("v", card.version);
  else query.set("attempt", card.attempt);
  if (download) query.set("download", "1");
  return `/api/pictures/${card.job_id.split("/").map(encodeURIComponent).join("/")}?${query}`;
}

export const sheet = (character) => `/api/sheet/${character.split("/").map(encodeURIComponent).join("/")}.png`;

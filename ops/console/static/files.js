/** Files and folders of this machine, and how they come to the console: each once, a few at a time. */

import { Problem, send } from "./api.js";

const AT_ONCE = 3; // the browser has six connections for all of the page
const AGAIN = 1500; // milliseconds after which a file goes again that the console did not get

const kept = new Map(); // File -> the promise of its hash
const waiting = [];
let active = 0;
let listener = () => {};

/** Call this after each file that came to the console. */
export const onKept = (changed) => (listener = changed);

/** What was dropped, folders with all that is in them: `[{file, path}]`. */
export async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  // The transfer is empty after the first pause.
  const found = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const lists = await Promise.all(found.map(({ entry, file }) => (entry ? walk(entry) : [{ file, path: file.name }])));
  return lists.flat();
}

async function walk(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = await new Promise((found, failed) => entry.file(found, failed)).catch(() => null);
    return file ? [{ file, path }] : [];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    // A hundred entries at a time.
    const some = await new Promise((found, failed) => reader.readEntries(found, failed)).catch(() => []);
    if (!some.length) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map(walk))).flat();
}

/** What was chosen in a field for files or for a folder. */
export const chosen = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

/** The hash under which the console keeps a file. However often it is requested, the file is sent once. */
export function keep(file) {
  if (!kept.has(file)) {
    const hash = new Promise((done, failed) => waiting.push({ file, done, failed }));
    kept.set(file, hash);
    hash.catch(() => kept.delete(file));
    next();
  }
  return kept.get(file);
}

/** Let all go: the console does not keep them any more, or nobody needs them. */
export function forgetFiles() {
  kept.clear();
  waiting.length = 0;
}

async function next() {
  if (active >= AT_ONCE || !waiting.length) return;
  active += 1;
  const { file, done, failed } = waiting.shift();
  try {
    done(await bring(file));
  } catch (problem) {
    failed(problem);
  }
  active -= 1;
  listener();
  next();
}

/** A connection that breaks is no end: the file goes again, until the console has it. */
async function bring(file) {
  for (;;) {
    try {
      return (await send("/api/files", file)).sha256;
    } catch (problem) {
      if (problem.status) throw problem;
      await file.slice(0, 1).arrayBuffer().catch(() => {
        throw new Problem(`${file.name} cannot be read any more.`, 1);
      });
      await new Promise((over) => setTimeout(over, AGAIN));
    }
  }
}

/** Server-sent events: what changed, in order. A lost connection is resumed at the last event. */

import { get, parse } from "./api.js";

const EVENTS = ["hello", "job", "gone", "summary", "upload", "state", "reset"];
const AGAIN = 2000; // milliseconds

/**
 * Listen. `on` has a function for each event, and `link(up, refusal)` for the connection to the console itself: it may
 * answer, yet refuse this page.
 */
export function listen(on) {
  let source;
  let broken = false; // the browser gave up: what was missed is unknown

  function open() {
    source = new EventSource("/api/events");
    source.addEventListener("open", () => {
      on.link(true);
      if (broken) on.reset({});
      broken = false;
    });
    source.addEventListener("error", () => {
      on.link(false);
      if (source.readyState !== EventSource.CLOSED) return;
      broken = true;
      setTimeout(open, AGAIN);
      // A stream does not say why it was refused.
      get("/api/summary").catch((problem) => problem.status === 403 && on.link(false, problem.message));
    });
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => on[name]?.(parse(event.data)));
    }
  }

  open();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

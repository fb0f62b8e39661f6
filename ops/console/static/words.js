/** Times, money and commands in words. */

/** A length of time: "8 s", "4 min", "2 h 5 min", "3 days". */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 36) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

/** How long ago a time (RFC 3339) was. */
export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  return seconds < 10 ? "just now" : `${span(seconds < 90 ? Math.floor(seconds / 10) * 10 : seconds)} ago`;
}

/** Seconds until a time; negative if it is over. */
export const until = (time) => (Date.parse(time) - Date.now()) / 1000;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
export const timeOfDay = (time) => clock.format(new Date(time));
export const hourAndMinute = (time) => short.format(new Date(time));
export const dateAndTime = (time) => day.format(new Date(time));

/** Money of the provider; amounts below ten cents keep their third digit. */
export function usd(amount) {
  const digits = amount > 0 && amount < 0.1 ? 3 : 2;
  return `$${amount.toFixed(digits)}`;
}

const number = new Intl.NumberFormat("en");
export const count = (n) => number.format(n);
export const many = (n, what, plural = `${what}s`) => `${count(n)} ${n === 1 ? what : plural}`;

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  return n < 1e6 ? `${Math.round(n / 1000)} kB` : `${(n / 1e6).toFixed(1)} MB`;
}

let own = "";

/** How the operator's command names this stack. */
export const naming = (given) => (own = given);

/** A command on this stack. */
export const command = (words) => `${own} ${words}`;

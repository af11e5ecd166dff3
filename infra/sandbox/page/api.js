// The sandbox's control routes, as the page uses them.

/** A refusal of the sandbox, with its sentence. */
export class Refused extends Error {}

async function post(path, body) {
  const form = body instanceof FormData;
  const response = await fetch(`/sandbox/${path}`, {
    method: "POST",
    headers: form ? {} : { "Content-Type": "application/json" },
    body: form ? body : JSON.stringify(body),
  });
  const result = await response.json();
  if (!response.ok) throw new Refused(result.error ?? `The sandbox answered ${response.status}.`);
  return result;
}

/** Write into a chat; `more` may have reply_to, topic, location. */
export const say = (person, chat, text, more = {}) => post("messages", { person, chat, text, ...more });

/** Send a file into a chat. */
export function sendFile(person, chat, file, more = {}) {
  const form = new FormData();
  const fields = { person, chat, text: "", ...more };
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  form.append("file", file);
  return post("messages", form);
}

/** Press a button of a message. */
export const press = (person, chat, message, data) => post("presses", { person, chat, message, data });

/** Press Start. */
export const start = (person) => post("start", { person });

/** Everything that one person sees, live; `onView` gets every view, `onLine` true or false, `onNobody` when there is no such person. */
export function listen(person, onView, onLine, onNobody) {
  const source = new EventSource(`/sandbox/events?person=${person}`);
  source.onopen = () => onLine(true);
  source.onerror = () => {
    onLine(false);
    // A refusal is final for the browser; a lost connection it tries again by itself.
    if (source.readyState === EventSource.CLOSED) onNobody();
  };
  source.onmessage = (event) => onView(JSON.parse(event.data));
  return () => source.close();
}

/** Somebody's id to begin with, when the address names none. */
export async function firstPerson() {
  const response = await fetch("/sandbox/state");
  return (await response.json()).viewer.id;
}

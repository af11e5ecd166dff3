// Message bubbles: what one message looks like.

import { element, formatted, icon } from "/page/text.js";

const SERVICE = {
  migrate_to_chat_id: (id) => `The group became the supergroup ${id}`,
  migrate_from_chat_id: () => "The group became a supergroup",
};

/** The first letters of a name, for an avatar. */
export function initials(name) {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  return letters.map((word) => [...word][0] ?? "?").join("").toUpperCase();
}

/** Which of the seven colours belongs to an id. */
export function colour(id) {
  return Math.abs(Number(id)) % 7;
}

/** Fill an avatar with initials and a colour. */
export function paintAvatar(target, name, id) {
  target.textContent = initials(name);
  target.dataset.colour = colour(id);
}

/** First and last name of a User. */
export function nameOf(user) {
  return [user.first_name, user.last_name].filter(Boolean).join(" ");
}

/** The time of a message, as this browser writes it. */
export function clock(date) {
  return new Date(date * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** The day of a message: Today, Yesterday, or its date. */
export function day(date) {
  const then = new Date(date * 1000);
  const now = new Date();
  const yesterday = new Date(now);
  yesterday.setDate(now.getDate() - 1);
  if (then.toDateString() === now.toDateString()) return "Today";
  if (then.toDateString() === yesterday.toDateString()) return "Yesterday";
  const year = then.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return then.toLocaleDateString([], { month: "long", day: "numeric", ...year });
}

/** One line that stands for a message: in the chat list and in quotes. */
export function summary(message) {
  if (message.text ?? message.caption) return (message.text ?? message.caption).replace(/\s+/g, " ");
  if (message.photo) return "Photo";
  if (message.document) return message.document.file_name || "File";
  if (message.location) return "Location";
  return serviceText(message) ?? "Message";
}

/** What a service message says, or null for any other. */
export function serviceText(message) {
  const field = Object.keys(SERVICE).find((name) => name in message);
  return field ? SERVICE[field](message[field]) : null;
}

/**
 * A message as an element.
 * `context` has: viewer (id), group (bool), showName, topic (its name or null), waiting (set of button keys),
 * and what to do: onPress(message, button, key), onReply(message), onCommand(text), onJump(id).
 */
export function bubble(message, context) {
  const own = message.from.id === context.viewer;
  const row = element("article", own ? "row own" : "row");
  row.dataset.testid = "message";
  row.dataset.message = message.message_id;
  row.setAttribute("aria-label", `${own ? "You" : nameOf(message.from)}, ${clock(message.date)}`);
  const box = element("div", "bubble");
  if (context.group && !own) {
    row.append(avatarOf(message.from));
    if (context.showName) box.append(sender(message.from));
  }
  box.append(...content(message, context), meta(message, own));
  const column = element("div", "column", box, buttons(message, context));
  row.append(column, replyButton(message, context));
  row.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button, a")) context.onReply(message);
  });
  return row;
}

function avatarOf(user) {
  const made = element("span", "avatar tiny");
  made.setAttribute("aria-hidden", "true");
  paintAvatar(made, nameOf(user), user.id);
  return made;
}

function sender(user) {
  const made = element("div", "sender", nameOf(user));
  made.dataset.colour = colour(user.id);
  if (user.is_bot) made.append(element("span", "role", "bot"));
  return made;
}

function content(message, context) {
  const parts = [];
  if (context.topic) parts.push(element("div", "topic-tag", `# ${context.topic}`));
  if (message.forward_from) parts.push(element("div", "forwarded", `Forwarded from ${nameOf(message.forward_from)}`));
  if (message.reply_to_message) parts.push(quoted(message.reply_to_message, context));
  if (message.photo) parts.push(photo(message.photo[message.photo.length - 1]));
  if (message.document) parts.push(fileCard(message.document));
  if (message.location) parts.push(place(message.location));
  const text = message.text ?? message.caption;
  if (text) {
    const entities = message.entities ?? message.caption_entities;
    const body = element("div", "text", ...formatted(text, entities, context.onCommand));
    body.dataset.testid = "message-text";
    body.dir = "auto";
    parts.push(body);
  }
  return parts;
}

function quoted(original, context) {
  const made = element("button", "quoted", element("span", "unseen", "In reply to "), element("strong", "", nameOf(original.from)), element("bdi", "", summary(original)));
  made.type = "button";
  made.dataset.colour = colour(original.from.id);
  made.addEventListener("click", () => context.onJump(original.message_id));
  return made;
}

function photo(size) {
  const made = element("img", "photo");
  made.src = `/sandbox/files/${encodeURIComponent(size.file_id)}`;
  made.alt = "Photo";
  return made;
}

function fileCard(file) {
  const kilobytes = Math.max(1, Math.round((file.file_size ?? 0) / 1024));
  const names = element("span", "file-names", element("strong", "", file.file_name || "File"), element("span", "faint", `${kilobytes} KB`));
  const made = element("a", "file", element("span", "file-icon", icon("file")), names);
  made.href = `/sandbox/files/${encodeURIComponent(file.file_id)}`;
  made.setAttribute("download", file.file_name || "file");
  return made;
}

function place(location) {
  const where = `${location.latitude.toFixed(4)}, ${location.longitude.toFixed(4)}`;
  const names = element("span", "file-names", element("strong", "", "Location"), element("span", "faint", where));
  return element("div", "file", element("span", "file-icon", icon("pin")), names);
}

function meta(message, own) {
  const made = element("span", "meta");
  if (message.edit_date) {
    const edited = element("span", "edited", "edited");
    edited.dataset.testid = "edited";
    made.append(edited, " ");
  }
  const time = element("time", "", clock(message.date));
  time.dateTime = new Date(message.date * 1000).toISOString();
  made.append(time);
  if (own) made.append(icon("ticks", "ticks"));
  return made;
}

function buttons(message, context) {
  const rows = message.reply_markup?.inline_keyboard ?? [];
  if (!rows.length) return null;
  const made = element("div", "buttons");
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", "Buttons");
  rows.forEach((row, y) => {
    made.append(element("div", "button-row", ...row.map((raw, x) => inlineButton(message, raw, `${y}.${x}`, context))));
  });
  return made;
}

function inlineButton(message, raw, at, context) {
  const key = `${message.chat.id}.${message.message_id}.${raw.callback_data}`;
  const made = raw.url ? element("a", "inline", raw.text) : element("button", "inline", raw.text);
  made.dir = "auto";
  made.dataset.testid = "inline-button";
  made.dataset.at = at;
  if (raw.style) made.dataset.style = raw.style;
  if (raw.url) {
    made.append(icon("link", "corner"));
    if (/^https?:/i.test(raw.url)) made.href = raw.url;
    made.target = "_blank";
    made.rel = "noopener noreferrer";
    return made;
  }
  made.type = "button";
  made.disabled = !raw.callback_data;
  if (context.waiting.has(key)) {
    made.classList.add("busy");
    made.setAttribute("aria-busy", "true");
  }
  made.addEventListener("click", () => context.onPress(message, raw, key));
  return made;
}

function replyButton(message, context) {
  const made = element("button", "round reply", icon("reply"));
  made.type = "button";
  made.dataset.testid = "reply";
  made.setAttribute("aria-label", "Reply");
  made.title = "Reply";
  made.addEventListener("click", () => context.onReply(message));
  return made;
}

// The chat page: keeps what one person sees, and draws it.

import * as api from "/page/api.js";
import { bubble, clock, colour, day, nameOf, paintAvatar, serviceText, summary } from "/page/bubbles.js";
import { element, icon } from "/page/text.js";

const TYPING_FOR = 5_000;
const TOAST_FOR = 3_500;
const SPINNER_FOR = 150_000;
const GROUPED_WITHIN = 300;
const GENERAL = 0;

const $ = (id) => document.getElementById(id);

const now = {
  state: null,
  online: false,
  person: 0,
  chat: null,
  topic: null,
  replyTo: null,
  read: new Map(),
  typing: new Map(),
  waiting: new Set(),
  rows: new Map(),
  unseenBelow: 0,
  choice: 0,
  stop: () => {},
};

// The address --------------------------------------------------------------------------------------

function readAddress() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const chat = Number(hash.get("chat"));
  return { person: Number(hash.get("person")) || 0, chat: chat || null };
}

function writeAddress(push) {
  const hash = new URLSearchParams({ person: now.person });
  if (now.chat !== null) hash.set("chat", now.chat);
  const address = `#${hash}`;
  if (address === location.hash) return;
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

// Views of the sandbox -----------------------------------------------------------------------------

function become(person, chat = null) {
  now.stop();
  clearChat();
  Object.assign(now, { person, chat, state: null });
  now.typing.clear();
  now.waiting.clear();
  now.stop = api.listen(person, take, onLine, becomeSomebody);
}

/** Somebody who exists: the one in the address may be gone with an earlier run of the sandbox. */
async function becomeSomebody() {
  const person = await attempt(api.firstPerson);
  if (person) become(person);
}

function onLine(yes) {
  now.online = yes;
  // What was answered meanwhile is not told again.
  if (yes) now.waiting.clear();
  $("dot").classList.toggle("on", yes);
  $("connection").textContent = yes ? "Sandbox, live" : "The sandbox does not answer. Trying again…";
  if (chatOf(now.chat)) drawHead();
}

const TAKE = { state: takeState, sent: takeSent, edited: takeEdited, deleted: takeDeleted, answered: takeAnswered, typing: takeTyping };

function take(view) {
  TAKE[view.kind]?.(view);
}

function takeState(view) {
  const first = now.state === null;
  now.state = view;
  for (const chat of view.chats) forgetFuture(chat);
  if (now.chat !== null && !chatOf(now.chat)) now.chat = null;
  drawViewer();
  drawChats();
  openChat(now.chat, { push: false, keepScroll: !first });
}

function takeSent(view) {
  const chat = chatOf(view.chat);
  if (!chat) return;
  const stay = !isAtEnd() && view.message.from.id !== now.person;
  chat.messages.push(view.message);
  now.typing.delete(view.chat);
  if (view.chat === now.chat) {
    if (stay) now.unseenBelow += 1;
    drawMessages();
    if (!stay) toEnd();
    markRead();
    if (view.message.force_reply) replyTo(view.message, { focus: true });
    drawHead();
    drawToEnd();
  }
  drawChats();
}

function takeEdited(view) {
  const chat = chatOf(view.chat);
  const index = chat?.messages.findIndex((each) => each.message_id === view.message.message_id) ?? -1;
  if (index < 0) return;
  chat.messages[index] = view.message;
  redraw(view.chat);
}

function takeDeleted(view) {
  const chat = chatOf(view.chat);
  if (!chat) return;
  chat.messages = chat.messages.filter((each) => each.message_id !== view.message_id);
  if (now.replyTo?.message_id === view.message_id) replyTo(null);
  redraw(view.chat);
}

function takeAnswered(view) {
  const press = view.press;
  now.waiting.delete(`${press.chat}.${press.message}.${press.data}`);
  if (press.alert) showAlert(press.alert);
  else if (press.toast) toast(press.toast);
  redraw(view.chat);
}

function takeTyping(view) {
  const until = Date.now() + TYPING_FOR;
  now.typing.set(view.chat, { action: view.action, until });
  setTimeout(() => {
    if (now.typing.get(view.chat)?.until === until) {
      now.typing.delete(view.chat);
      redraw(view.chat);
    }
  }, TYPING_FOR);
  redraw(view.chat);
}

function redraw(chat) {
  if (chat === now.chat) {
    const atEnd = isAtEnd();
    drawMessages();
    drawHead();
    if (atEnd) toEnd();
  }
  drawChats();
}

const chatOf = (id) => now.state?.chats.find((chat) => chat.id === id) ?? null;
const isGroup = (chat) => chat.type !== "private";
const lastOf = (chat) => chat.messages[chat.messages.length - 1];

// Who am I -----------------------------------------------------------------------------------------

function drawViewer() {
  const viewer = now.state.viewer;
  $("viewer-name").textContent = viewer.name;
  paintAvatar($("viewer-avatar"), viewer.name, viewer.id);
  $("persons").replaceChildren(...now.state.persons.map(personItem));
}

function personItem(person) {
  const avatar = element("span", "avatar small");
  avatar.setAttribute("aria-hidden", "true");
  paintAvatar(avatar, person.name, person.id);
  const note = person.blocked ? "has blocked the bot" : person.started ? `id ${person.id}` : "has not pressed Start";
  const item = element("button", "person", avatar, element("span", "person-names", element("strong", "", person.name), element("span", "faint", note)));
  item.type = "button";
  item.dataset.testid = `person-${person.id}`;
  item.setAttribute("role", "menuitemradio");
  item.setAttribute("aria-checked", String(person.id === now.person));
  if (person.id === now.person) item.append(icon("check", "icon tick"));
  item.addEventListener("click", () => {
    closeMenus();
    become(person.id, now.chat !== null && now.chat < 0 ? now.chat : null);
    writeAddress(false);
    $("switcher").focus();
  });
  return item;
}

// The list of chats --------------------------------------------------------------------------------

function drawChats() {
  const focused = document.activeElement?.dataset?.chat;
  const sorted = [...now.state.chats].sort((a, b) => (lastOf(b)?.date ?? 0) - (lastOf(a)?.date ?? 0));
  const hint = sorted.some((chat) => chat.messages.length) ? [] : [element("li", "hint", "Nothing has been said yet. Run the command that was printed when you started this, or let your own service ask: the question appears in one of these chats.")];
  $("chats").replaceChildren(...sorted.map((chat) => element("li", "", chatItem(chat))), ...hint);
  if (focused) document.querySelector(`button[data-chat="${focused}"]`)?.focus();
  const total = sorted.reduce((sum, chat) => sum + unread(chat), 0);
  document.title = total ? `(${total}) Telegate Sandbox` : "Telegate Sandbox";
}

function chatItem(chat) {
  const last = lastOf(chat);
  const avatar = element("span", "avatar");
  avatar.setAttribute("aria-hidden", "true");
  paintAvatar(avatar, chat.name, isGroup(chat) ? chat.id : now.state.bot.id);
  const top = element("span", "chat-top", element("span", "chat-name", chat.name), element("span", "chat-time", last ? shortTime(last.date) : ""));
  const bottom = element("span", "chat-bottom", preview(chat, last));
  const count = unread(chat);
  if (count) {
    const badge = element("span", "badge", String(count));
    badge.dataset.testid = "unread";
    badge.setAttribute("aria-label", `${count} unread`);
    bottom.append(badge);
  }
  const item = element("button", "chat", avatar, element("span", "chat-lines", top, bottom));
  item.type = "button";
  item.dataset.testid = `chat-${chat.id}`;
  item.dataset.chat = chat.id;
  if (chat.id === now.chat) item.setAttribute("aria-current", "true");
  item.addEventListener("click", () => openChat(chat.id, { push: true, focus: true }));
  return item;
}

function preview(chat, last) {
  const typing = typingText(chat);
  if (typing) return element("span", "chat-preview typing", typing);
  if (!last) return element("span", "chat-preview", isGroup(chat) ? "No messages yet" : canWrite() ? "No messages yet" : "Press Start to begin");
  const who = isGroup(chat) || last.from.id === now.person ? element("span", "who", `${last.from.id === now.person ? "You" : last.from.first_name}: `) : null;
  return element("span", "chat-preview", who, element("bdi", "", summary(last)));
}

function shortTime(date) {
  const label = day(date);
  return label === "Today" ? clock(date) : label === "Yesterday" ? label : new Date(date * 1000).toLocaleDateString([], { month: "short", day: "numeric" });
}

function unread(chat) {
  const read = now.read.get(`${now.person}.${chat.id}`) ?? 0;
  return chat.messages.filter((each) => each.message_id > read && each.from.id !== now.person).length;
}

/** After a restart of the sandbox the numbers of messages begin again: what comes now has not been read. */
function forgetFuture(chat) {
  const key = `${now.person}.${chat.id}`;
  const newest = lastOf(chat)?.message_id ?? 0;
  if (now.read.get(key) > newest) now.read.set(key, newest);
}

function markRead() {
  const chat = chatOf(now.chat);
  if (!chat || document.hidden || !chat.messages.length) return;
  now.read.set(`${now.person}.${chat.id}`, lastOf(chat).message_id);
}

// One chat -----------------------------------------------------------------------------------------

function openChat(id, { push = false, focus = false, keepScroll = false } = {}) {
  const changed = id !== now.chat;
  now.chat = id;
  if (changed) clearChat();
  writeAddress(push);
  const chat = chatOf(id);
  $("app").dataset.screen = chat ? "chat" : "list";
  $("welcome").hidden = Boolean(chat);
  $("conversation").hidden = !chat;
  if (!chat) return drawChats();
  markRead();
  drawChats();
  drawHead();
  drawTopics();
  drawMessages();
  drawFoot();
  if (!keepScroll || changed) toEnd();
  const last = lastOf(chat);
  if (changed && last?.force_reply) replyTo(last);
  if (focus && matchMedia("(hover: hover)").matches) $("text").focus();
}

function clearChat() {
  Object.assign(now, { topic: null, replyTo: null, unseenBelow: 0, rows: new Map() });
  $("messages").replaceChildren();
  $("text").value = "";
  grow();
}

function canWrite() {
  const viewer = now.state.viewer;
  return viewer.started && !viewer.blocked;
}

function typingText(chat) {
  const typing = now.typing.get(chat.id);
  if (!typing) return "";
  const what = typing.action.startsWith("upload") ? "sending a file" : typing.action.startsWith("record") ? "recording" : "typing";
  return isGroup(chat) ? `${now.state.bot.first_name} is ${what}…` : `${what}…`;
}

function drawHead() {
  const chat = chatOf(now.chat);
  $("chat-title").textContent = chat.name;
  paintAvatar($("chat-avatar"), chat.name, isGroup(chat) ? chat.id : now.state.bot.id);
  const typing = now.online ? typingText(chat) : "Connecting…";
  $("chat-status").classList.toggle("typing", Boolean(typing));
  $("chat-status").textContent = typing || (isGroup(chat) ? `${chat.members.map((each) => each.first_name).join(", ")} and the bot` : "bot");
  $("chat-id").textContent = String(chat.id);
}

function drawTopics() {
  const chat = chatOf(now.chat);
  const topics = Object.entries(chat.topics ?? {});
  $("topics").hidden = topics.length === 0;
  const all = [[null, "All"], [GENERAL, "General"], ...topics.map(([id, name]) => [Number(id), name])];
  $("topics").replaceChildren(
    ...all.map(([id, name]) => {
      const tab = element("button", "topic", name);
      tab.type = "button";
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", String(now.topic === id));
      tab.dataset.testid = `topic-${id === GENERAL ? "general" : (id ?? "all")}`;
      tab.addEventListener("click", () => {
        now.topic = id;
        drawTopics();
        drawMessages();
        toEnd();
      });
      return tab;
    }),
  );
}

function drawMessages() {
  const chat = chatOf(now.chat);
  const shown = chat.messages.filter((each) => now.topic === null || (each.message_thread_id ?? GENERAL) === now.topic);
  const rows = shown.flatMap((message, index) => rowsFor(message, shown[index - 1], shown[index + 1], chat));
  const wanted = rows.length ? rows : [["empty", chat.id, () => emptyChat(chat)]];
  const kept = new Map(wanted.map(([key, looks, make]) => [key, keep(key, JSON.stringify(looks), make)]));
  now.rows = kept;
  arrange($("messages"), [...kept.values()].map((each) => each.row));
}

/** The row that is there already when it still looks the same, so that focus, selection and open spoilers stay. */
function keep(key, looks, make) {
  const old = now.rows.get(key);
  return old?.looks === looks ? old : { looks, row: make() };
}

/** Give a parent these children, touching only what differs. */
function arrange(parent, rows) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && [focused.closest("[data-message]")?.dataset.message, focused.dataset.at];
  const wanted = new Set(rows);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  rows.forEach((row, index) => {
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] ?? null);
  });
  if (place?.[1] && !parent.contains(document.activeElement)) {
    parent.querySelector(`[data-message="${place[0]}"] [data-at="${place[1]}"]`)?.focus();
  }
}

/** The rows of one message: each a key, what its looks depend on, and how to make it. */
function rowsFor(message, before, after, chat) {
  const today = day(message.date);
  const newDay = !before || day(before.date) !== today;
  const separator = newDay ? [[`day ${message.message_id}`, today, () => element("div", "day", element("span", "", today))]] : [];
  const service = serviceText(message);
  if (service) return [...separator, [message.message_id, service, () => element("div", "service", element("span", "", service))]];
  const first = newDay || !together(before, message);
  const last = !after || !together(message, after) || day(after.date) !== today;
  const topic = now.topic === null && message.message_thread_id ? chat.topics[message.message_thread_id] : null;
  const busy = [...now.waiting].filter((key) => key.startsWith(`${chat.id}.${message.message_id}.`));
  const make = () => messageRow(message, { first, last, topic, group: isGroup(chat) });
  return [...separator, [message.message_id, [message, first, last, topic, busy], make]];
}

function messageRow(message, { first, last, topic, group }) {
  const row = bubble(message, { viewer: now.person, group, showName: first, topic, waiting: now.waiting, onPress, onReply, onCommand, onJump });
  row.classList.toggle("first", first);
  row.classList.toggle("last", last);
  return row;
}

function together(a, b) {
  return a && b && a.from.id === b.from.id && b.date - a.date < GROUPED_WITHIN && !serviceText(a) && !serviceText(b);
}

function emptyChat(chat) {
  const text = isGroup(chat)
    ? "Let your service send something to this chat, or write a command for the bot."
    : canWrite()
      ? "Let your service send something to this chat, or write to the bot."
      : "The bot may write to you only after you have pressed Start.";
  const made = element("div", "empty", element("h2", "", "No messages here yet"), element("p", "", text), element("p", "", "The chat's id is ", element("code", "", String(chat.id)), "."));
  made.dataset.testid = "empty";
  return made;
}

// What people do -----------------------------------------------------------------------------------

async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    toast(error instanceof api.Refused ? error.message : "The sandbox does not answer.");
    return null;
  }
}

async function onPress(message, raw, key) {
  if (now.waiting.has(key)) return;
  now.waiting.add(key);
  drawMessages();
  const made = await attempt(() => api.press(now.person, message.chat.id, message.message_id, raw.callback_data));
  const forget = () => {
    if (now.waiting.delete(key) && now.chat !== null) drawMessages();
  };
  if (made === null) forget();
  else setTimeout(forget, SPINNER_FOR);
}

function onReply(message) {
  replyTo(message, { focus: true });
}

async function onCommand(text) {
  await send(text);
}

function onJump(id) {
  const row = document.querySelector(`[data-message="${Number(id)}"]`);
  if (!row) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  row.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
  row.classList.remove("flash");
  requestAnimationFrame(() => row.classList.add("flash"));
}

async function send(text) {
  const more = {};
  if (now.replyTo) more.reply_to = now.replyTo.message_id;
  const topic = now.topic || now.replyTo?.message_thread_id;
  if (topic) more.topic = topic;
  const chat = now.chat;
  replyTo(null);
  return attempt(() => api.say(now.person, chat, text, more));
}

function replyTo(message, { focus = false } = {}) {
  now.replyTo = message;
  $("quote-bar").hidden = !message;
  if (message) {
    $("quote-name").textContent = message.from.id === now.person ? "Reply to yourself" : `Reply to ${nameOf(message.from)}`;
    $("quote-body").textContent = summary(message);
    $("quote-bar").dataset.colour = colour(message.from.id);
  }
  $("text").placeholder = message?.force_reply?.placeholder || (message?.force_reply ? "Reply" : "Message");
  if (focus) $("text").focus();
}

// The foot -----------------------------------------------------------------------------------------

function drawFoot() {
  const chat = chatOf(now.chat);
  const start = !isGroup(chat) && !canWrite();
  $("start").hidden = !start;
  $("start").textContent = now.state.viewer.blocked ? "Unblock and restart" : "Start";
  $("composer").hidden = start;
  $("menu-button").hidden = chat.commands.length === 0;
  replyTo(now.replyTo);
  drawKeyboard(chat);
  drawCommands();
}

function drawKeyboard(chat) {
  const holder = [...chat.messages].reverse().find((each) => each.keyboard);
  const rows = holder?.keyboard ?? [];
  $("keyboard").hidden = rows.length === 0;
  $("keyboard").replaceChildren(
    ...rows.map((row) =>
      element(
        "div",
        "button-row",
        ...row.map((label) => {
          const key = element("button", "key", label);
          key.type = "button";
          key.dir = "auto";
          key.addEventListener("click", () => send(label));
          return key;
        }),
      ),
    ),
  );
}

function fittingCommands() {
  if (!chatOf(now.chat)) return [];
  const text = $("text").value;
  if (!text.startsWith("/") || /\s/.test(text)) return [];
  return chatOf(now.chat).commands.filter((each) => `/${each.command}`.startsWith(text.toLowerCase()));
}

function drawCommands() {
  const commands = now.chat === null || $("composer").hidden ? [] : fittingCommands();
  now.choice = Math.min(now.choice, Math.max(0, commands.length - 1));
  $("commands").hidden = commands.length === 0;
  if (commands.length) $("text").setAttribute("aria-activedescendant", `command-${now.choice}`);
  else $("text").removeAttribute("aria-activedescendant");
  $("commands").replaceChildren(
    ...commands.map((each, index) => {
      const item = element("button", "command-item", element("strong", "", `/${each.command}`), element("span", "", each.description));
      item.type = "button";
      item.tabIndex = -1;
      item.id = `command-${index}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(index === now.choice));
      item.dataset.testid = `command-${each.command}`;
      item.addEventListener("click", () => choose(each));
      return item;
    }),
  );
}

function choose(command) {
  $("text").value = "";
  grow();
  drawCommands();
  send(`/${command.command}`);
  $("text").focus();
}

function onKey(event) {
  const commands = fittingCommands();
  const open = !$("commands").hidden && commands.length > 0;
  if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    now.choice = (now.choice + (event.key === "ArrowDown" ? 1 : -1) + commands.length) % commands.length;
    drawCommands();
  } else if (open && event.key === "Tab") {
    event.preventDefault();
    $("text").value = `/${commands[now.choice].command} `;
    drawCommands();
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    const chosen = open ? commands[now.choice] : null;
    if (chosen && $("text").value !== `/${chosen.command}`) choose(chosen);
    else $("composer").requestSubmit();
  } else if (event.key === "Escape") {
    if (open) $("commands").hidden = true;
    else replyTo(null);
  }
}

async function onSubmit(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  grow();
  drawCommands();
  if ((await send(text)) === null && !$("text").value) {
    $("text").value = text;
    grow();
  }
  $("text").focus();
}

function grow() {
  const text = $("text");
  text.style.height = "";
  if (text.value) text.style.height = `${Math.min(text.scrollHeight, 200)}px`;
  $("composer").classList.toggle("filled", text.value.trim() !== "");
}

// Scrolling ----------------------------------------------------------------------------------------

function isAtEnd() {
  const scroller = $("scroller");
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
}

function toEnd() {
  const scroller = $("scroller");
  scroller.scrollTop = scroller.scrollHeight;
  now.unseenBelow = 0;
  drawToEnd();
}

function drawToEnd() {
  $("to-end").hidden = isAtEnd();
  $("to-end-count").hidden = now.unseenBelow === 0;
  $("to-end-count").textContent = String(now.unseenBelow);
}

// Toasts, dialogs, menus ---------------------------------------------------------------------------

let toastTimer = 0;

function toast(text) {
  // Never hidden: a screen reader says what appears in a place that it knows already.
  $("toast").textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").replaceChildren(), TOAST_FOR);
}

function showAlert(text) {
  $("alert-text").textContent = text;
  if (!$("alert").open) $("alert").showModal();
}

const MENUS = [["switcher", "persons"], ["attach", "attach-menu"]];

function toggleMenu(button, menu) {
  const open = $(menu).hidden;
  closeMenus();
  $(menu).hidden = !open;
  $(button).setAttribute("aria-expanded", String(open));
  if (open) ($(menu).querySelector('[aria-checked="true"]') ?? $(menu).querySelector("button"))?.focus();
}

function closeMenus() {
  for (const [button, menu] of MENUS) {
    $(menu).hidden = true;
    $(button).setAttribute("aria-expanded", "false");
  }
}

function onMenuKey(event, button, menu) {
  const items = [...$(menu).querySelectorAll("button")];
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    items[(at + step + items.length) % items.length]?.focus();
  } else if (event.key === "Escape") {
    closeMenus();
    $(button).focus();
  }
}

// Wiring -------------------------------------------------------------------------------------------

function wire() {
  for (const [button, menu] of MENUS) {
    $(button).addEventListener("click", () => toggleMenu(button, menu));
    $(menu).addEventListener("keydown", (event) => onMenuKey(event, button, menu));
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".menu, [aria-haspopup]")) closeMenus();
  });
  $("back").addEventListener("click", () => openChat(null, { push: true }));
  $("composer").addEventListener("submit", onSubmit);
  $("text").addEventListener("keydown", onKey);
  $("text").addEventListener("input", () => { now.choice = 0; grow(); drawCommands(); });
  $("quote-cancel").addEventListener("click", () => replyTo(null, { focus: true }));
  $("start").addEventListener("click", () => attempt(() => api.start(now.person)));
  $("menu-button").addEventListener("click", () => { $("text").value = "/"; grow(); drawCommands(); $("text").focus(); });
  $("to-end").addEventListener("click", toEnd);
  $("scroller").addEventListener("scroll", () => { if (isAtEnd()) now.unseenBelow = 0; drawToEnd(); });
  $("attach-file").addEventListener("click", () => { closeMenus(); $("file").click(); });
  $("attach-place").addEventListener("click", () => { closeMenus(); $("place").showModal(); });
  $("file").addEventListener("change", sendChosenFile);
  $("place").addEventListener("close", sendChosenPlace);
  document.addEventListener("visibilitychange", () => { if (now.state) { markRead(); drawChats(); } });
  window.addEventListener("popstate", followAddress);
}

function extras() {
  const more = {};
  if (now.replyTo) more.reply_to = now.replyTo.message_id;
  if (now.topic) more.topic = now.topic;
  replyTo(null);
  return more;
}

function sendChosenFile() {
  const file = $("file").files[0];
  $("file").value = "";
  if (file) attempt(() => api.sendFile(now.person, now.chat, file, extras()));
}

function sendChosenPlace() {
  if ($("place").returnValue !== "send") return;
  const location = [Number($("latitude").value), Number($("longitude").value)];
  attempt(() => api.say(now.person, now.chat, "", { location, ...extras() }));
}

function followAddress() {
  const { person, chat } = readAddress();
  if (person && person !== now.person) become(person, chat);
  else if (now.state) openChat(chat && chatOf(chat) ? chat : null);
}

async function begin() {
  wire();
  const { person, chat } = readAddress();
  become(person || (await api.firstPerson()), chat);
}

begin();

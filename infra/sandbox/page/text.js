// Formatted text: a message's text and its entities become elements, never markup.

const INLINE = {
  bold: "strong",
  italic: "em",
  underline: "u",
  strikethrough: "s",
  code: "code",
};

const SAFE_LINK = /^(https?:|mailto:)/i;

/** An element with a class and children. */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An icon of the page's sprite. */
export function icon(name, className = "icon") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Text with entities, as a list of nodes. Offsets count UTF-16 units, as JavaScript's own strings do. */
export function formatted(text, entities = [], onCommand = null) {
  const sorted = entities
    .map((entity) => ({ ...entity, end: entity.offset + entity.length }))
    .sort((a, b) => a.offset - b.offset || b.end - a.end);
  return build(text, sorted, 0, text.length, onCommand);
}

function build(text, entities, start, end, onCommand) {
  const nodes = [];
  const queue = [...entities];
  let at = start;
  while (queue.length) {
    const entity = queue.shift();
    const from = Math.max(entity.offset, at);
    const to = Math.min(entity.end, end);
    if (from >= to) continue;
    if (from > at) nodes.push(text.slice(at, from));
    const inside = [];
    while (queue.length && queue[0].offset < to) {
      const next = queue.shift();
      inside.push(next);
      if (next.end > to) queue.unshift({ ...next, offset: to });
    }
    nodes.push(styled(entity, build(text, inside, from, to, onCommand), text.slice(from, to), onCommand));
    at = to;
  }
  if (at < end) nodes.push(text.slice(at, end));
  return nodes;
}

function styled(entity, children, source, onCommand) {
  const tag = INLINE[entity.type];
  if (tag) return element(tag, "", ...children);
  switch (entity.type) {
    case "pre":
      return block(entity, children);
    case "blockquote":
    case "expandable_blockquote":
      return quote(entity, children);
    case "spoiler":
      return spoiler(children);
    case "text_link":
      return link(entity.url, children);
    case "url":
      return link(/^[a-z]+:/i.test(source) ? source : `http://${source}`, children);
    case "email":
      return link(`mailto:${source}`, children);
    case "bot_command":
      return command(source, children, onCommand);
    case "mention":
    case "text_mention":
    case "hashtag":
    case "cashtag":
      return element("span", "mention", ...children);
    default:
      return element("span", "", ...children);
  }
}

function block(entity, children) {
  const made = element("pre", "block", element("code", "", ...children));
  if (entity.language) made.prepend(element("span", "language", entity.language));
  return made;
}

function quote(entity, children) {
  const made = element("blockquote", "quote", ...children);
  if (entity.type === "expandable_blockquote") {
    made.classList.add("folded");
    made.tabIndex = 0;
    made.setAttribute("role", "button");
    made.setAttribute("aria-expanded", "false");
    made.title = "Show all";
    onActivate(made, () => {
      made.classList.remove("folded");
      for (const name of ["tabindex", "role", "aria-expanded", "title"]) made.removeAttribute(name);
    });
  }
  return made;
}

function spoiler(children) {
  const made = element("span", "spoiler", ...children);
  made.tabIndex = 0;
  made.setAttribute("role", "button");
  made.setAttribute("aria-label", "Hidden text, press to show");
  onActivate(made, () => {
    made.classList.add("shown");
    made.removeAttribute("role");
    made.removeAttribute("aria-label");
  });
  return made;
}

function link(url, children) {
  if (!SAFE_LINK.test(url)) return element("span", "mention", ...children);
  const made = element("a", "", ...children);
  made.href = url;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  return made;
}

function command(source, children, onCommand) {
  if (!onCommand) return element("span", "mention", ...children);
  const made = element("button", "command", ...children);
  made.type = "button";
  made.addEventListener("click", () => onCommand(source));
  return made;
}

function onActivate(made, act) {
  made.addEventListener("click", act);
  made.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act();
    }
  });
}

// Markdown as elements. Nothing of a text is ever read as HTML: elements are made by name, of the names below
// alone, and all else is text. Only links to http and https lead anywhere; there are no images.

const DEEPEST = 6, LONGEST = 20000; // levels, and characters of a block, in which marks are looked for

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+)(?=\S)/;
const DASHES = /^[ |:-]+$/;

const MARKS = new RegExp([
  /\\([!-/:-@[-`{-~])/, // 1: an escape
  /(?<!`)(`{1,8})(?!`)([^]{0,2000}?[^`])\2(?!`)/, // 2, 3: code
  /\[([^[\]]{1,500})\]\((https?:\/\/[^\s()<>]{1,2000})\)/, // 4, 5: a link
  /(https?:\/\/[^\s<>"'`*()[\]]{1,2000})/, // 6: an address
  /(\*\*|__|~~)(?=\S)([^]{0,1000}?\S)\7/, // 7, 8: strong, del
  /(\*|\b_)(?![\s*_])((?:[^*_]|\*\*[^*]{1,200}\*\*|\B_\B|\w_\w){1,1000}?)(?:\9(?![*\w])|\9(?=\w)(?!_))/, // 9, 10: em
  /( {2,}|\\)\n/, // 11: a break
].map((each) => each.source).join("|"), "g");

function make(name, parent, text = "") {
  const element = document.createElement(name);
  element.textContent = text;
  parent.append(element);
  return element;
}

function link(parent, address) {
  if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol)) return null;
  return Object.assign(make("a", parent), { href: address, rel: "noreferrer noopener", target: "_blank" });
}

function inline(parent, text, depth = 0, links = true) {
  if (depth > DEEPEST || text.length > LONGEST) return parent.append(text);
  let end = 0, made;
  for (const found of text.matchAll(MARKS)) {
    const [all, escaped, , code, label, address, bare, mark, strong, , em, broken] = found;
    parent.append(text.slice(end, found.index));
    end = found.index + all.length;
    if (escaped !== undefined) parent.append(escaped);
    else if (code !== undefined) make("code", parent, code.replace(/^ (.*) $/s, "$1"));
    else if (label !== undefined && links && (made = link(parent, address))) inline(made, label, depth + 1, false);
    else if (bare !== undefined && links) {
      const address = bare.replace(/[.,;:!?]+$/, "");
      if ((made = link(parent, address))) made.textContent = address;
      parent.append(made ? bare.slice(address.length) : bare);
    } else if (strong !== undefined) {
      inline(make(mark === "~~" ? "del" : "strong", parent), strong, depth + 1, links);
    } else if (em !== undefined) inline(make("em", parent), em, depth + 1, links);
    else if (broken !== undefined) make("br", parent);
    else parent.append(all);
  }
  parent.append(text.slice(end));
}

const isTable = (lines, n) =>
  lines[n].includes("|") && n + 1 < lines.length && lines[n + 1].includes("|") &&
  lines[n + 1].includes("-") && DASHES.test(lines[n + 1]);

const begins = (lines, n) =>
  [FENCE, HEADING, RULE, QUOTE, ITEM].some((each) => each.test(lines[n])) || isTable(lines, n);

// The blocks of a text, each a kind and its lines.
export function blocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n"), found = [];
  for (let n = 0; n < lines.length;) {
    const from = n, line = lines[n++], fence = FENCE.exec(line);
    const more = (isIn) => { while (n < lines.length && isIn(lines[n])) n++; };
    let kind = "p";
    if (!line.trim()) continue;
    if (fence) {
      const close = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*$`);
      more((each) => !close.test(each));
      found.push({ kind: "pre", lines: lines.slice(from + 1, n++) });
      continue;
    }
    if (HEADING.test(line)) kind = "h";
    else if (RULE.test(line)) kind = "hr";
    else if (QUOTE.test(line)) more((each) => QUOTE.test(each)), kind = "blockquote";
    else if (ITEM.test(line)) {
      const isOrdered = /^\s*\d/.test(line);
      more((each) => {
        const item = ITEM.exec(each);
        if (item) return item[1] !== "" || /\d/.test(item[2]) === isOrdered;
        if (!each.trim()) return n + 1 < lines.length && /^(\s|[-*+]\s|\d{1,9}[.)]\s)/.test(lines[n + 1]);
        return /^\s/.test(each) || (lines[n - 1].trim() !== "" && !begins(lines, n));
      });
      kind = isOrdered ? "ol" : "ul";
    } else if (isTable(lines, from)) more((each) => each.includes("|")), kind = "table";
    else while (n < lines.length && lines[n].trim() && !begins(lines, n)) n++;
    found.push({ kind, lines: lines.slice(from, n) });
  }
  return found;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function list(parent, kind, lines, depth) {
  const element = make(kind, parent), items = [];
  if (kind === "ol") element.start = Number(/\d+/.exec(lines[0])[0]);
  let indent = 0;
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && (!items.length || item[1].length < indent)) {
      indent = item[0].length;
      items.push([line.slice(indent)]);
    } else items.at(-1).push(line.slice(Math.min(indent, /^ */.exec(line)[0].length)));
  }
  for (const item of items) {
    const parts = blocks(item.join("\n")), made = make("li", element);
    for (const part of parts) {
      if (part === parts[0] && part.kind === "p") inline(made, part.lines.join("\n"));
      else block(made, part, depth + 1);
    }
  }
}

function block(parent, { kind, lines }, depth) {
  if (depth > DEEPEST) make("p", parent, lines.join("\n"));
  else if (kind === "pre") make("code", make("pre", parent), lines.join("\n"));
  else if (kind === "hr") make("hr", parent);
  else if (kind === "h") {
    const [, marks, text] = HEADING.exec(lines[0]);
    inline(make(`h${marks.length}`, parent), text.replace(/[ \t]+#+[ \t]*$/, ""));
  } else if (kind === "blockquote") {
    const inner = make("blockquote", parent);
    for (const each of blocks(lines.map((line) => line.replace(/^ {0,3}> ?/, "")).join("\n"))) block(inner, each, depth + 1);
  } else if (kind === "table") {
    const around = make("div", parent), table = make("table", around);
    around.className = "table";
    lines.forEach((line, n) => {
      if (n === 1) return;
      const row = make("tr", table);
      for (const cell of cells(line)) inline(make(n ? "td" : "th", row), cell);
    });
  } else if (kind === "p") inline(make("p", parent), lines.join("\n"));
  else list(parent, kind, lines, depth);
}

// Show a text in an element. What has not changed since it was last shown there is left as it stands.
export function show(element, text) {
  const before = element.shown ?? [], now = blocks(text), keys = now.map((each) => each.kind + each.lines.join("\n"));
  let same = 0;
  while (same < keys.length && keys[same] === before[same]) same++;
  while (element.childNodes.length > same) element.lastChild.remove();
  for (const each of now.slice(same)) block(element, each, 0);
  element.shown = keys;
}

// The page: what is shown, and what its buttons do.

import { Refused, ask, events, setKey } from "./ask.js";
import * as chats from "./chats.js";
import { show } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const log = $("log"), text = $("text"), form = $("settings").elements;
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
const FIELDS = ["model", "system", "schema", ...NUMBERS];

let chat = chats.all()[0] ?? chats.fresh();
let running = null; // the AbortController of the answer under way
let models = []; // as /v1/models has them
let context = 0; // tokens that the model takes

function make(name, parent, words = "", className = "") {
  const element = document.createElement(name);
  element.textContent = words;
  if (className) element.className = className;
  parent?.append(element);
  return element;
}

function button(parent, words, action) {
  const element = make("button", parent, words);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

function tell(words, isBad = false) {
  $("status").textContent = words;
  $("status").classList.toggle("bad", isBad);
}

function guarded(action) {
  try {
    return action();
  } catch (error) {
    if (error instanceof chats.Full) {
      tell("There is no room for more: chats may take 4 MB here. Export and delete some; what was said last is not kept.", true);
    } else if (error instanceof TypeError) tell(error.message, true);
    else throw error;
  }
}

// conversations ---------------------------------------------------------------------------------------

function keep() {
  chat.time = Date.now();
  guarded(() => chats.save(chat));
  list();
}

function list() {
  $("chats").replaceChildren();
  for (const each of chats.all()) {
    const row = make("li", $("chats")), title = chats.titleOf(each);
    button(row, title, () => open(each.id)).setAttribute("aria-current", each.id === chat.id);
    button(row, "×", () => {
      if (!confirm(`Delete “${title}”?`)) return;
      chats.remove(each.id);
      if (each.id === chat.id) {
        chat.isGone = true;
        open(null);
      }
      list();
    }).setAttribute("aria-label", `Delete ${title}`);
  }
}

function open(id) {
  running?.abort();
  chat = (id && chats.load(id)) || chats.fresh();
  tell("");
  $("context").hidden = true;
  draw();
  list();
  text.focus();
}

// Show the conversation. What stands there already stays, so that screen readers do not read it again.
function draw() {
  const last = chat.messages.length - 1;
  let same = 0;
  for (; same <= last && log.children[same]?.message === chat.messages[same]; same++) {
    const again = log.children[same].querySelector(".again");
    if (same === last && !again) break;
    if (same < last) again?.remove();
  }
  while (log.children.length > same) log.lastChild.remove();
  for (let n = same; n <= last; n++) log.append(article(n));
  log.scrollTop = log.scrollHeight;
}

function article(n) {
  const message = chat.messages[n], isUser = message.role === "user", isLast = n === chat.messages.length - 1;
  const element = make("article", null, "", message.role);
  element.message = message;
  make("h2", element, isUser ? "You" : "Model", "who");
  element.said = make("div", null, "", "said");
  if (!isUser) {
    element.thoughts = make("details", element, "", "thoughts");
    make("summary", element.thoughts, "Thoughts");
    make("div", element.thoughts);
  }
  element.append(element.said);
  fill(element, message);
  const tools = make("div", element, "", "tools");
  button(tools, "Copy", () => copy(message.content));
  if (isUser) button(tools, "Edit", () => edit(element, n));
  if (isLast) button(tools, isUser ? "Answer" : "Regenerate", regenerate).className = "again";
  make("span", tools, message.stats ?? "", "stats");
  return element;
}

function fill(element, message) {
  if (message.role === "user") {
    element.said.textContent = message.content;
    return;
  }
  element.thoughts.hidden = !message.reasoning;
  element.thoughts.lastChild.textContent = message.reasoning ?? "";
  show(element.said, message.content);
}

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
  } catch { // not there on a page that came over plain HTTP from another machine
    const area = make("textarea", document.body, words);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell("Copied.");
}

function edit(element, n) {
  if (running) return;
  const area = make("textarea"), tools = make("div", null, "", "tools");
  area.value = chat.messages[n].content;
  area.rows = Math.min(12, area.value.split("\n").length + 1);
  area.setAttribute("aria-label", "Edited message");
  const again = () => area.value.trim() && answer([...chat.messages.slice(0, n), { role: "user", content: area.value }]);
  button(tools, "Send again", again);
  button(tools, "Cancel", draw);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") draw();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) again();
  });
  element.message = null;
  element.replaceChildren(area, tools);
  area.focus();
}

function regenerate() {
  const messages = [...chat.messages];
  if (messages.at(-1)?.role === "assistant") messages.pop();
  if (messages.length) answer(messages);
  if (running) $("stop").focus();
}

// answers ---------------------------------------------------------------------------------------------

// What the settings say of a request; null, told, where they cannot be read.
function wanted() {
  const found = {};
  for (const name of NUMBERS) {
    if (!form[name].checkValidity()) {
      $("settings-box").open = true;
      form[name].reportValidity();
      tell(`${name}: ${form[name].validationMessage}`, true);
      return null;
    }
    if (form[name].value !== "") found[name] = Number(form[name].value);
  }
  if (form.schema.value.trim()) {
    try {
      const schema = JSON.parse(form.schema.value);
      found.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    } catch (error) {
      tell(`The schema is not JSON: ${error.message}`, true);
      return null;
    }
  }
  return found;
}

// Have these messages answered; they become the conversation.
async function answer(messages) {
  const fields = running ? null : wanted();
  if (!fields) return false;
  const mine = chat, message = { role: "assistant", content: "" }, stop = running = new AbortController();
  mine.messages = messages;
  keep();
  const system = form.system.value.trim() ? [{ role: "system", content: form.system.value }] : [];
  const body = {
    ...fields, model: form.model.value || undefined, stream: true, stream_options: { include_usage: true },
    messages: [...system, ...messages.map(({ role, content }) => ({ role, content }))],
  };
  mine.messages = [...messages, message];
  draw();
  const element = log.lastChild;
  element.setAttribute("aria-busy", "true");
  $("send").hidden = true;
  $("stop").hidden = false;
  tell("Answering…");
  let frame = 0;
  const paint = () => {
    frame = 0;
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    fill(element, message);
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  };
  let usage, timings, reason, problem = "";
  try {
    const response = await ask("/v1/chat/completions", { body, signal: stop.signal, askKey, tell });
    tell("Answering…");
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      timings = event.timings ?? timings;
      const choice = event.choices[0];
      reason = choice?.finish_reason ?? reason;
      message.content += choice?.delta.content ?? "";
      if (choice?.delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + choice.delta.reasoning_content;
      frame ||= requestAnimationFrame(paint);
    }
  } catch (error) {
    if (!stop.signal.aborted) {
      problem = error instanceof Refused ? error.message : "The connection was lost.";
      if (!(error instanceof Refused)) console.warn(error);
    }
  }
  cancelAnimationFrame(frame);
  running = null;
  $("send").hidden = false;
  $("stop").hidden = true;
  message.stats = stats(usage, timings, stop.signal.aborted ? "stopped" : reason);
  if (!message.content && !message.reasoning && (problem || stop.signal.aborted)) mine.messages = messages;
  if (mine !== chat) { // another one was opened meanwhile
    if (!mine.isGone) guarded(() => chats.save(mine));
    return true;
  }
  tell(problem || (stop.signal.aborted ? "Stopped." : "Done."), Boolean(problem));
  meter(usage);
  keep();
  element.message = null;
  draw();
  if (document.activeElement === document.body) text.focus();
  return true;
}

function stats(usage, timings, reason) {
  const parts = [];
  if (timings) parts.push(`${timings.predicted_per_second.toFixed(1)} tokens/s`);
  if (usage) {
    parts.push(`${usage.completion_tokens} tokens`);
    parts.push(`${usage.prompt_tokens_details.cached_tokens} of ${usage.prompt_tokens} before them cached`);
  }
  if (reason === "length") parts.push("cut at the limit of tokens");
  if (reason === "stopped") parts.push("stopped");
  return parts.join(" · ");
}

function meter(usage) {
  $("context").hidden = !usage || !context;
  if (!usage || !context) return;
  $("meter").max = context;
  $("meter").high = 0.8 * context;
  $("meter").value = usage.total_tokens;
  $("used").textContent = `${usage.total_tokens} of ${context} tokens`;
}

// keys ------------------------------------------------------------------------------------------------

let asked = null; // the promise of a key that is being asked for

function askKey(why = "") {
  asked ??= new Promise((done) => {
    const dialog = $("key-dialog");
    $("key-title").textContent = why ? "The server asks for a key" : "API key";
    $("key-why").textContent = why && `The server says: ${why}.`;
    $("key-text").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener("close", () => { asked = null; done(dialog.returnValue === "given"); }, { once: true });
  });
  return asked;
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key-text").value.trim());
  $("key-text").value = "";
  $("key-dialog").close("given");
});
$("key-cancel").addEventListener("click", () => $("key-dialog").close(""));
$("key").addEventListener("click", () => askKey());

// the rest --------------------------------------------------------------------------------------------

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const content = text.value;
  if (!content.trim() || running) return;
  const asking = answer([...chat.messages, { role: "user", content }]);
  if (running) text.value = ""; // else the settings were wrong
  await asking;
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("stop").addEventListener("click", () => { running?.abort(); text.focus(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("key-dialog").open) running?.abort();
});
$("new").addEventListener("click", () => open(null));
$("export").addEventListener("click", () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([chats.exported()], { type: "application/json" }));
  link.download = "edgeq-chats.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
$("import").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const words = await $("file").files[0]?.text();
  $("file").value = "";
  if (words === undefined) return;
  const count = guarded(() => chats.imported(words));
  if (count !== undefined) tell(`${count} chats were read.`);
  list();
});
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("settings").addEventListener("input", () => {
  guarded(() => chats.keepSettings(Object.fromEntries(FIELDS.map((name) => [name, form[name].value]))));
  named();
});
window.addEventListener("storage", list);

// Tell of the model that is chosen.
function named() {
  const model = models.find(({ id }) => id === form.model.value);
  if (!model) return;
  context = model.meta.n_ctx;
  $("model").textContent = model.id;
  document.title = `${model.id} · edgeq`;
}

async function begin() {
  for (const [name, value] of Object.entries(chats.settings())) {
    if (FIELDS.includes(name) && typeof value === "string") form[name].value = value;
  }
  if (matchMedia("(max-width: 48rem)").matches) $("chats-box").open = $("settings-box").open = false;
  draw();
  list();
  try {
    models = (await (await ask("/v1/models", { askKey, tell })).json()).data;
    for (const { id } of models) make("option", form.model, id);
    const last = chats.settings().model;
    if (models.some(({ id }) => id === last)) form.model.value = last;
    $("models").hidden = models.length < 2;
    named();
  } catch (error) {
    tell(error.message, true);
  }
}

begin();

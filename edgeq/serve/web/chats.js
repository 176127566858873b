// Chats and settings in this browser. Each chat has an entry of its own, so that tabs do not overwrite each other's.

const CHAT = "edgeq.chat.", SETTINGS = "edgeq.settings";
const MOST = 4 << 20; // bytes of all chats, two a character

export class Full extends Error {}

const keys = () => Object.keys(localStorage).filter((key) => key.startsWith(CHAT));
const bytes = (key, value) => 2 * (key.length + value.length);

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const isText = (value) => typeof value === "string";

// A chat as this page made it, of whatever was read; null for what is none.
function chatOf(given) {
  if (!Array.isArray(given?.messages)) return null;
  const messages = given.messages
    .filter((each) => ["user", "assistant"].includes(each?.role) && isText(each.content))
    .map(({ role, content, reasoning, stats }) => ({
      role, content,
      ...(isText(reasoning) && { reasoning }),
      ...(isText(stats) && { stats }),
    }));
  return {
    id: isText(given.id) && /^[\w-]{1,64}$/.test(given.id) ? given.id : newId(),
    time: Number.isFinite(given.time) ? given.time : Date.now(),
    messages,
  };
}

const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((each) => each.toString(16).padStart(2, "0")).join("");

export const fresh = () => ({ id: newId(), time: Date.now(), messages: [] });

export const titleOf = (chat) => chat.messages[0]?.content.trim().split("\n")[0].slice(0, 60) || "New chat";

export const load = (id) => chatOf(read(localStorage.getItem(CHAT + id)));

// All chats, the newest first.
export const all = () => keys().map((key) => chatOf(read(localStorage.getItem(key)))).filter(Boolean)
  .sort((a, b) => b.time - a.time);

// Keep a chat. Full where there is no room; what was kept before stays.
export function save(chat) {
  const key = CHAT + chat.id, text = JSON.stringify(chat);
  const others = keys().filter((each) => each !== key).reduce((sum, each) => sum + bytes(each, localStorage.getItem(each)), 0);
  if (others + bytes(key, text) > MOST) throw new Full();
  try {
    localStorage.setItem(key, text);
  } catch {
    throw new Full();
  }
}

export const remove = (id) => localStorage.removeItem(CHAT + id);

export const exported = () => JSON.stringify({ format: "edgeq chats 1", chats: all() }, null, 1);

// Keep the chats of an exported file, and tell how many; one that is there already is kept beside.
export function imported(text) {
  const given = read(text)?.chats;
  if (!Array.isArray(given)) throw new TypeError("The file has no chats that this page exported.");
  const found = given.map(chatOf).filter(Boolean);
  for (const chat of found) {
    const there = localStorage.getItem(CHAT + chat.id);
    if (there === JSON.stringify(chat)) continue;
    if (there !== null) chat.id = newId();
    save(chat);
  }
  return found.length;
}

export const settings = () => read(localStorage.getItem(SETTINGS)) ?? {};

export function keepSettings(value) {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(value));
  } catch {
    throw new Full();
  }
}

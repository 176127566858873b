// Requests to the server that the page came from.

const KEY = "edgeq.key", TRIES = 20;

export const keyOf = () => sessionStorage.getItem(KEY) ?? "";
export const setKey = (key) => key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY);

export class Refused extends Error {}

const pause = (ms, signal) => new Promise((done, fail) => {
  signal?.throwIfAborted();
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); fail(signal.reason); }, { once: true });
});

async function sentence(response) {
  try {
    const { error } = await response.json();
    return String(error.message ?? error);
  } catch {
    return `the server said ${response.status}`;
  }
}

// An answer that is 200. askKey(why) resolves to whether there is a key now; tell(text) is told while it waits
// for a server that is busy or not ready. Refused for what cannot be helped.
export async function ask(path, { body, signal, askKey, tell }) {
  for (let tries = 0; ; tries++) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (keyOf()) headers.Authorization = `Bearer ${keyOf()}`;
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
    } catch (error) {
      signal?.throwIfAborted();
      throw new Refused("The server does not answer.");
    }
    if (response.ok) return response;
    const why = await sentence(response);
    if (response.status === 401) {
      if (!await askKey(why)) throw new Refused(why);
    } else if ([429, 503].includes(response.status) && tries < TRIES) {
      const wait = Math.min(Math.max(Number(response.headers.get("Retry-After")) || 2, 1), 120);
      for (let left = wait; left > 0; left--) {
        tell(`The server is busy (${why}). Trying again in ${left} s.`);
        await pause(1000, signal);
      }
      tell("");
    } else throw new Refused(why);
  }
}

// The events of a stream. Refused where it tells an error, or ends before it is done.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) throw new Refused("The answer was cut off.");
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        if (part === "data: [DONE]") return;
        const event = JSON.parse(part.slice(6));
        if (event.error) throw new Refused(String(event.error.message));
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

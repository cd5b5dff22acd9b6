// The service worker by itself: what it answers when the station does, does not, or hangs.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const CODE = readFileSync(new URL("../../edge_runtime/serve/assets/sw.js", import.meta.url), "utf8");
const never = () => new Promise(() => {});
const answer = (body) => ({ ok: true, body, clone: () => answer(body) });

/** A worker whose requests `fetch(url, timeout)` answers, with `kept` in its cache. */
function worker(fetch, kept) {
  const handlers = {}, timers = [], store = new Map(Object.entries(kept));
  const self = {
    location: { origin: "http://station" }, registration: { scope: "http://station/" },
    addEventListener: (name, handler) => { handlers[name] = handler; },
  };
  const caches = {
    match: async ({ url }) => store.get(url),
    open: async () => ({ put: async ({ url }, response) => { store.set(url, response); } }),
  };
  // A clock that the test winds: no time passes here.
  const timeout = (ms) => ({ ms, ended: new Promise((resolve) => timers.push(resolve)) });
  vm.runInNewContext(CODE, {
    self, caches, location: self.location, URL, Promise, Error,
    AbortSignal: { timeout },
    fetch: (request, options) => {
      const late = options?.signal?.ended.then(() => { throw new Error("timed out"); }) ?? never();
      return Promise.race([fetch(request.url ?? request), late]);
    },
  });
  return {
    store,
    wind: () => timers.forEach((end) => end()),
    ask(url) {
      let reply;
      handlers.fetch({ request: { method: "GET", url }, respondWith: (promise) => { reply = promise; } });
      return reply;
    },
  };
}

const PAGE = "http://station/app.js";

test("a station that answers is asked first, and its answer is kept", async () => {
  const { ask, store } = worker(async () => answer("new"), { [PAGE]: answer("old") });
  assert.equal((await ask(PAGE)).body, "new");
  assert.equal(store.get(PAGE).body, "new");
});

test("a station that refuses is replaced by what is kept", async () => {
  const { ask } = worker(async () => { throw new Error("refused"); }, { [PAGE]: answer("old") });
  assert.equal((await ask(PAGE)).body, "old");
  await assert.rejects(ask("http://station/style.css"), /refused/);
});

test("a station that hangs is replaced by what is kept", async () => {
  const { ask, wind } = worker(never, { [PAGE]: answer("old") });
  const reply = ask(PAGE);
  await new Promise(setImmediate);
  wind();
  assert.equal((await reply).body, "old");
});

test("a station that is starting is waited for", async () => {
  let ready;
  const bundle = new Promise((resolve) => { ready = resolve; });
  const url = "http://station/v1/bundle";
  const { ask, wind } = worker(async (path) => (path === "healthz" ? { ok: false } : bundle), { [url]: answer("old") });
  const reply = ask(url);
  await new Promise(setImmediate);
  wind();
  await new Promise(setImmediate);
  ready(answer("new"));
  assert.equal((await reply).body, "new");
});

// The station's API.

export class StationError extends Error {
  constructor(status, message, frames) {
    super(message);
    this.status = status;
    this.frames = frames; // how many the file holds, where the station must be told which one
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new StationError(0, "The station does not answer. Is it running?");
  }
  if (response.status === 204) return null;
  let body;
  try {
    body = await response.json();
  } catch {
    throw new StationError(response.status, `The station answered ${response.status} without a reason.`);
  }
  if (!response.ok) throw new StationError(response.status, body.error ?? `The station answered ${response.status}.`, body.frames);
  return body;
}

export const bundleInfo = () => ask("v1/bundle");

export const login = (token) => ask("v1/session", { method: "POST", body: JSON.stringify({ token }) });

/** Classify and explain one file; `frame` is a number from 1 and needed for a file of several. */
export function explain(blob, { views = 1, crop = false, preview = false, frame = null } = {}) {
  const form = new FormData();
  form.append("image", blob, "upload");
  const query = new URLSearchParams({ views, crop: crop ? "auto" : "none", preview: preview ? 1 : 0 });
  if (frame) query.set("frame", frame);
  return ask(`v1/explain?${query}`, { method: "POST", body: form });
}

/** Live frames: `send(blob)`, answers go to `onAnswer`; at most two frames are under way at a time. */
export class LiveStream {
  constructor(crop, views, onAnswer, onClose) {
    const url = new URL("v1/live", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (crop) url.searchParams.set("crop", "auto");
    url.searchParams.set("views", views);
    this.open = 0;
    this.socket = new WebSocket(url);
    this.socket.addEventListener("message", (event) => {
      this.open = Math.max(0, this.open - 1);
      onAnswer(JSON.parse(event.data));
    });
    this.socket.addEventListener("close", onClose);
  }

  get ready() {
    return this.socket.readyState === WebSocket.OPEN && this.open < 2;
  }

  send(blob) {
    this.open++;
    this.socket.send(blob);
  }

  close() {
    this.socket.close();
  }
}

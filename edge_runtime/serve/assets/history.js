// The results of this visit, in memory only.

const SYMBOLS = { suspicious: "▲", not_suspicious: "●", uncertain: "?", refused: "⊘", error: "!", busy: "…", idle: "–" };
export const symbolOf = (code) => SYMBOLS[code] ?? "–";
export const percent = (value) => `${(100 * value).toFixed(1)} %`;

export class History {
  constructor(list) {
    this.list = list;
    this.entries = [];
    this.names = {}; // of the verdicts, from the bundle's words
  }

  add(answer, picture, heat, opacity) {
    const entry = { number: this.entries.length + 1, time: new Date().toISOString(), answer };
    this.entries.push(entry);
    entry.item = document.createElement("li");
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, 480 / Math.max(picture.width, picture.height));
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = opacity;
    context.drawImage(heat, 0, 0, canvas.width, canvas.height);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Picture ${entry.number} with its heat map`);
    entry.text = document.createElement("div");
    entry.item.append(canvas, entry.text);
    this.list.prepend(entry.item);
    this.update(entry, answer);
    return entry;
  }

  update(entry, answer) {
    entry.answer = answer;
    const title = document.createElement("strong");
    title.textContent = `${entry.number}. ${symbolOf(answer.verdict)} ${this.names[answer.verdict].name}`;
    const line = document.createElement("div");
    const band = answer.band ? ` (${percent(answer.band.low)} to ${percent(answer.band.high)})` : "";
    line.textContent = answer.probability === null ? answer.text
      : `${percent(answer.probability)}${band}, threshold ${percent(answer.threshold)}`;
    const part = answer.frame_of_file ? ` · frame ${answer.frame_of_file.join(" of ")}` : "";
    const foot = document.createElement("div");
    foot.className = "small";
    foot.textContent = `${new Date(entry.time).toLocaleTimeString()} · ${answer.artifact} · ${answer.where}${part}`;
    entry.text.replaceChildren(title, line, foot);
  }

  clear() {
    this.entries = [];
    this.list.replaceChildren();
  }

  /** What "Save JSON" writes: answers without pictures and without maps. */
  toJson(info) {
    return JSON.stringify({
      intended_use: info.intended_use,
      bundle: { name: info.name, digest: info.digest },
      results: this.entries.map(({ number, time, answer }) => {
        const { explanation, preview, ...rest } = answer;
        return { number, time, ...rest, logit_shares: explanation?.logit_shares };
      }),
    }, null, 2);
  }
}

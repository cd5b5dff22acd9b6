// The figures and sentences beside a picture.
import { $ } from "./controls.js";

export function hintItems(result) {
  const items = result.hints.map(({ text }) => [text, ""]);
  if (!items.length && !result.reasons.length) items.push(["Picture quality: nothing to change.", "fine"]);
  return items.map(([text, className]) => Object.assign(document.createElement("li"), { textContent: text, className }));
}

/** What stands below the picture: of the answer, if there is one, and of the model, once it is known. */
export function showFacts({ answer, info, engine, skipped }) {
  const rows = [];
  if (answer) {
    const total = Object.values(answer.latency_ms).reduce((sum, value) => sum + value, 0);
    const parts = Object.entries(answer.latency_ms).map(([name, value]) => `${name} ${value.toFixed(1)}`).join(", ");
    rows.push(["Time", `${total.toFixed(0)} ms (${parts})`]);
    if (answer.frame !== undefined) rows.push(["Frames", `${answer.frame} sent, ${answer.dropped} dropped by the station, ${skipped} not sent`]);
    if (answer.frame_of_file) rows.push(["Frame", `${answer.frame_of_file[0]} of ${answer.frame_of_file[1]} of this file`]);
    const { gate } = answer;
    if (gate) rows.push(["Unlike training", `${gate.distance?.toFixed(3) ?? "–"} (flagged above ${gate.warning.toFixed(3)}, refused above ${gate.threshold.toFixed(3)})`]);
    const shares = answer.explanation?.logit_shares;
    if (shares) rows.push(["Logit", `${answer.logit.toFixed(2)} = ${Object.entries(shares).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" + ")}`]);
  }
  if (info) {
    const artifact = answer?.artifact ?? info.artifact;
    rows.push(["Model", `${info.name}, ${artifact}`]);
    rows.push(["Computed by", engine === "server" ? `station, ${info.device.interpreter ?? info.runtime}` : "this browser, LiteRT.js"]);
    rows.push(["Digest", info.digest]);
  }
  $("facts").replaceChildren(...rows.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
}

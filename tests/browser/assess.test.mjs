// assess.js against what Python computes (tests/vectors): verdicts, picture quality, the gate.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { assess, hints, judge, measure, readGate } from "../../edge_runtime/serve/assets/model/assess.js";

const file = (name) => readFileSync(new URL(name, import.meta.url));
const vectors = (name) => JSON.parse(file(`../vectors/${name}.json`));
const near = (value, wanted, name) => assert.ok(Math.abs(value - wanted) <= 1e-4 * Math.max(1, Math.abs(wanted)), `${name}: ${value}, ${wanted}`);

test("every combination of gate, hints, band and probability gives Python's verdict", () => {
  const { labels, positive_label, threshold, gates, hints: found, bands, probabilities, assessments, expected } = vectors("assess");
  const info = { words: JSON.parse(file("../../edge_runtime/words/en.json")), labels, positive_label };
  let place = 0;
  for (const gate of gates) {
    const where = gate && { ...gate, distance: gate.distance ?? NaN };
    for (const codes of found) for (const band of bands) for (const probability of probabilities) {
      const wanted = assessments[Number(expected[place++])];
      assert.deepEqual(assess(info, probability, threshold, { gate: where, hints: codes, band }), wanted);
    }
  }
  assert.equal(place, expected.length);
});

/** `drawn` of scripts/vectors/generated.py. */
function drawn([kind, height, width, seed]) {
  const ramp = (x, y) => Math.floor(Math.abs(x - (width >> 1)) * 32 / width) + Math.floor(Math.abs(y - (height >> 1)) * 32 / height);
  const noise = (i, own) => {
    const n = Number((BigInt(i + own) * 2654435761n) & 0xffffffffn);
    const pixel = Math.floor(i / 3);
    return ((n >>> 26) + (own % 2 ? 3 : 1) * ramp(pixel % width, Math.floor(pixel / width))) & 255;
  };
  const rgb = new Uint8Array(height * width * 3);
  for (let i = 0; i < rgb.length; i++) {
    const pixel = Math.floor(i / 3), x = pixel % width, y = Math.floor(pixel / width), green = 3 * pixel + 1;
    rgb[i] = kind === "noise" ? noise(i, seed) : kind === "grey" ? noise(green, seed)
      : kind === "mixed" ? noise(green, y < height >> 1 ? seed : seed + 1) : kind === "flat" ? seed
        : kind === "board" ? (Math.floor(x / seed) + Math.floor(y / seed)) % 2 * 255 : 2 * (seed % 2 ? 3 : 1) * ramp(x, y);
  }
  return rgb;
}

test("picture quality is measured as in Python", () => {
  for (const { picture, hints: wanted, ...measures } of vectors("quality")) {
    const [, height, width] = picture, found = measure(drawn(picture), width, height);
    for (const [name, value] of Object.entries(measures)) near(found[name], value, `${picture} ${name}`);
    assert.deepEqual(hints(found, width, height), wanted, `${picture}`);
  }
});

test("the gate is read from domain.npz and measures as in Python", async () => {
  const bytes = new Uint8Array(file("../vectors/bundle/domain.npz"));
  assert.equal(await readGate(bytes, "onnx-fp32"), null);
  for (const { artifact, maps, ...wanted } of vectors("gate")) {
    const gate = await readGate(bytes, artifact);
    const arrays = Object.fromEntries(Object.entries(maps).map(([name, { data, shape }]) =>
      [name, { data: new Float32Array(new Uint8Array(Buffer.from(data, "base64")).buffer), shape }]));
    const found = judge(gate, arrays);
    for (const [name, value] of Object.entries(wanted)) near(found[name], value, name);
  }
});

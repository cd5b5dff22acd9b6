// Offline mode: the bundle's TensorFlow Lite files run in this tab through LiteRT.js, no server needed.
import { assess, hints, judge, measure, readGate, overTime } from "./assess.js";
import { detectRegion } from "./region.js";
import { resizeRgb, rgbOverBlack } from "./resize.js";
import { Smoother } from "./smoothing.js";

const SHAVE = 0.04;
let opened = null;

async function bytesOf(path, sha256) {
  const response = await fetch(path);
  if (!response.ok) throw new Error("The model is not kept in this browser, and the station does not answer.");
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (globalThis.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (text !== sha256) throw new Error("A file of the model is damaged (SHA-256 differs).");
  }
  return bytes;
}

/** The artifact that runs here: the station's own where it is one for browsers, else the first that is. */
export function browserArtifact(info) {
  return info.browser_artifacts.find((a) => a.name === info.artifact) ?? info.browser_artifacts[0];
}

/** The digest is part of the address, so that a kept file of an older bundle is never mistaken for this one. */
const modelUrl = (path, sha256) => `bundle/${path}?sha256=${sha256}`;

/** Everything that offline mode fetches. */
export function offlineUrls(info) {
  const { backbone, head, gate } = browserArtifact(info);
  const files = [backbone, head, gate].filter(Boolean).map(({ path, sha256 }) => modelUrl(path, sha256));
  return [...files, "litert/index.js",
    "litert/wasm-utils.js", ...["", "_compat"].flatMap((kind) =>
      ["js", "wasm"].map((suffix) => `litert/wasm/litert_wasm${kind}_internal.${suffix}`))];
}

/** Load LiteRT.js and both files of the model; later calls return the same. */
export function openModel(info) {
  opened ??= load(info).catch((error) => {
    opened = null;
    throw error;
  });
  return opened;
}

async function load(info) {
  const artifact = browserArtifact(info);
  if (!artifact || !info.offline) throw new Error("This station has no files for offline mode.");
  const litert = await import("../litert/index.js");
  await litert.loadLiteRt(new URL("litert/wasm/", location.href).href);
  const options = { accelerator: "wasm" };
  const [backbone, head] = await Promise.all(
    [artifact.backbone, artifact.head].map(async ({ path, sha256 }) =>
      litert.loadAndCompile(await bytesOf(modelUrl(path, sha256), sha256), options)),
  );
  const kept = artifact.gate && await bytesOf(modelUrl(artifact.gate.path, artifact.gate.sha256), artifact.gate.sha256);
  return { litert, artifact, backbone, head, gate: kept ? await readGate(kept, artifact.name) : null };
}

async function run(litert, model, arrays) {
  const tensors = {};
  for (const { name, shape } of model.getInputDetails()) tensors[name] = new litert.Tensor(arrays[name], shape);
  let results;
  try {
    results = await model.run(tensors);
    const outputs = {};
    for (const { name, shape } of model.getOutputDetails()) {
      outputs[name] = { data: Float32Array.from(results[name].toTypedArray()), shape: Array.from(shape) };
    }
    return outputs;
  } finally {
    // Manual memory: without this every frame would leak.
    for (const tensor of [...Object.values(tensors), ...Object.values(results ?? {})]) tensor.delete();
  }
}

async function forward(model, info, rgb, width, height) {
  const start = performance.now();
  const input = Float32Array.from(resizeRgb(rgb, width, height, info.input.width, info.input.height));
  const resized = performance.now();
  const maps = await run(model.litert, model.backbone, { image: input });
  const invoked = performance.now();
  const outputs = await run(model.litert, model.head, Object.fromEntries(Object.entries(maps).map(([k, v]) => [k, v.data])));
  if (info.branches.length === 1) {
    // The fused map is the only branch's: one tensor with two names, of which LiteRT.js knows one.
    const own = `cam_${info.branches[0].name}`;
    outputs.cam ??= outputs[own];
    outputs[own] ??= outputs.cam;
  }
  const done = performance.now();
  return { outputs, maps, latency: { resize: resized - start, invoke: invoked - resized, head: done - invoked } };
}

/** The pixels inside a box. */
function part({ rgb, width }, [left, top, right, bottom]) {
  const out = new Uint8Array((right - left) * (bottom - top) * 3);
  for (let y = top; y < bottom; y++) {
    out.set(rgb.subarray((y * width + left) * 3, (y * width + right) * 3), (y - top) * (right - left) * 3);
  }
  return { rgb: out, width: right - left, height: bottom - top };
}

/** The same crops as the station's (edge_runtime/model/assess.py). */
export function shiftedBoxes(width, height, count) {
  const round = (x) => (Math.abs((x % 1) - 0.5) < 1e-9 ? 2 * Math.round(x / 2) : Math.round(x)); // as Python rounds
  const dy = Math.max(1, round(SHAVE * height)), dx = Math.max(1, round(SHAVE * width));
  if (dy >= height || dx >= width) return [];
  const halfX = Math.floor(dx / 2), halfY = Math.floor(dy / 2);
  return [[0, 0], [dy, dx], [0, dx], [dy, 0], [0, halfX], [dy, halfX], [halfY, 0], [halfY, dx]]
    .slice(0, count).map(([y, x]) => [x, y, x + width - dx, y + height - dy]);
}

const grid = ({ data, shape }) => Array.from({ length: shape[1] }, (_, y) =>
  Array.from(data.subarray(y * shape[2], (y + 1) * shape[2])));

export async function pixelsOf(blob) {
  let bitmap;
  const start = performance.now();
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("This browser cannot decode that file. DICOM and TIFF need the station.");
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { width, height } = bitmap;
  const rgb = rgbOverBlack(context.getImageData(0, 0, width, height).data);
  bitmap.close();
  return { rgb, width, height, decode: performance.now() - start };
}

/** The station's answer, computed here. A refused picture has no numbers and no heat map. */
export async function explain(info, blob, { views = 1, crop = false } = {}) {
  const model = await openModel(info);
  const picture = await pixelsOf(blob), { decode } = picture;
  const region = crop ? detectRegion(picture.rgb, picture.width, picture.height) : null;
  const { rgb, width, height } = region ? part(picture, region) : picture;
  const { outputs, maps, latency } = await forward(model, info, rgb, width, height);
  const probability = outputs.probability.data[0], logit = outputs.logit.data[0];
  if (!Number.isFinite(probability) || !Number.isFinite(logit)) throw new Error("The model did not answer with a number.");
  const { threshold } = model.artifact;
  const gate = model.gate && judge(model.gate, maps);
  const found = hints(measure(rgb, width, height), width, height);
  let assessment = assess(info, probability, threshold, { gate, hints: found });
  const refused = assessment.verdict === "refused";
  if (refused) views = 1;
  const probabilities = [probability];
  for (const box of shiftedBoxes(width, height, views - 1)) {
    const shifted = part({ rgb, width }, box);
    const view = await forward(model, info, shifted.rgb, shifted.width, shifted.height);
    probabilities.push(view.outputs.probability.data[0]);
  }
  const positive = info.positive_label, negative = info.labels.find((label) => label !== positive);
  const band = probabilities.length > 1
    ? { low: Math.min(...probabilities), high: Math.max(...probabilities), views: probabilities.length } : null;
  if (band) assessment = assess(info, probability, threshold, { gate, hints: found, band });
  const shares = {};
  for (const name of [...info.branches.map((branch) => branch.name), "bias"]) shares[name] = outputs[`share_${name}`].data[0];
  return {
    image: "upload", probability: refused ? null : probability, logit: refused ? null : logit,
    threshold, artifact: model.artifact.name,
    label: refused ? null : probability >= threshold ? positive : negative,
    latency_ms: { decode, ...latency },
    ...assessment, gate, band, hints: found.map((code) => ({ code, text: info.words.hints[code] })),
    image_size: [picture.height, picture.width], crop: region,
    explanation: refused ? null : {
      logit_shares: shares,
      maps: Object.fromEntries([["fused", grid(outputs.cam)],
        ...info.branches.map(({ name }) => [name, grid(outputs[`cam_${name}`])])]),
    },
    intended_use: info.intended_use,
  };
}

/** Live frames, one at a time, with the station's filter; the same form as remote.js's. */
export class LiveStream {
  constructor(info, wish, onAnswer, onError) {
    Object.assign(this, { info, wish, onAnswer, onError, smoother: new Smoother(), frame: 0, ready: true });
  }

  async send(blob) {
    this.ready = false;
    const frame = ++this.frame, when = performance.now() / 1000;
    try {
      const own = await explain(this.info, blob, this.wish);
      this.onAnswer({ ...own, ...this.overTime(own, when), frame, dropped: 0 });
    } catch (error) {
      this.onError(error);
    }
    this.ready = true;
  }

  /** A refused frame leaves the filter as it is. */
  overTime(own, when) {
    if (own.logit === null) return { smoothed: null, recent: null };
    const { smoothed, recent } = this.smoother.add(own.logit, when);
    const { verdict, reasons, text } = overTime(this.info, own, smoothed, own.threshold);
    return { smoothed, recent, verdict, reasons, text };
  }

  close() {}
}

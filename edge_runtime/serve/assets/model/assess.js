// The station's verdict in this browser: edge_runtime/model/assess.py, quality.py and domain.py, number by number.

const SPEAK_AGAINST_B_MODE = new Set(["flat", "colour", "speckle"]);
const CUT_OFF = 4;

/** Verdict, reasons and text, from the same table as edge_runtime/model/assess.py. */
export function assess(info, probability, threshold, { gate = null, hints = [], band = null } = {}) {
  const reasons = [];
  if (gate && !(gate.distance <= gate.threshold)) reasons.push("outside_training");
  else if (gate && !(gate.distance <= Math.min(gate.warning, gate.threshold))) reasons.push("unlike_training");
  if (hints.some((code) => SPEAK_AGAINST_B_MODE.has(code))) reasons.push("not_b_mode");
  if (reasons.includes("outside_training") || reasons.length === 2) return inWords(info, "refused", reasons);
  if (!reasons.length && band && band.low < threshold && threshold <= band.high) reasons.push("shifted_view");
  if (reasons.length) return inWords(info, "uncertain", reasons);
  return inWords(info, probability >= threshold ? "suspicious" : "not_suspicious", []);
}

/** edge_runtime.model.assess.over_time: the verdict on a frame of a stream. */
export const overTime = (info, own, smoothed, threshold) => (own.reasons.length ? own : assess(info, smoothed, threshold));

function inWords({ words, labels, positive_label: positive }, verdict, reasons) {
  const label = verdict === "suspicious" ? positive : labels.find((name) => name !== positive);
  const clauses = reasons.map((reason) => words.reasons[reason]).join(words.and);
  const text = words.verdicts[verdict].text.replace("{reasons}", () => clauses).replace("{label}", () => label);
  return { verdict, reasons, text };
}

// --- picture quality ---------------------------------------------------------------------------------------------

const MIDDLE = 192;

/** edge_runtime.imaging.quality.measure of interleaved RGB. */
export function measure(rgb, width, height) {
  const step = Math.max(1, Math.floor(Math.min(width, height) / 96));
  let sum = 0, squares = 0, coloured = 0, count = 0;
  for (let y = 0; y < height; y += step) {
    for (let x = 0; x < width; x += step, count++) {
      const at = 3 * (y * width + x), red = rgb[at], green = rgb[at + 1], blue = rgb[at + 2];
      const level = (red + green + blue) / 3;
      sum += level;
      squares += level * level;
      coloured += Math.max(red, green, blue) - Math.min(red, green, blue) > 48;
    }
  }
  const brightness = sum / count;
  const contrast = Math.sqrt(Math.max(0, squares / count - brightness * brightness));
  const top = Math.max(0, Math.floor((height - MIDDLE) / 2)), left = Math.max(0, Math.floor((width - MIDDLE) / 2));
  const bottom = Math.min(height, top + MIDDLE), right = Math.min(width, left + MIDDLE);
  const green = (y, x) => rgb[3 * (y * width + x) + 1];
  const grain = [];
  let written = 0, inside = 0, echo = 0;
  for (let y = top + 1; y < bottom - 1; y++) {
    for (let x = left + 1; x < right - 1; x++, inside++) {
      const here = green(y, x), up = green(y - 1, x), down = green(y + 1, x), before = green(y, x - 1), after = green(y, x + 1);
      const around = (up + down + before + after) / 4;
      if (around > 20 && around < 235 && echo++ % 4 === 0) grain.push(Math.fround(Math.abs(here - around) / around));
      written += here > 240 && Math.min(up, down, before, after) < here - 90;
    }
  }
  return { brightness, contrast, speckle: median(grain), colour: coloured / count, overlay: inside > 0 ? written / inside : 0 };
}

function median(values) {
  if (!values.length) return 0;
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** edge_runtime.imaging.quality.hints: codes. */
export function hints(quality, width, height) {
  const found = {
    small: Math.min(width, height) < 120,
    dark: quality.brightness < 24,
    bright: quality.brightness > 170,
    flat: quality.contrast < 12,
    colour: quality.colour > 0.03,
    speckle: quality.speckle < 0.018,
    overlay: quality.overlay > 0.002,
  };
  return Object.keys(found).filter((code) => found[code]);
}

// --- the gate ------------------------------------------------------------------------------------------------------

/** domain.npz for one artifact; null where it has no limits for it. */
export async function readGate(bytes, artifact) {
  const arrays = await readNpz(bytes);
  if (!(`threshold.${artifact}` in arrays)) return null;
  const { branches, mean, inverse_std: inverseStd, components, variances, noise } = arrays;
  return {
    branches: branches.data, mean: mean.data, inverseStd: inverseStd.data, components: components.data,
    variances: variances.data, noise: noise.data[0],
    threshold: arrays[`threshold.${artifact}`].data[0], warning: arrays[`warning.${artifact}`].data[0],
  };
}

/** Where a picture lies, from its maps ({data, shape: [1, h, w, c]} by branch). */
export function judge(gate, maps) {
  const z = [];
  for (const branch of gate.branches) {
    const { data, shape } = maps[branch], channels = shape[3], pooled = new Float64Array(channels);
    data.forEach((value, index) => { pooled[index % channels] += value; });
    const cells = data.length / channels;
    const length = Math.max(Math.hypot(...pooled.map((value) => value / cells)), 1e-12);
    for (const value of pooled) {
      const place = (value / cells / length - gate.mean[z.length]) * gate.inverseStd[z.length];
      z.push(Math.min(CUT_OFF, Math.max(-CUT_OFF, place)));
    }
  }
  let rest = z.reduce((sum, value) => sum + value * value, 0), distance = 0;
  gate.variances.forEach((variance, row) => {
    let score = 0;
    for (let i = 0; i < z.length; i++) score += gate.components[row * z.length + i] * z[i];
    rest -= score * score;
    distance += score * score / variance;
  });
  distance = (distance + Math.max(rest, 0) / gate.noise) / z.length;
  return { distance, warning: gate.warning, threshold: gate.threshold };
}

/** Arrays of a .npz file as NumPy writes it, stored or deflated. */
export async function readNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("The model's gate cannot be read.");
  const arrays = {};
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true)];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = bytes.subarray(start, start + size);
    arrays[name.replace(/\.npy$/, "")] = readNpy(method === 0 ? packed : await inflate(packed));
    at += 46 + nameLength + extra + comment;
  }
  return arrays;
}

async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** float16 and float32 as Float32Array, text as an array of strings. */
function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6] > 1, length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (long ? 12 : 10) + length;
  const header = new TextDecoder().decode(bytes.subarray(start - length, start));
  const [, kind, size] = /'descr': '[<|]([fU])(\d+)'/.exec(header) ?? [];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((text) => text.trim()).map(Number);
  const count = shape.reduce((product, side) => product * side, 1);
  const data = kind === "U" ? [] : new Float32Array(count);
  for (let i = 0; i < count; i++) {
    if (kind === "U") {
      const codes = Array.from({ length: Number(size) }, (_, k) => view.getUint32(start + 4 * (i * size + k), true));
      data.push(String.fromCodePoint(...codes).replace(/\0+$/, ""));
    } else if (kind === "f" && size === "4") data[i] = view.getFloat32(start + 4 * i, true);
    else if (kind === "f" && size === "2") data[i] = half(view.getUint16(start + 2 * i, true));
    else throw new Error("The model's gate holds an unknown kind of number.");
  }
  return { data, shape };
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

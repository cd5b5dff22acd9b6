// Pillow's antialiased BILINEAR resize, bit for bit: the bundle's rule "pillow-bilinear-antialiased-stretch".
// Two passes, across and then down; 8-bit images use weights of 22 fractional bits and round after each pass.

const PRECISION_BITS = 22;

/** First source index and weights of every target index. */
function weights(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  const rows = [];
  for (let target = 0; target < to; target++) {
    const center = (target + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(from, Math.trunc(center + support + 0.5));
    const row = new Float64Array(end - first);
    let sum = 0;
    for (let x = 0; x < row.length; x++) {
      const distance = Math.abs((x + first - center + 0.5) * (1 / support));
      row[x] = distance < 1 ? 1 - distance : 0;
      sum += row[x];
    }
    for (let x = 0; x < row.length; x++) row[x] /= sum;
    rows.push({ first, row });
  }
  return rows;
}

function pass(source, lines, from, to, channels, stride, step, target, targetStride, targetStep, integer) {
  const table = weights(from, to);
  const fixed = integer
    ? table.map(({ first, row }) => ({ first, row: Int32Array.from(row, (w) => Math.trunc(0.5 + w * (1 << PRECISION_BITS))) }))
    : table;
  for (let line = 0; line < lines; line++) {
    for (let index = 0; index < to; index++) {
      const { first, row } = fixed[index];
      for (let channel = 0; channel < channels; channel++) {
        let sum = integer ? 1 << (PRECISION_BITS - 1) : 0;
        let at = line * stride + first * step + channel;
        for (let x = 0; x < row.length; x++, at += step) sum += source[at] * row[x];
        target[line * targetStride + index * targetStep + channel] = integer ? Math.min(255, Math.max(0, sum >> PRECISION_BITS)) : sum;
      }
    }
  }
  return target;
}

function resize(source, width, height, toWidth, toHeight, channels, ArrayType, integer) {
  const across = (data, rows) => toWidth === width ? data
    : pass(data, rows, width, toWidth, channels, width * channels, channels,
      new ArrayType(toWidth * rows * channels), toWidth * channels, channels, integer);
  const down = (data, columns) => toHeight === height ? data
    : pass(data, columns, height, toHeight, channels, channels, columns * channels,
      new ArrayType(columns * toHeight * channels), channels, columns * channels, integer);
  // Pillow 13 goes down first where the height shrinks by more than twice what the width does. Before, it always
  // went across first; the results differ by the rounding in between, one grey level at most.
  if (height - toHeight > Math.max(0, 2 * (width - toWidth))) return across(down(source, width), toHeight);
  return down(across(source, height), toWidth);
}

/** Uint8Array RGB (height * width * 3) -> Uint8Array RGB (toHeight * toWidth * 3). */
export function resizeRgb(source, width, height, toWidth, toHeight) {
  return resize(source, width, height, toWidth, toHeight, 3, Uint8Array, true);
}

/** Float32Array (height * width) -> Float32Array (toHeight * toWidth): Pillow's mode "F". */
export function resizeFloat(source, width, height, toWidth, toHeight) {
  return resize(source, width, height, toWidth, toHeight, 1, Float32Array, false);
}

/** RGBA pixels composited over black, the ground of an ultrasound picture: Uint8Array RGB. */
export function rgbOverBlack(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      rgb[to + channel] = alpha === 255 ? rgba[from + channel] : Math.round((rgba[from + channel] * alpha) / 255);
    }
  }
  return rgb;
}

// Heat maps on the picture, with the same rule and colours as `sonoedge predict --explain`.
import { resizeFloat } from "./resize.js";

/** A signed map (rows of numbers) as heat 0–1 for one class, stretched to width x height; zero stays zero. */
export function heatMap(grid, sign, width, height) {
  const rows = grid.length, columns = grid[0].length;
  const unit = new Float32Array(rows * columns);
  let peak = 0;
  grid.forEach((row, y) => row.forEach((value, x) => {
    unit[y * columns + x] = Math.max(0, sign * value);
    peak = Math.max(peak, unit[y * columns + x]);
  }));
  if (!(peak > 0)) return new Float32Array(width * height);
  for (let i = 0; i < unit.length; i++) unit[i] /= peak;
  const heat = resizeFloat(unit, columns, rows, width, height);
  let top = 0;
  for (const value of heat) top = Math.max(top, value);
  return heat.map((value) => value / top);
}

/** Paint heat with transparency by heat, so that cold regions show the picture as it is. */
export function paintHeat(canvas, heat, width, height, colormap, box) {
  const image = new ImageData(width, height);
  for (let i = 0; i < heat.length; i++) {
    const [red, green, blue] = colormap[Math.round(heat[i] * 255)];
    image.data.set([red, green, blue, Math.round(heat[i] * 255)], 4 * i);
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.putImageData(image, box[0], box[1]);
}

// The scan area of a screen: edge_runtime/imaging/region.py, number by number.

const CELLS = 64, LIT = 12, CELL_SHARE = 0.3, SMALLEST = 0.10, LARGEST = 0.97;

/** [left, top, right, bottom] of the largest connected lit area of interleaved RGB; null where that is no scan. */
export function detectRegion(rgb, width, height) {
  const step = Math.max(1, Math.ceil(Math.max(height, width) / CELLS));
  const rows = Math.ceil(height / step), columns = Math.ceil(width / step);
  const lit = (x, y) => {
    const at = 3 * (y * width + x);
    return Math.max(rgb[at], rgb[at + 1], rgb[at + 2]) >= LIT;
  };
  const counts = new Uint32Array(rows * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) counts[Math.floor(y / step) * columns + Math.floor(x / step)] += lit(x, y);
  }
  const area = largestArea(Array.from(counts, (count) => count / (step * step) >= CELL_SHARE), rows, columns);
  if (!area.length) return null;
  const cellRows = area.map((cell) => Math.floor(cell / columns)), cellColumns = area.map((cell) => cell % columns);
  // One cell more on every side, then back to the first row or column that the area itself lights.
  const top = Math.max(0, (Math.min(...cellRows) - 1) * step), bottom = Math.min(height, (Math.max(...cellRows) + 2) * step);
  const left = Math.max(0, (Math.min(...cellColumns) - 1) * step), right = Math.min(width, (Math.max(...cellColumns) + 2) * step);
  const near = new Set(area.flatMap((cell) => [cell, ...neighbours(cell, rows, columns)]));
  const inRow = new Uint32Array(bottom - top), inColumn = new Uint32Array(right - left);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      if (!lit(x, y) || !near.has(Math.floor(y / step) * columns + Math.floor(x / step))) continue;
      inRow[y - top]++;
      inColumn[x - left]++;
    }
  }
  const ends = (sums, length) => [sums.findIndex((sum) => sum / length > 0.01), sums.findLastIndex((sum) => sum / length > 0.01) + 1];
  const [firstRow, lastRow] = ends(inRow, right - left), [firstColumn, lastColumn] = ends(inColumn, bottom - top);
  if (firstRow < 0 || firstColumn < 0) return null;
  const share = (lastColumn - firstColumn) * (lastRow - firstRow) / (height * width);
  return share >= SMALLEST && share <= LARGEST ? [left + firstColumn, top + firstRow, left + lastColumn, top + lastRow] : null;
}

function neighbours(cell, rows, columns) {
  const row = Math.floor(cell / columns), column = cell % columns;
  return [[row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]]
    .filter(([y, x]) => y >= 0 && y < rows && x >= 0 && x < columns).map(([y, x]) => y * columns + x);
}

/** The largest set of true cells that touch by their sides. */
function largestArea(cells, rows, columns) {
  let best = [];
  cells.forEach((open, start) => {
    if (!open) return;
    const found = [start];
    cells[start] = false;
    for (let i = 0; i < found.length; i++) {
      for (const cell of neighbours(found[i], rows, columns)) {
        if (cells[cell]) {
          cells[cell] = false;
          found.push(cell);
        }
      }
    }
    if (found.length > best.length) best = found;
  });
  return best;
}

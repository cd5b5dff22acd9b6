// The picture and the heat map on it.
import { $ } from "./controls.js";
import { heatMap, paintHeat } from "./model/heat.js";

export const opacity = () => $("opacity").value / 100;

/** The heat canvas has the picture's shape, but no more pixels than a screen shows. */
export function fitHeat(width, height) {
  const scale = Math.min(1, 800 / Math.max(width, height));
  $("heat").width = Math.max(1, Math.round(width * scale));
  $("heat").height = Math.max(1, Math.round(height * scale));
}

export function show(picture) {
  const canvas = $("picture");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  $("video").hidden = true;
  canvas.hidden = false;
  fitHeat(picture.width, picture.height);
  $("frame").hidden = false;
}

/** The heat map of an answer, of one class and branch; nothing without an answer. */
export function drawHeat({ answer, info, heatClass, heatBranch }) {
  const canvas = $("heat");
  canvas.style.opacity = opacity();
  if (!answer?.explanation) {
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  const [height, width] = answer.image_size;
  const [left, top, right, bottom] = answer.crop ?? [0, 0, width, height];
  const x = canvas.width / width, y = canvas.height / height;
  const toWidth = Math.max(1, Math.round((right - left) * x)), toHeight = Math.max(1, Math.round((bottom - top) * y));
  const sign = heatClass === info.positive_label ? 1 : -1;
  const { maps } = answer.explanation;
  const lacking = !(heatBranch in maps);  // a cascade's first model has branches of its own
  const heat = heatMap(lacking ? maps.fused : maps[heatBranch], sign, toWidth, toHeight);
  paintHeat(canvas, heat, toWidth, toHeight, info.colormap, [Math.round(left * x), Math.round(top * y)]);
  if (answer.crop) {
    const context = canvas.getContext("2d");
    context.strokeStyle = "#5aa9c9";
    context.lineWidth = 2;
    context.strokeRect(left * x, top * y, toWidth, toHeight);
  }
  const empty = !heat.some((value) => value > 0);
  $("stage-note").hidden = !empty && !lacking;
  $("stage-note").textContent = empty ? `Nothing in this branch speaks for ${heatClass}.`
    : `${answer.artifact} answered, which has no such branch: all of its map is shown.`;
}

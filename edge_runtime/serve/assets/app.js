// The page: pictures in, verdict and heat map out, from the station or from this browser.
import { FrameSource } from "./camera.js";
import { heatMap, paintHeat } from "./heat.js";
import { History, percent, symbolOf } from "./history.js";
import * as local from "./local.js";
import * as remote from "./remote.js";

const $ = (id) => document.getElementById(id);
const history = new History($("history"));
const source = new FrameSource($("video"));
let info = null; // the bundle, as the station describes it
let answer = null; // the answer on screen
let turn = 0; // rises with every new picture: late answers to older ones are dropped
let live = null;
let loop = null; // the file on screen where it has several frames, and how many
let modelKept = false; // in this browser, for offline mode
let heatClass = null, heatBranch = "fused";

const engineName = () => $("engine").value;
const explain = (blob, wish) => (engineName() === "server" ? remote.explain(blob, wish) : local.explain(info, blob, wish));

function say(code, text) {
  $("verdict").dataset.code = code;
  $("symbol").textContent = symbolOf(code);
  if ($("verdict-text").textContent !== text) $("verdict-text").textContent = text;
}

function fail(error) {
  if (error.status === 401) {
    $("login").showModal();
    say("error", "This station asks for its token.");
  } else {
    const elsewhere = error.status === 0 && modelKept ? " Choose “this browser” above to go on without it." : "";
    say("error", error.message + elsewhere);
  }
  clearResult();
  $("empty").hidden = !$("frame").hidden;
}

/** Nothing of one picture may stand beside another. */
function clearResult() {
  answer = null;
  $("scale").hidden = true;
  $("hints").replaceChildren();
  $("stage-note").hidden = true;
  $("heat-controls").disabled = true;
  drawHeat();
  facts();
}

function clearStage() {
  clearResult();
  // A canvas that gets a size is empty.
  for (const id of ["picture", "heat"]) $(id).width = $(id).height = 1;
  for (const id of ["picture", "video", "frame"]) $(id).hidden = true;
}

// --- start -------------------------------------------------------------------------------------------------

async function start() {
  say("busy", "Getting ready …");
  try {
    info = await remote.bundleInfo();
  } catch (error) {
    fail(error);
    return;
  }
  history.names = info.words.verdicts;
  $("intended-use").textContent = info.intended_use;
  $("positive").textContent = info.positive_label;
  choices($("classes"), [...info.labels].reverse().map((label) => [label, `for ${label}`]), info.positive_label, (value) => {
    heatClass = value;
    drawHeat();
  });
  heatClass = info.positive_label;
  choices($("branches"), [["fused", "all"], ...info.branches.map(({ name }) => [name, name])], "fused", (value) => {
    heatBranch = value;
    drawHeat();
  });
  offlineState();
  say("idle", "Ready. Open a picture, or start the camera.");
  facts();
}

/** A radio group of large buttons; arrow keys move in it. */
function choices(group, options, chosen, onChoose) {
  const buttons = options.map(([value, text]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: text, tabIndex: value === chosen ? 0 : -1 });
    button.dataset.value = value;
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(value === chosen));
    return button;
  });
  const choose = (button) => {
    for (const other of buttons) {
      other.setAttribute("aria-checked", String(other === button));
      other.tabIndex = other === button ? 0 : -1;
    }
    onChoose(button.dataset.value);
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(index + step + buttons.length) % buttons.length];
      next.focus();
      choose(next);
    });
  });
  group.replaceChildren(...buttons);
}

// --- one picture ---------------------------------------------------------------------------------------------

async function analyse(blob) {
  if (!info) return;
  stopLive();
  showLoop(null);
  await analyseFrame(blob, null);
}

/** The chooser beside the picture: which frame of a file of several is answered. */
function showLoop(found) {
  loop = found;
  $("frames").hidden = !loop;
  if (!loop) return;
  $("frame-number").max = loop.frames;
  $("frame-number").value = 1;
  $("frame-count").textContent = `of ${loop.frames}`;
}

async function analyseFrame(blob, frame) {
  const mine = ++turn;
  clearStage();
  $("empty").hidden = true;
  say("busy", "Analysing …");
  try {
    const bitmap = await createImageBitmap(blob).catch(() => null);
    if (mine !== turn) return;
    if (bitmap) show(bitmap);
    const result = await explain(blob, { crop: $("crop").checked, preview: !bitmap || frame !== null, views: views(), frame });
    if (mine !== turn) return;
    if (result.preview) show(await pictureOf(result.preview));
    render({ ...result, where: engineName(), ...(loop && { frame_of_file: [frame, loop.frames] }) });
    history.add(answer, $("picture"), $("heat"), opacity());
    historyState();
  } catch (error) {
    if (mine !== turn) return;
    if (error.frames && frame === null) {
      showLoop({ blob, frames: error.frames });
      await analyseFrame(blob, 1);
    } else {
      fail(error);
    }
  }
}

async function pictureOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

function show(picture) {
  const canvas = $("picture");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  $("video").hidden = true;
  canvas.hidden = false;
  fitHeat(picture.width, picture.height);
  $("frame").hidden = false;
}

/** The heat canvas has the picture's shape, but no more pixels than a screen shows. */
function fitHeat(width, height) {
  const scale = Math.min(1, 800 / Math.max(width, height));
  $("heat").width = Math.max(1, Math.round(width * scale));
  $("heat").height = Math.max(1, Math.round(height * scale));
}

function drawHeat() {
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

/** How many slightly shifted views are asked for: none but the picture itself unless the box is ticked. */
const views = () => ($("framing").checked ? 5 : 1);
const place = (share) => `${100 * share}%`;
const opacity = () => $("opacity").value / 100;

function render(result) {
  answer = result;
  const probability = result.smoothed ?? result.probability, refused = probability === null;
  say(result.verdict, result.text);
  $("scale").hidden = refused;
  $("probability").textContent = refused ? "–" : percent(probability);
  $("needle").style.left = place(probability ?? 0);
  $("tick").style.left = place(result.threshold);
  $("tick").dataset.side = result.threshold > 0.85 ? "right" : result.threshold < 0.15 ? "left" : "middle";
  // Live, the bar shows how the last frames differ; else how the shifted views do, where they were asked for.
  const band = result.recent ?? result.band;
  $("band").hidden = !band;
  if (band) {
    $("band").style.left = place(band.low);
    $("band").style.width = place(band.high - band.low);
  }
  const over = result.recent ? `${result.recent.frames} recent frames` : band && `${band.views} slightly shifted views`;
  const range = band ? `${percent(band.low)} to ${percent(band.high)} over ${over}. ` : "";
  $("bar-text").textContent = `${range}Called suspicious from ${percent(result.threshold)}.`;
  $("hints").replaceChildren(...hintItems(result));
  $("heat-controls").disabled = !result.explanation;
  $("stage-note").hidden = true;
  facts();
  drawHeat();
}

function hintItems(result) {
  const items = result.hints.map(({ text }) => [text, ""]);
  if (!items.length && !result.reasons.length) items.push(["Picture quality: nothing to change.", "fine"]);
  return items.map(([text, className]) => Object.assign(document.createElement("li"), { textContent: text, className }));
}

function facts() {
  const rows = [];
  if (answer) {
    const total = Object.values(answer.latency_ms).reduce((sum, value) => sum + value, 0);
    const parts = Object.entries(answer.latency_ms).map(([name, value]) => `${name} ${value.toFixed(1)}`).join(", ");
    rows.push(["Time", `${total.toFixed(0)} ms (${parts})`]);
    if (answer.frame !== undefined) rows.push(["Frames", `${answer.frame} sent, ${answer.dropped} dropped by the station, ${source.skipped} not sent`]);
    if (answer.frame_of_file) rows.push(["Frame", `${answer.frame_of_file[0]} of ${answer.frame_of_file[1]} of this file`]);
    const { gate } = answer;
    if (gate) rows.push(["Unlike training", `${gate.distance?.toFixed(3) ?? "–"} (flagged above ${gate.warning.toFixed(3)}, refused above ${gate.threshold.toFixed(3)})`]);
    const shares = answer.explanation?.logit_shares;
    if (shares) rows.push(["Logit", `${answer.logit.toFixed(2)} = ${Object.entries(shares).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(" + ")}`]);
  }
  if (info) {
    const artifact = answer?.artifact ?? info.artifact;
    rows.push(["Model", `${info.name}, ${artifact}`]);
    rows.push(["Computed by", engineName() === "server" ? `station, ${info.device.interpreter ?? info.runtime}` : "this browser, LiteRT.js"]);
    rows.push(["Digest", info.digest]);
  }
  $("facts").replaceChildren(...rows.flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
}

// --- camera and clips ------------------------------------------------------------------------------------------

async function startLive(begin) {
  if (!info) return;
  stopLive();
  showLoop(null);
  const mine = ++turn;
  clearStage();
  $("video").hidden = false;
  $("empty").hidden = true;
  $("frame").hidden = false;
  say("busy", "Starting …");
  try {
    await begin();
  } catch (error) {
    clearStage();
    source.stop();
    fail(error.name === "NotAllowedError" ? new Error("The camera was not allowed.") : error.name === "NotFoundError" ? new Error("No camera was found.") : error);
    return;
  }
  source.skipped = 0;
  $("freeze").hidden = false;
  $("camera").setAttribute("aria-pressed", "true");
  $("camera").textContent = "Stop";
  const onAnswer = (result) => {
    if (mine !== turn) return;
    if (result.error) return fail(new Error(result.error));
    const [height, width] = result.image_size;
    if (!answer || answer.image_size[0] !== height || answer.image_size[1] !== width) fitHeat(width, height);
    render({ ...result, where: engineName() });
  };
  live = engineName() === "server" ? new remote.LiveStream($("crop").checked, views(), onAnswer, () => {
    if (mine === turn && live) {
      stopLive();
      fail(new Error("The station ended the live stream."));
    }
  }) : new local.LiveStream(info, { crop: $("crop").checked, views: views() }, onAnswer, (error) => mine === turn && fail(error));
  const pump = async () => {
    while (mine === turn && live) {
      if (live.ready) {
        const blob = await source.grab();
        if (blob && mine === turn && live) live.send(blob);
      } else {
        source.skipped++;
      }
      await nextFrame($("video"));
    }
  };
  pump();
}

const nextFrame = (video) => new Promise((resolve) => {
  // The timer also ticks where the callback never comes: a paused clip, a hidden tab.
  const timer = setTimeout(resolve, 200);
  video.requestVideoFrameCallback?.(() => {
    clearTimeout(timer);
    resolve();
  });
});

function stopLive() {
  if (!live) return;
  turn++;
  const closing = live;
  live = null;
  closing.close();
  source.stop();
  $("freeze").hidden = true;
  $("device").hidden = true;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Camera";
  clearStage();
  $("empty").hidden = false;
  say("idle", "Stopped. Open a picture, or start the camera.");
}

async function freeze() {
  const blob = await source.grab("image/png");
  if (blob) analyse(blob);
}

async function startCamera(deviceId) {
  await startLive(() => source.startCamera(deviceId));
  if (!live) return;
  const devices = await source.devices();
  $("device").hidden = devices.length < 2;
  $("device").replaceChildren(...devices.map((device, index) =>
    Object.assign(document.createElement("option"), { value: device.deviceId, textContent: device.label || `Camera ${index + 1}` })));
  if (deviceId) $("device").value = deviceId;
}

// --- offline -----------------------------------------------------------------------------------------------------

async function offlineState() {
  const artifact = info.offline && local.browserArtifact(info);
  const option = $("engine").querySelector('[value="browser"]');
  option.disabled = !artifact;
  if (!artifact) {
    $("offline-text").textContent = "This station was installed without LiteRT.js, or its bundle has no TensorFlow Lite file: offline mode is not available.";
    return;
  }
  $("save-offline").disabled = !("serviceWorker" in navigator);
  $("save-offline").textContent = `Keep the model in this browser (${Math.round(artifact.size_bytes / 1e6 + 10)} MB)`;
  if (await kept()) offlineReady();
}

async function kept() {
  if (!("caches" in globalThis)) return false;
  const found = await Promise.all(local.offlineUrls(info).map((url) => caches.match(url)));
  return found.every(Boolean);
}

function offlineReady() {
  modelKept = true;
  $("save-offline").disabled = true;
  $("save-offline").textContent = "Kept in this browser";
  $("offline-text").textContent = "This page and the model work here without the station: reload without a network, and choose “this browser”.";
}

async function saveOffline() {
  $("save-offline").disabled = true;
  const progress = $("offline-progress");
  progress.hidden = false;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    await navigator.storage?.persist?.();
    const page = await caches.open("sonoedge-page");
    await page.add("v1/bundle");
    const cache = await caches.open(`sonoedge-model-${info.digest.slice(0, 12)}`);
    const urls = local.offlineUrls(info);
    for (const [index, url] of urls.entries()) {
      await cache.add(url);
      progress.value = (index + 1) / urls.length;
    }
    for (const name of await caches.keys()) {
      if (name.startsWith("sonoedge-model-") && !name.endsWith(info.digest.slice(0, 12))) await caches.delete(name);
    }
    offlineReady();
  } catch (error) {
    $("save-offline").disabled = false;
    $("offline-text").textContent = `The model could not be kept: ${error.message}`;
  }
  progress.hidden = true;
}

// --- controls ----------------------------------------------------------------------------------------------------

function take(files) {
  const file = files[0];
  if (!file) return;
  if (file.type.startsWith("video/")) startLive(() => source.startClip(file));
  else analyse(file);
}

function historyState() {
  for (const id of ["save-json", "print", "clear"]) $(id).disabled = !history.entries.length;
}

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take($("file").files);
  $("file").value = "";
});
$("camera").addEventListener("click", () => (live ? stopLive() : startCamera()));
$("device").addEventListener("change", () => startCamera($("device").value));
$("freeze").addEventListener("click", freeze);
$("frame-number").addEventListener("change", () => {
  if (loop && $("frame-number").reportValidity()) analyseFrame(loop.blob, Number($("frame-number").value));
});
$("opacity").addEventListener("input", drawHeat);
$("engine").addEventListener("change", () => {
  stopLive();
  facts();
});
$("save-offline").addEventListener("click", saveOffline);
$("print").addEventListener("click", () => window.print());
$("clear").addEventListener("click", () => {
  history.clear();
  historyState();
});
$("save-json").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([history.toJson(info)], { type: "application/json" }));
  Object.assign(document.createElement("a"), { href: url, download: "sonoedge-visit.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});
$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await remote.login($("token").value);
    $("token").value = "";
    $("login").close();
    start();
  } catch (error) {
    $("login-error").textContent = error.message;
  }
});

let dragDepth = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  dragDepth++;
  $("drop-cover").hidden = false;
});
addEventListener("dragleave", () => {
  if (--dragDepth <= 0) $("drop-cover").hidden = true;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  $("drop-cover").hidden = true;
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

start();

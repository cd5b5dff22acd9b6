// The page: pictures in, verdict and heat map out, from the station or from this browser.
import { FrameSource } from "./camera.js";
import { $, choices, nextFrame, pictureOf, takeDropped } from "./controls.js";
import { hintItems, showFacts } from "./facts.js";
import { History, percent, symbolOf } from "./history.js";
import * as local from "./model/local.js";
import * as remote from "./model/remote.js";
import { offlineState, saveOffline } from "./offline.js";
import * as stage from "./stage.js";

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
const drawHeat = () => stage.drawHeat({ answer, info, heatClass, heatBranch });
const onKept = () => { modelKept = true; };
const facts = () => showFacts({ answer, info, engine: engineName(), skipped: source.skipped });
const explain = (blob, options) => (engineName() === "server" ? remote.explain(blob, options) : local.explain(info, blob, options));

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
  offlineState(info, onKept);
  say("idle", "Ready. Open a picture, or start the camera.");
  facts();
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
    if (bitmap) stage.show(bitmap);
    const result = await explain(blob, { crop: $("crop").checked, preview: !bitmap || frame !== null, views: views(), frame });
    if (mine !== turn) return;
    if (result.preview) stage.show(await pictureOf(result.preview));
    render({ ...result, where: engineName(), ...(loop && { frame_of_file: [frame, loop.frames] }) });
    history.add(answer, $("picture"), $("heat"), stage.opacity());
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

/** How many slightly shifted views are asked for: none but the picture itself unless the box is ticked. */
const views = () => ($("framing").checked ? 5 : 1);
const place = (share) => `${100 * share}%`;

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
  const whose = info?.site ? `, the threshold of ${info.site}` : "";
  $("bar-text").textContent = `${range}Called suspicious from ${percent(result.threshold)}${whose}.`;
  $("hints").replaceChildren(...hintItems(result));
  $("heat-controls").disabled = !result.explanation;
  $("stage-note").hidden = true;
  facts();
  drawHeat();
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
    if (!answer || answer.image_size[0] !== height || answer.image_size[1] !== width) stage.fitHeat(width, height);
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
$("save-offline").addEventListener("click", () => saveOffline(info, onKept));
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

takeDropped(take);

start();

// The page: the self-test first, then pictures from files or the camera. This file is yours to change.
import { UNITS, openChosen, runSelfTest } from "./edgewright/client.js";

const $ = (name) => document.querySelector(`[data-${name}]`);
const CAMERA = { video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false };
const milliseconds = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`);
let result = null, opened = null, stream = null, busy = false;

// Self-test

const key = (sha256) => `edgewright-selftest:${sha256}`;

function readSaved(sha256) {
  try {
    const saved = JSON.parse(localStorage.getItem(key(sha256)));
    return saved?.agent === navigator.userAgent && saved.chosen ? saved : null;
  } catch { return null; }
}

function showUnits() {
  const rows = result.units.map((one) => {
    const row = document.createElement("tr"), placement = Object.entries(one.placement).map(([unit, nodes]) => `${unit}: ${nodes}`).join(", ");
    const worst = Object.entries(one.max_abs).map(([name, value]) => `${name}: ${value.toPrecision(2)}`).join(", ");
    const texts = [one.unit, one.error || `${one.equal ? "equal" : "different"} (${worst})`, milliseconds(one.latency_ms), placement];
    row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    row.children[1].dataset.result = one.equal ? "equal" : "different";
    return row;
  });
  $("units").tBodies[0].replaceChildren(...rows);
  $("units").hidden = false;
  const inputs = `Preprocessing of ${result.pictures} pictures is ${result.inputs_bitwise ? "equal bit for bit" : "different"}.`;
  $("state").textContent = `${inputs} ${result.chosen ? `The model runs on ${result.chosen}.` : "No unit reproduces the golden vectors."}`;
  for (const name of ["again", "save"]) $(name).disabled = false;
  $("go").disabled = !result.chosen;
}

async function test() {
  for (const name of ["again", "save", "go"]) $(name).disabled = true;
  try {
    result = await runSelfTest((unit) => { $("state").textContent = `Testing ${unit} (${UNITS.indexOf(unit) + 1} of ${UNITS.length})…`; });
    try { localStorage.setItem(key(result.sha256), JSON.stringify(result)); } catch { /* tested again at the next start */ }
    showUnits();
  } catch (error) {
    $("state").textContent = `The self-test failed: ${error.message}.`;
    $("again").disabled = false;
  }
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], { type: "application/json" }));
  link.download = "selftest.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Use

function show(screen) {
  for (const one of document.querySelectorAll("[data-screen]")) one.hidden = one.dataset.screen !== screen;
}

function showError(error) {
  $("error").textContent = error ? error.message : "";
  $("error").hidden = !error;
}

async function go() {
  try {
    opened ??= await openChosen(result);
    show("use");
  } catch (error) {
    $("state").textContent = error.message;
  }
}

function drawBoxes(boxes) {
  const context = $("view").getContext("2d");
  context.lineWidth = Math.max(2, $("view").width / 300);
  context.strokeStyle = context.fillStyle = "#e6550d";
  context.font = `${Math.max(12, $("view").width / 40)}px system-ui`;
  for (const { corners: [left, top, right, bottom], label, score } of boxes) {
    context.strokeRect(left, top, right - left, bottom - top);
    context.fillText(`${label} ${(100 * score).toFixed(0)} %`, left, top - 4);
  }
}

function describe({ kind, ...answer }) {
  const percent = (score) => `${(100 * score).toFixed(1)} %`;
  switch (kind) {
    case "classification": return answer.classes.map(({ label, score }) => `${label}: ${percent(score)}`);
    case "boxes": return answer.boxes.slice(0, 20).map(({ label, score }) => `${label}: ${percent(score)}`);
    case "regression": return answer.values.slice(0, 20).map((value) => `${value} ${answer.unit}`);
    case "embedding": return [answer.vector.slice(0, 8).map((value) => value.toFixed(4)).join(", ") + " …"];
    default: return answer.tokens.map(({ id, score }) => `token ${id}: ${percent(score)}`);
  }
}

function showMonitor({ count, phases }) {
  const texts = Object.entries(phases).map(([name, { median_ms, p95_ms }]) => `${name} ${milliseconds(median_ms)} (95 %: ${milliseconds(p95_ms)})`);
  $("monitor").textContent = `${opened.unit}, ${count} inferences: ${texts.join(", ")}`;
}

// Run the model on what the canvas shows. A canvas keeps transparent pixels less exactly than a file does.
async function classify(source, width, height) {
  const view = $("view"), context = view.getContext("2d", { willReadFrequently: true });
  [view.width, view.height, view.hidden] = [width, height, false];
  context.drawImage(source, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const { source: name } = opened.contract.inputs.find((one) => one.preprocessing?.kind === "image").tensor;
  const { answer, monitor } = await opened.client.call("run", { [name]: { width, height, channels: 4, data } }, [data.buffer]);
  if (answer.kind === "boxes") drawBoxes(answer.boxes);
  $("answer").replaceChildren(...describe(answer).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  showMonitor(monitor);
}

async function classifyFile() {
  const [file] = $("file").files;
  if (!file) return;
  stopCamera();
  showError(null);
  try {
    const picture = await createImageBitmap(file, { colorSpaceConversion: "none" }); // upright by its EXIF data
    await classify(picture, picture.width, picture.height);
    picture.close();
  } catch (error) { showError(error); }
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera").textContent = "Camera";
}

async function startCamera() {
  showError(null);
  try {
    stream = await navigator.mediaDevices.getUserMedia(CAMERA);
    $("camera").textContent = "Stop";
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    const next = async () => {
      if (!stream) return;
      if (!busy && !document.hidden) { // a frame that comes while the model runs is left out
        busy = true;
        await classify(video, video.videoWidth, video.videoHeight).catch((error) => { showError(error); stopCamera(); });
        busy = false;
      }
      requestAnimationFrame(next);
    };
    next();
  } catch (error) {
    stopCamera();
    showError(error);
  }
}

// Start

async function start() {
  const contract = await (await fetch("edgewright-app.json")).json();
  registerServiceWorker(contract);
  document.title = $("name").textContent = contract.name;
  const image = contract.inputs.some((one) => one.preprocessing?.kind === "image");
  $("picture-controls").hidden = !image;
  $("other").hidden = image;
  result = readSaved(contract.model.sha256);
  if (result) showUnits();
  else await test();
}

// The service worker keeps the files for use without a network, and isolates the page, which several threads require:
// a page that was loaded before it is loaded once more.
function registerServiceWorker({ engine: { threads } }) {
  navigator.serviceWorker?.addEventListener("controllerchange", () => {
    if (crossOriginIsolated || threads === 1 || sessionStorage.getItem("edgewright-reloaded")) return;
    sessionStorage.setItem("edgewright-reloaded", "1");
    location.reload();
  });
  navigator.serviceWorker?.register("service-worker.js").catch(() => {}); // without it a network is needed
}

$("again").addEventListener("click", test);
$("save").addEventListener("click", save);
$("go").addEventListener("click", go);
$("back").addEventListener("click", () => { stopCamera(); show("test"); });
$("file").addEventListener("change", classifyFile);
$("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
start().catch((error) => { $("state").textContent = `The project cannot be loaded: ${error.message}.`; });

// The page /device: while it is open, this browser is a device of Edgewright on the machine that served it.
"use strict";

const CHUNK = 1 << 20;
const RECONNECT_MS = 2000;
const CLOSED_FOR_GOOD = 1008; // the server's reason is shown, and only the user can go on
const $ = (name) => document.querySelector(`[data-${name}]`);
const workers = new Map();
let socket = null, paired = null, lock = null, battery = null, base = "";

const say = (text, state = "") => { $("state").textContent = text; $("state").dataset.state = state; };
const tell = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));

function report(text) {
  const row = document.createElement("li");
  row.textContent = `${new Date().toLocaleTimeString()} ${text}`;
  $("log").prepend(row);
  while ($("log").children.length > 200) $("log").lastChild.remove();
}

const size = (bytes) => (bytes < 1e3 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// Facts

async function readGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return "";
    const { vendor, architecture, device, description } = adapter.info ?? {};
    return [vendor, architecture, device, description].filter(Boolean).join(" ") || "an adapter without a name";
  } catch { return ""; }
}

async function readFacts() {
  let hints = {};
  try { hints = await navigator.userAgentData?.getHighEntropyValues(["model", "platformVersion", "architecture"]) ?? {}; } catch { /* not given */ }
  const text = (value) => String(value ?? "").slice(0, 300);
  return {
    agent: text(navigator.userAgent), platform: text(hints.platform || navigator.platform), model: text(hints.model),
    platform_version: text(hints.platformVersion), architecture: text(hints.architecture),
    cores: navigator.hardwareConcurrency || 1, memory_gib: navigator.deviceMemory ?? null,
    screen: `${screen.width}x${screen.height}`, pixel_ratio: devicePixelRatio,
    isolated: crossOriginIsolated, secure: isSecureContext, gpu: text(await readGpu()), webnn: "ml" in navigator,
  };
}

const readState = () => ({
  type: "state", visible: document.visibilityState === "visible", awake: lock !== null && !lock.released,
  battery: battery ? battery.level : null, charging: battery ? battery.charging : null,
});

async function keepAwake() {
  try { lock = await navigator.wakeLock.request("screen"); lock.addEventListener("release", showAwake); } catch { lock = null; }
  showAwake();
}

function showAwake() {
  $("awake").textContent = lock && !lock.released ? "The screen stays on." : "This browser cannot keep the screen on: set the screen timeout of the device to its longest time.";
  tell(readState());
}

// Connection

const secretOf = (name) => { try { return localStorage.getItem(`edgewright-device:${name}`); } catch { return null; } };

async function connect(code) {
  const facts = await readFacts();
  const name = decodeURIComponent(location.hash.slice(1));
  const secret = code ? null : paired?.token ?? secretOf(name);
  if (!code && !secret) { say("Enter the code that the command printed."); return; }
  socket = new WebSocket(new URL("/device/socket", location.href.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  say("Connecting…");
  socket.onopen = () => tell(code ? { type: "pair", code, facts } : { type: "resume", name: paired?.name ?? name, token: secret, facts });
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code: reason, reason: why }) => {
    for (const id of [...workers.keys()]) end(id);
    lock?.release().catch(() => {});
    $("pair").hidden = false;
    if (reason === CLOSED_FOR_GOOD || (code && !paired)) {
      say(why || "The connection closed.", "bad");
    } else {
      say("The connection was lost. Connecting again…", "bad");
      setTimeout(() => connect(""), RECONNECT_MS);
    }
  };
}

function receive(message) {
  switch (message.type) {
    case "paired": return begin(message);
    case "start": return start(message);
    case "ask": return ask(message);
    case "end": return end(message.worker);
  }
}

function begin({ name, token, files }) {
  paired = { name, token };
  base = new URL(files, location.href).href;
  try { localStorage.setItem(`edgewright-device:${name}`, token); } catch { /* paired only while the page is open */ }
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  $("pair").hidden = true;
  $("name").textContent = name;
  document.title = `${name} · Edgewright`;
  say("Ready. Keep this page open and visible.", "good");
  report(`paired as ${name}`);
  keepAwake();
}

// Workers

function start({ worker: id, runtime }) {
  const worker = new Worker("/static/device-worker.js");
  workers.set(id, { worker, runtime });
  worker.onmessage = ({ data }) => (data.greeting ? tell({ type: "greeting", worker: id, greeting: data.greeting }) : answer(id, data));
  worker.onerror = (event) => { event.preventDefault(); tell({ type: "failed", worker: id, why: String(event.message ?? "the worker failed").slice(0, 1000) }); };
  worker.postMessage({ start: { runtime, base, token: paired.token } });
  say(`Measuring with ${runtime}…`, "good");
}

const TITLES = { open: "loads", run: "times", invoke: "runs", profile: "profiles" };

function ask({ worker: id, request, files }) {
  const entry = workers.get(id);
  if (!entry) return;
  const { type, runs } = request.command, title = TITLES[type];
  const received = [files.model, ...(files.beside ?? []), files.feeds].filter(Boolean);
  if (title && type !== "run") report(`${entry.runtime} ${title} ${received.map((file) => `${file.name} (${size(file.bytes)})`).join(", ")}`);
  entry.timed = (entry.timed ?? 0) + (type === "run" ? runs : 0);
  if (type === "run") say(`Measuring with ${entry.runtime}: ${entry.timed} inferences or fewer`, "good");
  entry.worker.postMessage({ request, files });
}

function answer(id, { answer: line, files }) {
  tell({ type: "answer", worker: id, answer: line, files: files.map(([name, content]) => ({ name, bytes: content.byteLength })) });
  for (const [name, content] of files) {
    report(`sent ${name || "the outputs"} (${size(content.byteLength)})`);
    for (let at = 0; at < content.byteLength; at += CHUNK) socket.send(content.slice(at, at + CHUNK));
  }
}

function end(id) {
  workers.get(id)?.worker.terminate();
  workers.delete(id);
  if (!workers.size && paired) say("Ready. Keep this page open and visible.", "good");
}

// Page

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && paired) keepAwake();
  else tell(readState());
});
$("form").addEventListener("submit", (event) => { event.preventDefault(); connect($("code").value.trim().toUpperCase()); });
navigator.getBattery?.().then((found) => {
  battery = found;
  for (const kind of ["levelchange", "chargingchange"]) found.addEventListener(kind, () => tell(readState()));
}).catch(() => {});
if (!isSecureContext) $("insecure").hidden = false;
const given = /^#code=([A-Z0-9]{4,16})$/i.exec(location.hash);
if (given) history.replaceState(null, "", "#");
connect(given ? given[1].toUpperCase() : "");

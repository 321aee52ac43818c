// A worker of the page /device: it loads one model in onnxruntime-web or LiteRT.js, and runs and times it.
// Its messages are those of edgewright/runtimes/wire.py; arrays are in the form of edgewright/runtimes/tensor_file.py.
"use strict";

const PROTOCOL = 3;
const MEMORY = { rss: null, peak: null }; // browsers do not report it
const STEPS = 200; // of the clock in each sample, so that its resolution is at most 0.5 % of the time
const CALIBRATED = 50; // steps of the clock that are observed
const WARMUP_RUNS = 3;
const BUILDS = { CPU: "wasm", WASM: "wasm", WEBGPU: "webgpu", WEBNN: "webnn" };
const ACCELERATORS = { xnnpack: "wasm", webgpu: "webgpu", webnn: "webnn" };
const OPTIONS = { onnxruntime: ["provider", "optimization", "execution", "arena"], litert: ["delegate"] };
const LEVELS = { all: "all", extended: "extended", basic: "basic", disable: "disabled" };
// A model that copies its input: it starts the WebAssembly module before the loading of the real one is timed.
const EMPTY = "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=";
const TYPES = {
  "<f4": ["float32", Float32Array], "<f8": ["float64", Float64Array], "<f2": ["float16", Uint16Array],
  "|i1": ["int8", Int8Array], "|u1": ["uint8", Uint8Array], "<i2": ["int16", Int16Array], "<u2": ["uint16", Uint16Array],
  "<i4": ["int32", Int32Array], "<u4": ["uint32", Uint32Array], "<i8": ["int64", BigInt64Array],
  "<u8": ["uint64", BigUint64Array], "|b1": ["bool", Uint8Array],
};

let base = "", token = "", runtime = "", session = null, estimate = 0, step = 0, printed = null;

// ONNX Runtime prints its trace; its module keeps the console's function that it finds when it is loaded.
const print = console.log.bind(console);
console.log = (...words) => (printed ? printed.push(words.join(" ")) : print(...words));

class Failure extends Error {
  constructor(kind, why, hint = "") { super(why); this.kind = kind; this.hint = hint; }
}

const now = () => performance.now();
const nanoseconds = (milliseconds) => Math.max(0, Math.round(milliseconds * 1e6));
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

async function load(file) {
  const answer = await fetch(file.url, { headers: { authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Failure("internal", `${file.name} was not sent: HTTP ${answer.status}`);
  return answer.arrayBuffer();
}

// Arrays

function readArrays(buffer) {
  const view = new DataView(buffer), arrays = {};
  let at = 0;
  const next = () => {
    const wide = view.getUint8(at + 6) > 1;
    const start = at + (wide ? 12 : 10), size = wide ? view.getUint32(at + 8, true) : view.getUint16(at + 8, true);
    const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, start, size));
    const type = /'descr': '([^']+)'/.exec(header)[1];
    const shape = [.../'shape': \(([^)]*)\)/.exec(header)[1].matchAll(/\d+/g)].map(Number);
    const count = shape.reduce((product, length) => product * length, 1);
    at = start + size;
    if (type.startsWith("<U")) return { names: readTexts(Number(type.slice(2)), count) };
    if (!TYPES[type]) throw new Failure("input", `arrays of the type ${type} are not supported in a browser`);
    const [dtype, Kind] = TYPES[type], bytes = count * Kind.BYTES_PER_ELEMENT;
    const data = new Kind(buffer.slice(at, at + bytes));
    at += bytes;
    return { dtype, shape, data };
  };
  const readTexts = (length, count) => Array.from({ length: count }, () => {
    let text = "";
    for (let i = 0; i < length; i++, at += 4) { const code = view.getUint32(at, true); if (code) text += String.fromCodePoint(code); }
    return text;
  });
  for (const name of next().names) arrays[name] = next();
  return arrays;
}

function writeArrays(arrays) {
  const names = Object.keys(arrays), longest = Math.max(1, ...names.map((name) => [...name].length));
  const texts = new Uint32Array(names.length * longest);
  names.forEach((name, i) => [...name].forEach((letter, j) => { texts[i * longest + j] = letter.codePointAt(0); }));
  const parts = [...entry(`<U${longest}`, [names.length], texts)];
  for (const { dtype, shape, data } of Object.values(arrays)) {
    const type = Object.keys(TYPES).find((key) => TYPES[key][0] === dtype);
    if (!type) throw new Failure("model", `an output has the type ${dtype}, which is not supported in a browser`);
    parts.push(...entry(type, shape, data));
  }
  return new Blob(parts).arrayBuffer();
}

function entry(type, shape, data) {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.map((n) => `${n}, `).join("").trim()}), }`;
  const padded = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const head = new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  return [head, padded, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}

// onnxruntime-web

function checkThreads(threads) {
  if (threads > 1 && !crossOriginIsolated) {
    throw new Failure("model", `${threads} threads require a page with cross-origin isolation, and so a secure context`,
      "open the page over HTTPS or as localhost, or use --threads 1");
  }
}

async function checkUnit(unit) {
  if (unit === "webgpu" && !(navigator.gpu && await navigator.gpu.requestAdapter())) {
    throw new Failure("missing", "WebGPU was requested, and this browser has no GPU adapter");
  }
  if (unit === "webnn" && !navigator.ml) throw new Failure("missing", "WebNN was requested, and this browser does not have it");
}

async function openOnnx(request, files) {
  const asked = request.options.provider ?? "CPU";
  const unit = BUILDS[asked.replace(/ExecutionProvider$/i, "").toUpperCase()];
  if (!unit) throw new Failure("missing", `a browser has no execution provider ${asked}; it can have CPU, WebGPU and WebNN`);
  checkThreads(request.threads);
  await checkUnit(unit);
  const ort = await import(`${base}/onnxruntime-web/dist/ort.${unit === "wasm" ? "wasm" : "webgpu"}.min.mjs`);
  ort.env.wasm.wasmPaths = `${base}/onnxruntime-web/dist/`;
  ort.env.wasm.numThreads = request.threads;
  await (await ort.InferenceSession.create(Uint8Array.from(atob(EMPTY), (c) => c.charCodeAt(0)))).release();
  const content = new Uint8Array(await load(files.model));
  const beside = await Promise.all(files.beside.map(async (file) => ({ path: file.name, data: new Uint8Array(await load(file)) })));
  const options = {
    executionProviders: [unit],
    graphOptimizationLevel: LEVELS[request.options.optimization ?? "all"],
    executionMode: request.options.execution ?? "sequential",
    enableCpuMemArena: (request.options.arena ?? "on") === "on",
    logSeverityLevel: 3,
    ...(beside.length ? { externalData: beside } : {}),
  };
  const create = (more) => ort.InferenceSession.create(content, { ...options, ...more });
  const describe = (metadata) => metadata.map((one) => {
    if (!one.isTensor) throw new Failure("model", `'${one.name}' is not a tensor`);
    return { name: one.name, dtype: one.type === "string" ? "str" : one.type, shape: request.shapes[one.name] ?? [...one.shape] };
  });
  const loading = now();
  const own = await guard(() => create());
  const took = now() - loading;
  let feeds = {}, results = {};
  const bind = (arrays) => {
    feeds = Object.fromEntries(Object.entries(arrays).map(([name, one]) => [name, new ort.Tensor(one.dtype, one.data, one.shape)]));
  };
  return {
    took, unit, create, feeds: () => feeds, bind,
    signature: { inputs: describe(own.inputMetadata), outputs: describe(own.outputMetadata) },
    run: async () => { results = await own.run(feeds); },
    fetch: () => Object.fromEntries(own.outputNames.map((name) => {
      const { type, dims, data } = results[name];
      return [name, { dtype: type, shape: dims, data }];
    })),
  };
}

// Profile `runs` inferences in a session of its own: ONNX Runtime prints the trace when the profiling ends.
async function traceOnnx(opened, runs) {
  const traced = await guard(() => opened.create({ enableProfiling: true }));
  const times = [];
  try {
    for (let i = 0; i < runs; i++) {
      const began = now();
      await guard(() => traced.run(opened.feeds()));
      times.push((now() - began) * 1e3);
    }
    printed = [];
    traced.endProfiling();
    const text = printed.join("\n");
    return { events: JSON.parse(text.slice(text.indexOf("["), text.lastIndexOf("]") + 1) || "[]"), times };
  } finally {
    printed = null;
    await traced.release();
  }
}

const isKernel = (event) => event.cat === "Node" && event.name.endsWith("_kernel_time");

// Return notes on the units that ran the nodes; a unit that ran none of them was not granted.
async function readUnits(opened) {
  if (opened.unit === "wasm") return [];
  const { events } = await traceOnnx(opened, 1);
  const providers = events.filter(isKernel).map((event) => event.args.provider ?? "");
  const granted = providers.filter((name) => name.toUpperCase().startsWith(opened.unit.toUpperCase())).length;
  if (!granted) {
    throw new Failure("model", `${opened.unit} was requested and ran none of the ${providers.length} nodes, so nothing was measured`);
  }
  return granted < providers.length ? [`${opened.unit} ran ${granted} of ${providers.length} nodes, WebAssembly the others`] : [];
}

// LiteRT.js

async function openLite(request, files) {
  const asked = request.options.delegate ?? "xnnpack", unit = ACCELERATORS[asked.toLowerCase()];
  if (!unit) throw new Failure("missing", `LiteRT.js has no delegate ${asked}; it can have xnnpack, webgpu and webnn`);
  checkThreads(request.threads);
  await checkUnit(unit);
  const lite = await import(`${base}/litertjs-core/dist/index.js`);
  const threads = unit === "wasm" && request.threads > 1;
  const folder = `${base}/litertjs-core/wasm/`;
  // Its module looks for its files beside the script of this worker, unless `locateFile` is given.
  self.Module = { locateFile: (name) => folder + name, mainScriptUrlOrBlob: `${folder}litert_wasm_threaded_internal.js` };
  await lite.loadLiteRt(folder, { threads, jspi: unit !== "wasm" });
  const content = new Uint8Array(await load(files.model));
  const loading = now();
  const model = await guard(() => lite.loadAndCompile(content, { accelerator: unit, cpuOptions: { numThreads: request.threads } }));
  const took = now() - loading;
  if (unit !== "wasm" && !model.isFullyAccelerated) {
    throw new Failure("model", `${unit} was requested and LiteRT.js runs only a part of the model on it, so nothing was measured`);
  }
  const inputs = model.getInputDetails(), outputs = model.getOutputDetails();
  const describe = (details) => details.map((one) => ({ name: one.name, dtype: one.dtype, shape: [...one.shape] }));
  let tensors = [], results = [];
  return {
    took, unit,
    signature: { inputs: describe(inputs), outputs: describe(outputs) },
    bind: (arrays) => {
      for (const tensor of tensors) tensor.delete();
      tensors = inputs.map((one) => new lite.Tensor(arrays[one.name].data, arrays[one.name].shape));
    },
    run: async () => {
      for (const tensor of results) tensor.delete();
      results = await model.run(tensors);
      if (unit !== "wasm") results = await Promise.all(results.map((tensor) => tensor.moveTo("wasm")));
    },
    fetch: () => Object.fromEntries(outputs.map((one, i) => {
      return [one.name, { dtype: one.dtype, shape: [...results[i].type.layout.dimensions], data: results[i].toTypedArray().slice() }];
    })),
  };
}

// Turn an exception of a library into a failure of the model.
async function guard(call) {
  try {
    return await call();
  } catch (error) {
    if (error instanceof Failure) throw error;
    const why = typeof error === "number" ? `the WebAssembly module failed with the exception ${error}` : String(error?.message ?? error);
    throw new Failure(/out of memory|allocation failed|Cannot enlarge memory/i.test(why) ? "memory" : "model", why.split("\n")[0].slice(0, 2000));
  }
}

function checkFeeds(arrays) {
  const wanted = new Map(session.signature.inputs.map((one) => [one.name, one]));
  if (wanted.size !== Object.keys(arrays).length || Object.keys(arrays).some((name) => !wanted.has(name))) {
    throw new Failure("input", `the model's inputs are ${[...wanted.keys()]}, but the values given are for ${Object.keys(arrays)}`);
  }
  for (const [name, one] of Object.entries(arrays)) {
    const { dtype, shape } = wanted.get(name);
    if (dtype !== one.dtype) throw new Failure("input", `input '${name}' is ${dtype}, but the value given is ${one.dtype}`);
    if (shape.length !== one.shape.length || shape.some((size, i) => typeof size === "number" && size >= 0 && size !== one.shape[i])) {
      throw new Failure("input", `input '${name}' has shape [${shape}], but the value given has shape [${one.shape}]`);
    }
  }
  session.bind(arrays);
}

const loaded = () => { if (!session) throw new Failure("model", "no model is open"); return session; };

// Commands

function checkOptions(options) {
  const unknown = Object.keys(options).find((name) => !OPTIONS[runtime].includes(name));
  if (unknown) throw new Failure("model", `the option ${unknown} does not exist in a browser`, `omit -p ${unknown}`);
}

async function open({ session: request }, files) {
  checkOptions(request.options);
  session = await (runtime === "onnxruntime" ? openOnnx : openLite)(request, files);
  checkFeeds(readArrays(await load(files.feeds)));
  const notes = runtime === "onnxruntime" ? await readUnits(session) : [];
  return { type: "opened", load_us: session.took * 1e3, memory: MEMORY, signature: session.signature, notes };
}

// Time inferences. Those that are short against the clock's steps are timed in groups, and each gets the mean of its group.
async function timeRuns({ runs, seconds, settle }) {
  const { run } = loaded();
  return guard(async () => {
    for (let i = 0; i < settle; i++) await run();
    const group = estimate ? Math.max(1, Math.min(runs, Math.ceil((STEPS * readStep()) / estimate))) : 1;
    const times = [], deadline = now() + seconds * 1e3;
    while (times.length < runs) {
      const count = Math.min(group, runs - times.length), began = now();
      for (let i = 0; i < count; i++) await run();
      const ended = now();
      for (let i = 0; i < count; i++) times.push((ended - began) / count);
      if (ended >= deadline) break;
    }
    estimate = Math.max(median(times), readStep() / STEPS);
    return { type: "times", wall_ns: times.map(nanoseconds), cpu_ns: [], error_ns: (readStep() * 1e6) / group };
  });
}

function readStep() {
  if (step) return step;
  step = Infinity;
  for (let seen = 0, last = now(); seen < CALIBRATED;) {
    const time = now();
    if (time > last) { step = Math.min(step, time - last); seen++; last = time; }
  }
  return step;
}

async function calibrate({ runs }) {
  const nothing = async () => {};
  const began = now();
  for (let i = 0; i < runs; i++) { now(); await nothing(); now(); }
  const wall = ((now() - began) / runs) * 1e6;
  const times = Array.from({ length: 5 }, () => { const start = now(); arithmetic(); return now() - start; });
  return { type: "calibration", wall_ns: wall, cpu_ns: 0, resolution_ns: readStep() * 1e6, reference_us: Math.min(...times) * 1e3 };
}

function arithmetic() {
  let total = 0;
  for (let i = 0; i < 5_000_000; i++) total = (total + (i & 7)) | 0;
  return total;
}

async function invoke({ stacked }, files) {
  const own = loaded(), arrays = readArrays(await load(files.feeds));
  const names = Object.keys(arrays), outputs = {};
  const count = stacked ? arrays[names[0]]?.shape[0] : 1;
  if (stacked && (!count || names.some((name) => arrays[name].shape[0] !== count))) throw new Failure("input", "stacked inputs need one leading axis of the same length");
  for (let i = 0; i < count; i++) {
    checkFeeds(stacked ? Object.fromEntries(names.map((name) => [name, takeEntry(arrays[name], i)])) : arrays);
    await guard(own.run);
    for (const [name, one] of Object.entries(own.fetch())) {
      if (!stacked) { outputs[name] = one; continue; }
      outputs[name] ??= { dtype: one.dtype, shape: [count, ...one.shape], data: new one.data.constructor(count * one.data.length) };
      if (String(outputs[name].shape) !== String([count, ...one.shape])) {
        throw new Failure("internal", `output '${name}' has different shapes for two inputs`, "one input can be used: compile --samples 1, or invoke");
      }
      outputs[name].data.set(one.data, i * one.data.length);
    }
  }
  return [{ type: "done", memory: MEMORY }, [["", await writeArrays(outputs)]]];
}

function takeEntry({ dtype, shape, data }, i) {
  const size = data.length / shape[0];
  return { dtype, shape: shape.slice(1), data: data.slice(i * size, (i + 1) * size) };
}

async function profile({ session: request, runs }, files) {
  if (runtime !== "onnxruntime") throw new Failure("internal", "LiteRT.js reports no times of operators");
  session = await openOnnx(request, files);
  checkFeeds(readArrays(await load(files.feeds)));
  const { events, times } = await traceOnnx(session, WARMUP_RUNS + runs);
  const nodes = new Map(events.filter(isKernel).map((event) => {
    const name = event.name.replace(/_kernel_time$/, ""), op = event.args.op_name ?? "";
    return [`${name} ${op}`, { name, op, domain: "", inputs: [], outputs: [] }];
  }));
  const provider = { wasm: "CPU", webgpu: "WebGpu", webnn: "WEBNN" }[session.unit] + "ExecutionProvider";
  const ran = { provider, warmup: WARMUP_RUNS, runs_us: times.slice(WARMUP_RUNS), nodes: [...nodes.values()] };
  const encode = (value) => new TextEncoder().encode(JSON.stringify(value)).buffer;
  return [{ type: "done", memory: MEMORY }, [["trace.json", encode(events)], ["ran.json", encode(ran)]]];
}

const COMMANDS = { open, run: timeRuns, calibrate, invoke, profile, memory: () => ({ type: "done", memory: MEMORY }), close: () => ({ type: "done", memory: MEMORY }) };

async function answer(command, files) {
  try {
    if (!COMMANDS[command.type]) throw new Failure("model", `a browser does not support the command ${command.type}`);
    const result = await COMMANDS[command.type](command, files);
    return Array.isArray(result) ? result : [result, []];
  } catch (error) {
    const { kind = "internal", hint = "" } = error;
    return [{ type: "refused", kind, why: String(error?.message ?? error), trace: String(error?.stack ?? ""), hint }, []];
  }
}

async function greet() {
  const began = now(), lite = runtime === "litert";
  try {
    await import(lite ? `${base}/litertjs-core/dist/index.js` : `${base}/onnxruntime-web/dist/ort.wasm.min.mjs`);
  } catch (error) {
    return { type: "refused", kind: "missing", why: `the runtime for browsers cannot be loaded: ${error}`, trace: "", hint: "" };
  }
  return { type: "hello", protocol: PROTOCOL, runtime, version: "", pid: 0, python: "", import_us: (now() - began) * 1e3, memory: MEMORY };
}

self.onmessage = async ({ data }) => {
  if (data.start) {
    ({ base, token, runtime } = data.start);
    self.postMessage({ greeting: await greet() });
    return;
  }
  const [result, files] = await answer(data.request.command, data.files);
  self.postMessage({ answer: { id: data.request.id, result }, files }, files.map(([, content]) => content));
};

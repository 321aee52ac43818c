// The model in onnxruntime-web.

// ONNX Runtime prints its trace; its module keeps the console's function that it finds when it is loaded.
const print = console.log.bind(console);
let printed = null;
console.log = (...words) => (printed ? printed.push(words.join(" ")) : print(...words));

const LEVELS = { all: "all", extended: "extended", basic: "basic", disable: "disabled" };
/** Open a model. `model` and the files `beside` it are {name, data}. Raises an Error if the unit does not run any node. */
export async function openModel({ base, unit, threads, options, model, beside }) {
  const ort = await import(`${base}/onnxruntime-web/dist/ort.${unit}.min.mjs`);
  ort.env.wasm.wasmPaths = `${base}/onnxruntime-web/dist/`;
  ort.env.wasm.numThreads = threads;
  const settings = {
    executionProviders: [unit], graphOptimizationLevel: LEVELS[options.optimization ?? "all"],
    executionMode: options.execution ?? "sequential", enableCpuMemArena: (options.arena ?? "on") === "on", logSeverityLevel: 3,
    ...(beside.length ? { externalData: beside.map(({ name, data }) => ({ path: name, data })) } : {}),
  };
  const session = await ort.InferenceSession.create(model.data, settings);
  const makeFeeds = (inputs) => Object.fromEntries(Object.entries(inputs).map(([name, { dtype, data, shape }]) => [name, new ort.Tensor(dtype, data, shape)]));
  return {
    unit,
    async run(inputs) {
      const results = await session.run(makeFeeds(inputs));
      return Object.fromEntries(session.outputNames.map((name) => {
        const { type, dims, data } = results[name];
        return [name, { dtype: type, shape: dims, data }];
      }));
    },
    // Return how many nodes each unit runs: a second session prints its trace.
    async readPlacement(inputs) {
      const traced = await ort.InferenceSession.create(model.data, { ...settings, enableProfiling: true });
      try {
        await traced.run(makeFeeds(inputs));
        printed = [];
        traced.endProfiling();
        const nodes = countNodes(printed.join("\n"));
        if (Object.keys(nodes).length && !Object.keys(nodes).some((name) => name.startsWith(unit))) throw new Error(`${unit} runs none of the nodes`);
        return nodes;
      } finally {
        printed = null;
        await traced.release();
      }
    },
    close: () => session.release(),
  };
}

function countNodes(text) {
  const nodes = {}, events = JSON.parse(text.slice(text.indexOf("["), text.lastIndexOf("]") + 1) || "[]");
  for (const { cat, name, args } of events) {
    if (cat !== "Node" || !name.endsWith("_kernel_time")) continue;
    const unit = args.provider.replace("ExecutionProvider", "").toLowerCase().replace("cpu", "wasm");
    nodes[unit] = (nodes[unit] ?? 0) + 1;
  }
  return nodes;
}

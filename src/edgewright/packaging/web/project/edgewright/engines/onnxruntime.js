// The model in onnxruntime-web.

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
    // Return which unit runs how many nodes: a second session prints its trace to the console.
    async readPlacement(inputs) {
      const traced = await ort.InferenceSession.create(model.data, { ...settings, enableProfiling: true });
      const printed = [], print = console.log;
      try {
        await traced.run(makeFeeds(inputs));
        console.log = (...words) => printed.push(words.join(" "));
        traced.endProfiling();
      } finally {
        console.log = print;
        await traced.release();
      }
      const text = printed.join("\n"), events = JSON.parse(text.slice(text.indexOf("["), text.lastIndexOf("]") + 1) || "[]");
      const nodes = {};
      for (const { cat, name, args } of events) {
        if (cat === "Node" && name.endsWith("_kernel_time")) nodes[args.provider] = (nodes[args.provider] ?? 0) + 1;
      }
      return nodes;
    },
    close: () => session.release(),
  };
}

// The model in LiteRT.js.

/** Open a model. `model` is {name, data}. Raises an Error if the unit runs only a part of the model. */
export async function openModel({ base, unit, threads, model }) {
  const lite = await import(`${base}/litertjs-core/dist/index.js`), folder = `${base}/litertjs-core/wasm/`;
  const several = unit === "wasm" && threads > 1;
  // Its module looks for its files beside the script of this worker, unless `locateFile` is given.
  self.Module = { locateFile: (name) => folder + name, mainScriptUrlOrBlob: `${folder}litert_wasm_threaded_internal.js` };
  await lite.loadLiteRt(folder, { threads: several, jspi: unit !== "wasm" });
  const opened = await lite.loadAndCompile(model.data, { accelerator: unit, cpuOptions: { numThreads: threads } });
  if (unit !== "wasm" && !opened.isFullyAccelerated) throw new Error(`${unit} runs only a part of the model`);
  const inputs = opened.getInputDetails(), outputs = opened.getOutputDetails();
  return {
    unit,
    async run(given) {
      const tensors = inputs.map(({ name }) => new lite.Tensor(given[name].data, given[name].shape));
      let results = await opened.run(tensors);
      if (unit !== "wasm") results = await Promise.all(results.map((tensor) => tensor.moveTo("wasm")));
      const read = outputs.map(({ name, dtype, shape }, i) => [name, { dtype, shape: [...shape], data: results[i].toTypedArray().slice() }]);
      for (const tensor of [...tensors, ...results]) tensor.delete();
      return Object.fromEntries(read);
    },
    readPlacement: async () => ({ [unit]: "all nodes" }), // LiteRT.js does not report single nodes
    close: async () => opened.delete?.(),
  };
}

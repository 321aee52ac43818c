// A worker with the pipeline, so that the page stays responsive. Messages: {id, call, value} -> {id, result | error}.
"use strict";

const root = new URL("..", self.location.href).href.replace(/\/$/, "");
let pipeline = null;

const CALLS = {
  async load() {
    const { Pipeline } = await import("./pipeline.js");
    pipeline = await Pipeline.load(root);
    return pipeline.contract;
  },
  inputs: () => pipeline.testInputs(),
  test: (unit) => pipeline.testUnit(unit),
  use: (unit) => pipeline.use(unit),
  run: (sample) => pipeline.run(sample),
};

self.onmessage = async ({ data: { id, call, value } }) => {
  try {
    self.postMessage({ id, result: await CALLS[call](value) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};

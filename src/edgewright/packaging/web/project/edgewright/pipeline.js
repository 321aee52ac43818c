// The whole path of a sample: preprocessing, the model on a unit that reproduces the golden vectors, postprocessing.
import { readAnswer } from "./answers.js";
import { checkInputs, checkOutputs, readGolden } from "./golden.js";
import { Monitor } from "./monitor.js";
import { Inputs, toSource } from "./tensors.js";
import { openModel } from "./engine.js";

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const explain = (error) => (typeof error === "number" ? `the WebAssembly module failed with the exception ${error}` : String(error?.message ?? error).split("\n")[0]);

const encode = (name) => name.split("/").map(encodeURIComponent).join("/");

async function loadFile(root, name) {
  const answer = await fetch(`${root}/${encode(name)}`);
  if (!answer.ok) throw new Error(`${name} cannot be loaded: HTTP ${answer.status}`);
  return answer.arrayBuffer();
}

const hexadecimal = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Pipeline {
  /** Load the contract, the model and the golden vectors from the folder at the address `root`. */
  static async load(root) {
    const load = (name) => loadFile(root, name);
    const contract = JSON.parse(new TextDecoder().decode(await load("edgewright-app.json")));
    const names = Object.keys(contract.model.files);
    const files = await Promise.all(names.map(async (name) => ({ name, data: new Uint8Array(await load(`model/${name}`)) })));
    const own = new Pipeline();
    Object.assign(own, { root, contract, model: files[0], beside: files.slice(1), golden: await readGolden(load) });
    own.inputs = new Inputs(contract);
    own.monitor = new Monitor();
    own.engine = null;
    await own.checkModel();
    return own;
  }

  // The golden vectors belong to one model. Browsers compute hashes on secure pages only (https, localhost).
  async checkModel() {
    const { files, sha256 } = this.contract.model;
    if (this.golden.sha256 !== sha256) throw new Error("the golden vectors belong to another model: generate the project again");
    for (const { name, data } of crypto.subtle ? [this.model, ...this.beside] : []) {
      if (hexadecimal(await crypto.subtle.digest("SHA-256", data)) !== files[name]) throw new Error(`model/${name} was changed after the project was generated`);
    }
  }

  get threads() { return self.crossOriginIsolated ? this.contract.engine.threads : 1; }

  async open(unit) {
    if (unit === "webgpu" && !(navigator.gpu && await navigator.gpu.requestAdapter())) throw new Error("this browser has no GPU adapter for WebGPU");
    const { root, threads, model, beside } = this;
    return openModel({ base: `${root}/runtime`, unit, threads, options: this.contract.engine.options, model, beside });
  }

  /** Return the result of one unit: {unit, equal, max_abs, latency_ms, load_ms, placement, error}. */
  async testUnit(unit) {
    let engine = null;
    try {
      const began = performance.now();
      engine = await this.open(unit);
      const load_ms = performance.now() - began, placement = await engine.readPlacement(this.golden.samples[0].inputs);
      await engine.run(this.golden.samples[0].inputs); // the first run prepares the unit
      const { equal, max_abs, times_ms } = await checkOutputs(engine, this.golden);
      return { unit, equal, max_abs, latency_ms: median(times_ms), load_ms, placement, error: "" };
    } catch (error) {
      return { unit, equal: false, max_abs: {}, latency_ms: null, load_ms: null, placement: {}, error: explain(error) };
    } finally {
      await engine?.close();
    }
  }

  /** Return what of the self-test does not depend on the unit. */
  testInputs() {
    const { pictures, different } = checkInputs(this.inputs, this.golden), { model } = this.contract;
    return {
      schema: "edgewright.selftest/1", target: "web", artifact: model.main, sha256: model.sha256, runtime: model.runtime, agent: navigator.userAgent,
      threads: this.threads, time: new Date().toISOString(), samples: this.golden.samples.length, pictures, inputs_bitwise: different === 0,
    };
  }

  /** Use a unit, if it reproduces the first golden vector; otherwise raise an Error. */
  async use(unit) {
    const engine = await this.open(unit), { equal, max_abs } = await checkOutputs(engine, this.golden, this.golden.samples.slice(0, 1));
    if (!equal) {
      await engine.close();
      throw new Error(`${unit} differs from the golden vectors by ${JSON.stringify(max_abs)}`);
    }
    await this.engine?.close();
    this.engine = engine;
  }

  /** Return {answer, times} of a sample: by the name of each input in the task a frame, numbers or ids. */
  async run(sample) {
    const steps = [performance.now()], mark = () => steps.push(performance.now());
    const inputs = this.inputs.make(sample);
    mark();
    const outputs = await this.engine.run(inputs);
    mark();
    const named = Object.fromEntries(this.contract.outputs.map((tensor) => [tensor.source, toSource(outputs[tensor.name].data, tensor)]));
    const image = this.inputs.image, tokens = this.inputs.tokens[0];
    const answer = readAnswer(this.contract, named, { plan: image?.plan, size: image?.parameters.size, length: tokens && Math.min(sample[tokens.name].length, tokens.length) });
    mark();
    this.monitor.add({ preprocess: steps[1] - steps[0], inference: steps[2] - steps[1], postprocess: steps[3] - steps[2] });
    return { answer, monitor: this.monitor.read() };
  }
}

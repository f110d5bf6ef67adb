// The model's stages, off the page's thread. It fetches nothing: the page sends onnxruntime-web and the graphs as bytes.
//
// In: { task, ...values, id }. Out: { id, ...answer } or { id, error }. The outputs of the last stage that ran are kept, so
// that the next stage can follow when a threshold is raised.

// All optimisations take three times as long to load and run no faster here.
const OPTIONS = (on) => ({ executionProviders: [on], graphOptimizationLevel: "basic" });
let ort, provider;
const sessions = [];
let kept = {};

const tasks = {
  async start({ script, wasm, threads, on }) {
    ort = await import(script);
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    provider = on;
    return {};
  },

  async load({ stage, bytes }) {
    sessions[stage]?.release();
    sessions[stage] = await ort.InferenceSession.create(new Uint8Array(bytes), OPTIONS(provider));
    return {};
  },

  async run({ stage, inputs, outputs, input, shape }) {
    const before = stage === 0 ? { [inputs[0]]: new ort.Tensor("float32", input, shape) } : {};
    if (stage > 0) inputs.forEach((name) => (before[name] = kept[`next_${name}`]));
    const began = performance.now(), after = await sessions[stage].run(before);
    kept = after;
    return { logits: Float32Array.from(after[outputs[0]].data), milliseconds: performance.now() - began };
  },
};

let turn = Promise.resolve(); // one task at a time
self.onmessage = ({ data }) => {
  turn = turn.then(async () => {
    try {
      const answer = await tasks[data.task](data);
      self.postMessage({ id: data.id, ...answer });
    } catch (error) {
      self.postMessage({ id: data.id, error: String(error?.message ?? error) });
    }
  });
};

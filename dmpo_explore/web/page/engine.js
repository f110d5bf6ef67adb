// The model: its stages run in a worker, and a stage's graph is fetched when an image needs it, not before.
//
// The worker has the page's Content Security Policy, because its code comes from a blob; it gets bytes and fetches nothing.

import { bytesOf, isKept } from "./fetching.js";
import { scoresOf } from "./scores.js";

const blobOf = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));

export class Engine {
  constructor(facts) {
    this.facts = facts;
    this.loaded = facts.stages.map(() => false); // graphs that the worker has
    this.here = facts.stages.map(() => false); // graphs that need no download
    this.waiting = new Map(); // tasks without an answer; every start has its own
    this.backend = "wasm";
    this.threads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  }

  /** Where the model computes, in words. */
  get where() {
    if (this.backend === "webgpu") return "WebGPU";
    return `WebAssembly, ${this.threads === 1 ? "one thread" : `${this.threads} threads`}${this.instead ? `; the GPU failed: ${this.instead}` : ""}`;
  }

  /** Where the model computes: `wasm`, or `webgpu` where the browser has it; `instead`: why the other one failed.
   *
   * Tasks of an earlier start fail. */
  async start(backend = "wasm", instead = "") {
    this.instead = instead;
    this.worker?.terminate();
    for (const { failed } of this.waiting.values()) failed(new Error("the model was started again"));
    this.waiting = new Map();
    this.loaded.fill(false);
    this.backend = backend;
    this.starting = null;
    this.#started().catch(() => {}); // `load` reports it
    await Promise.all(this.facts.stages.map(async (stage, k) => (this.here[k] ||= await isKept(stage))));
  }

  // The worker with onnxruntime-web; after a failure, the next call begins again. After another `start` it is the new one.
  #started() {
    if (this.starting) return this.starting;
    const starting = this.#start(this.backend).catch((error) => {
      if (this.starting !== starting) return this.#started();
      this.starting = null;
      throw error;
    });
    return (this.starting = starting);
  }

  async #start(backend) {
    const { script, binary } = this.facts.runtime[backend], { waiting } = this;
    const [own, code, wasm] = await Promise.all([
      fetch("worker.js").then((response) => response.text()), bytesOf(script), bytesOf(binary),
    ]);
    if (waiting !== this.waiting) throw new Error("the model was started again");
    this.worker = new Worker(blobOf(own), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      const { done, failed } = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) failed(Object.assign(new Error(data.error), { computing: true }));
      else done(data);
    };
    this.worker.onerror = (event) => {
      for (const { failed } of waiting.values()) failed(Object.assign(new Error(event.message || "the worker does not start"), { computing: true }));
      waiting.clear();
    };
    await this.#ask({ task: "start", script: blobOf(code), wasm, threads: this.threads, on: backend }, [wasm]);
  }

  #ask(message, moved = []) {
    const id = (this.asked = (this.asked ?? 0) + 1);
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ ...message, id }, moved);
    });
  }

  /** Fetch stage `k`'s graph and load it; nothing where that is done. */
  async load(k, progress) {
    if (this.loaded[k]) return;
    const [bytes] = await Promise.all([bytesOf(this.facts.stages[k], progress), this.#started()]);
    this.here[k] = true;
    await this.#started(); // again: another `start` may have come meanwhile
    await this.#ask({ task: "load", stage: k, bytes }, [bytes]);
    this.loaded[k] = true;
  }

  /** Fetch all graphs, for use without a network. */
  async keepAll(progress) {
    for (const [k, stage] of this.facts.stages.entries()) {
      if (this.here[k]) continue;
      await bytesOf(stage, (done) => progress(k, done));
      this.here[k] = true;
    }
  }

  /** Run stage `k` on `input` (for the first one) or on what the stage before gave: { label, score, ranked, logits, milliseconds }. */
  async run(k, input) {
    const { inputs, outputs } = this.facts.stages[k], size = this.facts.preprocess.image_size, { policy } = this.facts;
    const shape = [1, 3, size, size];
    const { logits, milliseconds } = await this.#ask({ task: "run", stage: k, inputs, outputs, input, shape });
    if (!logits.every(Number.isFinite)) throw Object.assign(new Error("its logits are NaN or infinite"), { computing: true });
    return { ...scoresOf(logits, policy.score, policy.temperatures[k]), logits: [...logits], milliseconds };
  }
}

/** Whether the browser computes on a GPU, not on a GPU in software. */
export const hasGpu = async () => {
  if (!navigator.gpu || !("Suspending" in WebAssembly)) return false;
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
};

/* The graphs of the model, each run by ONNX Runtime in the browser. Every number is theirs. */

import * as ort from "./ort.wasm.bundle.min.mjs";

const RUNTIME = "ort-wasm-simd-threaded.wasm";
const NETWORK = "network.onnx", STATISTICS = "statistics.onnx", DECISION = "decision.onnx";

// What the browser keeps is asked for again: files of two versions do not fit.
const FRESH = { cache: "no-cache" };

async function fetched(name, expected) {
  const answer = await fetch(name, FRESH);
  if (!answer.ok) throw new Error(`${name}: the server answers ${answer.status}. Load the page again.`);
  const content = await answer.arrayBuffer();
  // Browsers have digests only on https and on this machine's own address.
  if (crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    const found = [...digest].map(byte => byte.toString(16).padStart(2, "0")).join("");
    if (found !== expected.sha256) throw new Error(`${name}: damaged, or of another version of this page. Load the page again.`);
  }
  return new Uint8Array(content);
}

export class Model {
  // Loads what every sound needs. `progress` gets the share that is there.
  static async load(progress) {
    const answer = await fetch("manifest.json", FRESH);
    if (!answer.ok) throw new Error(`manifest.json: the server answers ${answer.status}. Load the page again.`);
    const model = new Model(await answer.json());
    const names = [RUNTIME, NETWORK, STATISTICS, DECISION];
    const total = names.reduce((sum, name) => sum + model.facts.files[name].bytes, 0);
    let done = 0;
    await Promise.all(names.map(async name => {
      await model.bytesOf(name);
      done += model.facts.files[name].bytes;
      progress(done / total);
    }));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await model.bytesOf(RUNTIME);
    for (const name of [NETWORK, STATISTICS, DECISION]) await model.session(name);
    return model;
  }

  constructor(facts) {
    this.facts = facts;
    this.files = new Map();
    this.sessions = new Map();
  }

  // Whatever a later sound may need, so that the network can be cut.
  loadRest() { return Promise.all(Object.keys(this.facts.files).map(name => this.bytesOf(name))); }

  bytesOf(name) {
    if (!this.files.has(name)) {
      const loading = fetched(name, this.facts.files[name]);
      loading.catch(() => this.files.delete(name));
      this.files.set(name, loading);
    }
    return this.files.get(name);
  }

  session(name) {
    if (!this.sessions.has(name))
      this.sessions.set(name, this.bytesOf(name).then(content => ort.InferenceSession.create(content, { executionProviders: ["wasm"] })));
    return this.sessions.get(name);
  }

  async run(name, feeds) { return (await this.session(name)).run(feeds); }

  // Samples of any rate that there is a graph for -> samples of the model's rate.
  async resample(samples, rate) {
    const wanted = this.facts.sampling_rate;
    if (rate === wanted) return samples.map(value => Math.min(Math.max(value, -1), 1));
    const length = Math.floor((2 * samples.length * wanted + rate) / (2 * rate));
    const { resampled } = await this.run(`resample_${rate}.onnx`, { samples: floats(samples, [samples.length]) });
    return resampled.data.slice(0, length);
  }

  // What the network says of one window, filled to a clip.
  async hear(clip) { return this.run(NETWORK, { input_values: floats(clip, [1, clip.length]) }); }

  async statistics(logMel, bins) {
    return (await this.run(STATISTICS, { log_mel: floats(logMel, [1, bins, logMel.length / bins]) })).spectra.data;
  }

  // The decision about windows: arrays of their embeddings, cosines and spectra, one after the other.
  async decide({ embeddings, cosines, spectra, windows, frames, machine, rate, conditions }) {
    const bins = this.facts.mel_frequencies.length, rows = spectra.length / windows / bins;
    const outputs = await this.run(DECISION, {
      embeddings: floats(embeddings, [windows, embeddings.length / windows]),
      cosines: floats(cosines, [windows, cosines.length / windows]),
      spectra: floats(spectra, [windows, rows, bins]),
      frames: new ort.Tensor("float64", Float64Array.of(frames), []),
      machine: new ort.Tensor("int64", BigInt64Array.of(BigInt(machine)), []),
      false_alarm_rate: new ort.Tensor("float64", Float64Array.of(rate), []),
      conditions: new ort.Tensor("float64", Float64Array.from(conditions), [4]),
    });
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => {
      const values = Array.from(tensor.data, Number);
      return [name, tensor.dims.length ? values : values[0]];
    }));
  }
}

function floats(values, dims) { return new ort.Tensor("float32", values, dims); }

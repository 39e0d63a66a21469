// A learned initialization with its few-step adapter, run by LiteRT.js.
//
// `python -m tfmetainit.export` writes the .tflite file. All its shapes are static.
// On WebAssembly its signature `adapt` takes all steps of a fit. On WebGPU, which has
// no loops, `adapt_step` takes one, and `solve_output` solves the output layer. This
// module does not touch the page, and no data leave the browser.

import {loadAndCompile, loadLiteRt, supportsFeature, Tensor} from '@litertjs/core';

const WASM = new URL('./node_modules/@litertjs/core/wasm/', import.meta.url);

// Coordinates of all pixels of a height x width picture: (row / height, column / width),
// row first, in [0, 1).
export function pixelCoords(height, width) {
  const coords = new Float32Array(2 * height * width);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      coords[i++] = row / height;
      coords[i++] = column / width;
    }
  }
  return coords;
}

export function meanSquaredError(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum / a.length;
}

export const psnr = (mse) => -10 * Math.log10(Math.max(mse, 1e-10));

// Runs a signature on named arrays, and frees the tensors of the runtime.
async function run(signature, inputs) {
  const tensors = {};
  for (const {name, shape} of signature.getInputDetails()) {
    tensors[name] = new Tensor(inputs[name], shape);
  }
  const outputs = await signature.run(tensors);
  const arrays = {};
  for (const [name, output] of Object.entries(outputs)) {
    const tensor = output.accelerator === 'wasm' ? output : await output.moveTo('wasm');
    arrays[name] = (await tensor.data()).slice();
    tensor.delete();
  }
  for (const tensor of Object.values(tensors)) tensor.delete();
  return arrays;
}

// Draws `size` of `count` rows at random, the same rows from each array. An array
// is given as [array, entries per row].
function draw(arrays, count, size) {
  const order = Uint32Array.from({length: count}, (_, i) => i);
  for (let i = 0; i < size; ++i) {
    const j = i + Math.floor(Math.random() * (count - i));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return arrays.map(([rows, width]) => {
    const drawn = new Float32Array(size * width);
    for (let i = 0; i < size; ++i) {
      drawn.set(rows.subarray(order[i] * width, (order[i] + 1) * width), i * width);
    }
    return drawn;
  });
}

// The array, followed by zeros up to `length` entries.
function pad(array, length) {
  if (array.length === length) return array;
  const padded = new Float32Array(length);
  padded.set(array);
  return padded;
}

// The name of a GPU that the page may use, or null. Emulated ones are slower than
// WebAssembly: they are used only on demand.
async function findGpu(onDemand) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return null;
  const {vendor = '', architecture = '', isFallbackAdapter} = adapter.info ?? {};
  const emulated = isFallbackAdapter || architecture === 'swiftshader';
  return emulated && !onDemand ? null : `${vendor} ${architecture}`.trim() || 'unnamed';
}

export class LearnedField {
  // Loads the runtime and the artifact in the folder `url`. `accelerator` is "webgpu",
  // "wasm", or null for WebGPU if there is a GPU that takes the artifact.
  static async load(url, accelerator = null) {
    const threads = globalThis.crossOriginIsolated && await supportsFeature('threads');
    await loadLiteRt(WASM.href, {threads});
    const answer = await fetch(new URL('metadata.json', url));
    if (!answer.ok) throw new Error(`There is no artifact at ${url} (${answer.status}).`);
    const metadata = await answer.json();
    const model = new URL('model.tflite', url).href;
    const gpu = metadata.gpu && accelerator !== 'wasm' ?
        await findGpu(accelerator === 'webgpu') : null;
    if (gpu) {
      try {
        return new LearnedField(
            await loadAndCompile(model, {accelerator: 'webgpu'}), metadata, `WebGPU (${gpu})`, true);
      } catch (error) {
        console.warn('WebGPU cannot be used:', error);
      }
    }
    if (accelerator === 'webgpu') throw new Error('This browser or artifact cannot use WebGPU.');
    const numThreads = threads ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
    const where = `WebAssembly, ${numThreads} thread${numThreads > 1 ? 's' : ''}`;
    return new LearnedField(
        await loadAndCompile(model, {accelerator: 'wasm', cpuOptions: {numThreads}}), metadata,
        where, false);
  }

  // `where` says what the artifact runs on, for people.
  constructor(model, metadata, where, byStep) {
    this.model = model;
    this.metadata = metadata;
    this.where = where;
    this.byStep = byStep;
    this.resolution = metadata.signal.resolution;
  }

  // The learned initial weights: theta, a flat Float32Array.
  async init() {
    return (await run(this.model.signatures.init, {})).theta;
  }

  // The network's weights to predict with, a flat Float32Array. If the output layer is
  // solved after the steps, its weights stand behind those that steps go on from.
  weights(theta) {
    const {num_params: size, output_layer: layer, params} = this.metadata;
    const weights = theta.slice(0, size);
    if (layer === 'solved') {
      const count = ({shape}) => shape.reduce((product, side) => product * side, 1);
      const solution = params.slice(-2).map(count).reduce((sum, n) => sum + n);
      weights.set(theta.subarray(size, size + solution), size - solution);
    }
    return weights;
  }

  // `steps` gradient steps from `theta` on values observed at coords. If there
  // are more points than the artifact was exported for, a random subset is used.
  async adapt(theta, coords, values, steps) {
    const {num_points: size, value_shape: [channels], input_shape: [dims]} = this.metadata;
    let count = values.length / channels;
    if (count > size) {
      [coords, values] = draw([[coords, dims], [values, channels]], count, size);
      count = size;
    }
    const observed = {inputs: pad(coords, size * dims), values: pad(values, size * channels)};
    if (this.byStep) return this.adaptByStep(theta, observed, count, steps);
    const result = await run(this.model.signatures.adapt, {
      theta, ...observed, n_points: Int32Array.of(count), steps: Int32Array.of(steps),
    });
    const taken = result.steps_taken[0];
    return {theta: result.theta, losses: result.losses.slice(0, taken), taken};
  }

  async adaptByStep(theta, observed, count, steps) {
    const {adapt_step: all, adapt_half: half, solve_output: solve} = this.model.signatures;
    const step = half ?? all;
    const weights = new Float32Array(this.metadata.num_points).fill(1, 0, count);
    const losses = [];
    for (let taken = 0; taken < steps; taken++) {
      const result = await run(step, {theta, ...observed, weights});
      // If the loss or the weights are not finite, theta stays.
      if (!Number.isFinite(result.loss[0])) break;
      if (result.theta.every((weight, i) => weight === theta[i])) break;
      theta = result.theta;
      losses.push(result.loss[0]);
    }
    if (solve) theta = (await run(solve, {theta, ...observed, weights})).theta;
    return {theta, losses: Float32Array.from(losses), taken: losses.length};
  }

  // Values of the field with weights `theta` at any number of coords.
  async predict(theta, coords) {
    const {num_coords: size, value_shape: [channels], coords_shape: [dims]} = this.metadata;
    const count = coords.length / dims;
    const values = new Float32Array(count * channels);
    for (let start = 0; start < count; start += size) {
      const part = coords.subarray(start * dims, (start + size) * dims);
      const result = await run(
          this.model.signatures.predict, {theta, coords: pad(part, size * dims)});
      const rows = part.length / dims;
      values.set(result.values.subarray(0, rows * channels), start * channels);
    }
    return values;
  }
}

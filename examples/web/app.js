// The page, which shows pictures and fields. The fit itself is in field.js.

import {LearnedField, meanSquaredError, pixelCoords, psnr} from './field.js';

const $ = (id) => document.getElementById(id);
const MAX_ZOOM = 16;
const ZOOM_SIDE = 256;  // pixels of the longer side

let field;     // LearnedField
let picture;   // {canvas, values, height, width}: the picture to fit
let theta;     // the adapted weights
let shown;     // the picture that theta was adapted to
let fitting = 0;  // number of the latest fit; a later fit stops an earlier one
let reading = 0;  // number of the latest file

function say(text, isError = false) {
  $('status').textContent = text;
  $('status').className = isError ? 'error' : '';
}

// Runs `work` and shows its error on the page, if any.
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    console.error(error);
    say(error.message ?? String(error), true);
  }
}

function newCanvas(height, width) {
  const canvas = document.createElement('canvas');
  [canvas.height, canvas.width] = [height, width];
  return canvas;
}

// Shows a canvas in the proportion of a picture.
function inProportion(canvas, {height, width}) {
  canvas.style.aspectRatio = `${width} / ${height}`;
  return canvas;
}

// Gives a canvas the size and the pixels of another.
function copyTo(canvas, source) {
  [canvas.height, canvas.width] = [source.height, source.width];
  canvas.getContext('2d').drawImage(source, 0, 0);
}

// Height and width in the same proportion, the longer one as given.
function scaledTo(height, width, longer) {
  return [height, width].map(
      (side) => Math.max(1, Math.round(longer * side / Math.max(height, width))));
}

// Paints values in [0, 1], three per pixel, onto a canvas.
function paint(canvas, values) {
  const image = new ImageData(canvas.width, canvas.height);
  for (let pixel = 0; pixel < values.length / 3; pixel++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * pixel + c] = 255 * values[3 * pixel + c];  // clamps and rounds
    }
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function addToStrip(canvas, title, text) {
  const figure = document.createElement('figure');
  const caption = document.createElement('figcaption');
  const bold = document.createElement('b');
  bold.textContent = title;
  caption.append(bold, text);
  figure.append(canvas, caption);
  $('strip').append(figure);
}

// A source as a square of the training resolution, whatever its proportion.
function squashed(source, height, width) {
  const side = field.resolution, canvas = newCanvas(side, side);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = 'white';
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, width, height, 0, 0, side, side);
  const {data} = context.getImageData(0, 0, side, side);
  const values = new Float32Array(3 * side * side);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * Math.floor(i / 3) + i % 3] / 255;
  return {canvas, values, height, width};
}

async function fit() {
  if (!picture) return;
  const mine = ++fitting, steps = Number($('steps').value);
  const target = picture, side = field.resolution;
  const coords = pixelCoords(side, side);
  $('strip').replaceChildren();
  copyTo(inProportion($('target'), target), target.canvas);
  $('target-size').textContent = `${side} × ${side} pixels`;
  let weights = await field.init(), milliseconds = 0, quality = 0;
  for (let step = 0; step <= steps; step++) {
    // Without a step, only the output layer is solved, if the artifact does so.
    const started = performance.now(), count = Math.min(step, 1);
    const result = await field.adapt(weights, coords, target.values, count);
    if (result.taken !== count) throw new Error(`The fit diverged at step ${step}.`);
    if (step) milliseconds += performance.now() - started;
    weights = result.theta;
    const values = await field.predict(weights, coords);
    if (mine !== fitting) return;
    const canvas = inProportion(newCanvas(side, side), target);
    paint(canvas, values);
    quality = psnr(meanSquaredError(values, target.values));
    addToStrip(
        canvas, `step ${step}`,
        `${quality.toFixed(1)} dB` + (step ? `\n${milliseconds.toFixed(0)} ms` : ''));
    copyTo(inProportion($('fitted'), target), canvas);
    $('fitted-step').textContent = `after ${step} steps: ${quality.toFixed(1)} dB`;
    // Lets the page draw between the steps.
    await new Promise((resolve) => setTimeout(resolve));
  }
  theta = weights;
  shown = target;
  say(`${steps} gradient steps in ${milliseconds.toFixed(0)} ms: ${quality.toFixed(2)} dB.`);
  $('zoom').hidden = false;
  resetView();
}

function use(source, height, width) {
  picture = squashed(source, height, width);
  say('Fitting …');
  return fit();
}

async function useFile(file) {
  const mine = ++reading;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read.`);
  }
  // A file chosen later may have been read sooner.
  if (mine === reading) await use(bitmap, bitmap.height, bitmap.width);
  bitmap.close();
}

function useSample() {
  const canvas = newCanvas(512, 512), context = canvas.getContext('2d');
  const sky = context.createLinearGradient(0, 0, 0, 512);
  sky.addColorStop(0, '#1e3a8a');
  sky.addColorStop(1, '#fdba74');
  context.fillStyle = sky;
  context.fillRect(0, 0, 512, 512);
  context.fillStyle = '#fde68a';
  context.beginPath();
  context.arc(360, 170, 70, 0, 7);
  context.fill();
  context.fillStyle = '#14532d';
  context.beginPath();
  context.moveTo(0, 512);
  context.lineTo(0, 380);
  context.lineTo(170, 240);
  context.lineTo(330, 400);
  context.lineTo(420, 330);
  context.lineTo(512, 420);
  context.lineTo(512, 512);
  context.fill();
  context.fillStyle = 'white';
  context.font = 'bold 110px sans-serif';
  context.fillText('field', 60, 470);
  return use(canvas, 512, 512);
}

// ---- Camera -----------------------------------------------------------------

let stream;

async function openCamera() {
  if (!navigator.mediaDevices) throw new Error('This browser does not give access to a camera.');
  let opened;
  try {
    opened = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  } catch (error) {
    throw new Error(`The camera cannot be used: ${error.message}`);
  }
  closeCamera();  // the button may be pressed twice
  stream = opened;
  $('video').srcObject = stream;
  await $('video').play();  // no picture can be taken before
  $('viewfinder').hidden = false;
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  $('viewfinder').hidden = true;
}

async function shoot() {
  const video = $('video');
  const fitted = use(video, video.videoHeight, video.videoWidth);
  closeCamera();
  await fitted;
}

// ---- Beyond the pixels --------------------------------------------------------

let view;            // {row, column, extent}: shares of the picture: the visible part
let drawing = false, drawAgain = false;

function resetView() {
  view = {row: 0, column: 0, extent: 1};
  for (const canvas of [$('zoom-picture'), $('zoom-field')]) {
    [canvas.height, canvas.width] = scaledTo(shown.height, shown.width, ZOOM_SIDE);
  }
  guarded(draw);
}

async function draw() {
  if (drawing) {
    drawAgain = true;
    return;
  }
  drawing = true;
  try {
    await drawOnce();
  } finally {
    drawing = false;
  }
}

async function drawOnce() {
  do {
    drawAgain = false;
    const {row, column, extent} = view;
    const canvas = $('zoom-field'), {height, width} = canvas;
    const coords = pixelCoords(height, width);
    for (let i = 0; i < coords.length; i += 2) {
      coords[i] = row + extent * coords[i];
      coords[i + 1] = column + extent * coords[i + 1];
    }
    const context = $('zoom-picture').getContext('2d'), side = field.resolution;
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, width, height);
    // The field has a pixel's value at its corner; the canvas, at its centre. Drawn
    // without the half pixel first, as the last row and column end before the edge.
    for (const half of [0, .5]) {
      context.drawImage(
          shown.canvas, column * side + half, row * side + half, extent * side,
          extent * side, 0, 0, width, height);
    }
    const started = performance.now();
    paint(canvas, await field.predict(theta, coords));
    $('zoom-shown').textContent = `zoom ${(1 / extent).toFixed(1)} ×, ` +
        `${width} × ${height} points in ${(performance.now() - started).toFixed(0)} ms`;
  } while (drawAgain);
}

// The visible part moved and scaled, within the picture.
function look(row, column, extent) {
  const kept = (start) => Math.min(1 - extent, Math.max(0, start));
  view = {row: kept(row), column: kept(column), extent};
  guarded(draw);
}

// Rows and columns are shares of the canvas.
function zoomAt(row, column, factor) {
  const extent = Math.min(1, Math.max(1 / MAX_ZOOM, view.extent / factor));
  const less = view.extent - extent;
  look(view.row + row * less, view.column + column * less, extent);
}

function moveBy(rows, columns) {
  look(view.row + rows, view.column + columns, view.extent);
}

function listenToZoom() {
  const canvas = $('zoom-field');
  const pointers = new Map();
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoomAt(...place(event), Math.exp(-event.deltaY / 400));
  }, {passive: false});
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
  });
  canvas.addEventListener('pointermove', (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = place(event), wide = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, now);
    if (wide) zoomAt(...now, spread() / wide);
    else moveBy((before[0] - now[0]) * view.extent, (before[1] - now[1]) * view.extent);
  });
  for (const name of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener('dblclick', resetView);
  canvas.addEventListener('keydown', (event) => {
    const move = view.extent / 8;
    const keys = {
      '+': () => zoomAt(.5, .5, 1.5),
      '-': () => zoomAt(.5, .5, 1 / 1.5),
      'ArrowUp': () => moveBy(-move, 0),
      'ArrowDown': () => moveBy(move, 0),
      'ArrowLeft': () => moveBy(0, -move),
      'ArrowRight': () => moveBy(0, move),
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
}

// The weights as a .npy file, which np.load reads as float32 [P].
function toNpy(array) {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${array.length},), }`;
  const padded = header + ' '.repeat((64 - (header.length + 11) % 64) % 64) + '\n';
  const start = [0x93, ...[...'NUMPY'].map((c) => c.charCodeAt(0)), 1, 0];
  return new Blob(
      [Uint8Array.of(...start, padded.length & 255, padded.length >> 8), padded, array]);
}

function download() {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(toNpy(field.weights(theta)));
  link.download = 'weights.npy';
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- Start --------------------------------------------------------------------

function listen() {
  $('sample').addEventListener('click', () => guarded(useSample));
  $('file').addEventListener('change', (event) => {
    const [file] = event.target.files;
    if (file) guarded(() => useFile(file));
    event.target.value = '';
  });
  $('camera').addEventListener('click', () => guarded(openCamera));
  $('shoot').addEventListener('click', () => guarded(shoot));
  $('cancel').addEventListener('click', closeCamera);
  $('download').addEventListener('click', download);
  $('closer').addEventListener('click', () => zoomAt(.5, .5, 1.5));
  $('farther').addEventListener('click', () => zoomAt(.5, .5, 1 / 1.5));
  $('whole').addEventListener('click', resetView);
  $('steps').addEventListener('input', () => {
    $('steps-shown').value = $('steps').value;
  });
  $('steps').addEventListener('change', () => guarded(fit));
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dragging');
  });
  document.addEventListener('dragleave', () => document.body.classList.remove('dragging'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dragging');
    const [file] = event.dataTransfer.files;
    if (file) guarded(() => useFile(file));
  });
  listenToZoom();
}

guarded(async () => {
  const asked = new URLSearchParams(location.search);
  const folder = asked.get('artifact') ?? 'artifact';
  field = await LearnedField.load(
      new URL(folder.replace(/\/*$/, '/'), location.href), asked.get('accelerator'));
  const {metadata} = field;
  if (metadata.signal.kind !== 'image') {
    throw new Error(`This page fits images. The artifact is for "${metadata.signal.kind}".`);
  }
  listen();
  $('main').hidden = false;
  $('about').textContent =
      `Learned initialization "${metadata.name}", ${metadata.num_params.toLocaleString()} ` +
      `weights, ${metadata.signal.resolution} × ${metadata.signal.resolution}, licence: ` +
      `${metadata.license}. LiteRT.js on ${field.where}. Once loaded, the page works offline.`;
  say('Fitting the sample …');
  await useSample();
  document.body.dataset.ready = 'yes';
});

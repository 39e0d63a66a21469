// Drives the page in headless Chromium, for tests/examples_test.py.
//
//   node browse.mjs fit <chromium> <url> <photo> <weights.npy> <screenshot.png>
//   node browse.mjs look <chromium> <url> <width> <height> <screenshot.png>
//   node browse.mjs gpu <chromium> <url>
//   node browse.mjs errors <chromium> <url> <file that is no picture>
//
// Prints what was seen as JSON.

import {chromium} from 'playwright-core';

const [what, executablePath, url, ...paths] = process.argv.slice(2);
// WebGPU without a GPU, by SwiftShader.
const gpu = url.includes('accelerator=webgpu') ?
    ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'] :
    ['--disable-gpu'];
const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox', ...gpu, '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const context = await browser.newContext({viewport: {width: 1100, height: 1000}});

const status = (page, pattern) => page.waitForFunction(
    (source) => {
      const text = document.getElementById('status').textContent;
      return new RegExp(source).test(text) && text;
    },
    pattern, {timeout: 120_000}).then((handle) => handle.jsonValue());

async function open(address) {
  const page = await context.newPage();
  await page.goto(address);
  return page;
}

async function ready(page) {
  await page.waitForFunction('document.body.dataset.ready', null, {timeout: 120_000});
  return page;
}

async function fit(photo, weights, screenshot) {
  const page = await context.newPage(), errors = [], requests = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(url);
  await ready(page);
  await context.setOffline(true);
  page.on('request', (request) => {
    if (request.url().startsWith('http')) requests.push(request.url());
  });
  await page.evaluate(() => document.getElementById('status').replaceChildren());
  await page.setInputFiles('#file', photo);
  await status(page, 'gradient steps');
  const captions = await page.$$eval(
      '#strip figcaption', (all) => all.map((caption) => caption.lastChild.textContent));
  await page.hover('#zoom-field');
  await page.mouse.wheel(0, -400);
  await page.waitForFunction(
      () => /zoom (?!1\.0)/.test(document.getElementById('zoom-shown').textContent));
  const zoom = await page.textContent('#zoom-shown');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
  await download.saveAs(weights);
  await page.screenshot({path: screenshot, fullPage: true});
  const about = await page.textContent('#about');
  const proportions = await page.$$eval('canvas', (all) => all.map((canvas) => {
    const {width, height} = canvas.getBoundingClientRect();
    return width / height;
  }));
  return {proportions, captions, zoom, about, errors, requests_after_loading: requests};
}

// Whether the browser has a GPU, be it an emulated one.
async function gpuThere() {
  const page = await open(url);
  return page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
}

// The page after loading, and what does not fit its window.
async function look(width, height, screenshot) {
  const page = await context.newPage();
  await page.setViewportSize({width: Number(width), height: Number(height)});
  await page.goto(url);
  await ready(page);
  await page.screenshot({path: screenshot, fullPage: true});
  return page.evaluate(() => {
    const {right: edge} = document.documentElement.getBoundingClientRect();
    const shown = document.getElementById('fitted').getBoundingClientRect();
    return {
      too_wide: [...document.querySelectorAll('body *')]
          .filter((one) => one.getBoundingClientRect().right > edge + 1).map((one) => one.outerHTML),
      fitted_bottom: shown.bottom,
      captions: [...document.querySelectorAll('canvas')]
          .map((one) => one.parentElement.querySelector('figcaption')?.textContent),
      status: document.getElementById('status').textContent,
    };
  });
}

async function errors(foreign) {
  const page = await ready(await open(url));
  await page.setInputFiles('#file', foreign);
  const foreignFile = await status(page, 'is not a picture');
  const other = await open(`${url}/?artifact=none`);
  const withoutArtifact = await status(other, 'no artifact');
  await context.addInitScript('delete globalThis.WebAssembly');
  const old = await open(url);
  return {
    foreign_file: foreignFile,
    without_artifact: withoutArtifact,
    without_webassembly: await status(old, 'WebAssembly'),
  };
}

try {
  console.log(JSON.stringify(await {fit, look, errors, gpu: gpuThere}[what](...paths)));
} finally {
  await browser.close();
}

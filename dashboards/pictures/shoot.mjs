/**
 * Takes pictures of dashboards with headless Chromium.
 *
 * In: `node shoot.mjs CHROMIUM JOBS`. JOBS is JSON: [{url, file, from, to, width}]. `from` and `to` are titles of rows:
 * the picture begins with row `from` and ends above row `to`. Out: PNG files, and errors of the page on standard error.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const TIMEOUT_MS = 60_000;
const DRAWING_MS = 1_500; // for drawing after the last response
/** Messages about files and settings that only a Grafana server has: fonts, two icons, its start-up data. */
const HARMLESS = /\/public\/|Failed to load resource|grafanaBootData/;
const [executablePath, jobs] = process.argv.slice(2);

const profile = mkdtempSync(join(tmpdir(), 'pictures-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
  ],
});
try {
  for (const job of JSON.parse(jobs)) {
    await shoot(job);
  }
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}

async function shoot({ url, file, from, to, width }) {
  const page = await browser.newPage();
  page.on('pageerror', (error) => wrong(file, error));
  page.on('console', (message) => message.type() === 'error' && wrong(file, message.text()));
  page.on('response', (answer) => answer.status() >= 400 && wrong(file, `${answer.status()} ${answer.url()}`));
  await page.setViewportSize({ width, height: 1_000 });
  await page.goto(url);
  await page.waitForFunction(() => window.isDone?.(), null, { timeout: TIMEOUT_MS });
  // The window must be as high as the page. Otherwise panels below the window are not drawn.
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height });
  await page.waitForTimeout(DRAWING_MS);
  await page.waitForFunction(() => window.isDone());
  const top = from ? await above(page, from) : 0;
  const bottom = to ? await above(page, to) : height;
  await page.screenshot({ path: file, clip: { x: 0, y: top, width, height: bottom - top } });
  await page.close();
}

/** Report an error of the page. The program then exits with status 1. */
function wrong(file, what) {
  if (!HARMLESS.test(what)) {
    console.error(`${file}: ${what}`);
    process.exitCode = 1;
  }
}

async function above(page, row) {
  const box = await page.getByText(row, { exact: true }).first().boundingBox();
  return Math.floor(box.y) - 4;
}

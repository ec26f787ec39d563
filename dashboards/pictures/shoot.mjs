/**
 * Photographs dashboards with headless Chromium.
 *
 * In: `node shoot.mjs CHROMIUM JOBS`, JOBS as JSON: [{url, file, from, to, width}]; `from` and `to` are titles of rows:
 * the picture begins with the one and ends above the other. Out: PNG files; the errors of the page on standard error.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const PATIENCE = 60_000;
const SETTLE = 1_500; // for what is drawn after the last answer
/** Files and settings that only a Grafana server has: fonts, two icons, its own start-up data. */
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
  await page.waitForFunction(() => window.isDone?.(), null, { timeout: PATIENCE });
  // As high as all of it, or what is below the window would not be drawn.
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height });
  await page.waitForTimeout(SETTLE);
  await page.waitForFunction(() => window.isDone());
  const top = from ? await above(page, from) : 0;
  const bottom = to ? await above(page, to) : height;
  await page.screenshot({ path: file, clip: { x: 0, y: top, width, height: bottom - top } });
  await page.close();
}

/** A picture with an error in it is none. */
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

// Walks a connect link in a real browser, without script, and says what was seen.
//
//   BROWSER_MODULES=…/node_modules node walk.mjs '{"chromium": "/usr/bin/chromium", "link": "…", "account": "zoe"}'
//
// Options beside: `key` typed where the page asks for one, `pictures` a folder for pictures of the pages,
// `width` of the window. Prints one JSON object: the pages by URL, title and text, and what was blocked.

import { mkdirSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const modules = process.env.BROWSER_MODULES;
const { default: puppeteer } = await import(pathToFileURL(`${modules}/puppeteer-core/lib/puppeteer/puppeteer-core.js`));
const options = { width: 900, ...JSON.parse(process.argv[2]) };
const STEPS = 6;

const browser = await puppeteer.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  timeout: 60_000,
});
const seen = [];
const blocked = [];
try {
  const page = await browser.newPage();
  await page.setViewport({ width: options.width, height: 800 });
  await page.setJavaScriptEnabled(false);
  page.on('console', (message) => { if (/Refused|Content Security Policy|blocked/i.test(message.text())) blocked.push(message.text()); });
  page.on('requestfailed', (request) => blocked.push(`${request.url()}: ${request.failure()?.errorText}`));
  const look = async () => {
    seen.push({
      url: page.url(),
      title: await page.title(),
      text: await page.$eval('body', (body) => body.textContent.replace(/\s+/g, ' ').trim()),
      language: await page.$eval('html', (html) => html.lang),
    });
    if (options.pictures) {
      mkdirSync(options.pictures, { recursive: true });
      await page.screenshot({ path: `${options.pictures}/${seen.length}-${options.width}.png`, fullPage: true });
    }
  };
  await page.goto(options.link, { waitUntil: 'load' });
  await look();
  for (let step = 0; step < STEPS; step += 1) {
    const form = await page.$('form');
    if (!form) break;
    const account = await page.$('input[name=account]');
    if (account) await account.type(options.account);
    const key = await page.$('input[name=api_key]');
    if (key && options.key) await key.type(options.key);
    const button = await page.$('form button, form input[type=submit]');
    await Promise.all([page.waitForNavigation({ waitUntil: 'load', timeout: 60_000 }), button.click()]);
    await look();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify({ seen, blocked }));

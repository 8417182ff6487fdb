// Looks at pages as people of all kinds see them: narrow and wide, light and dark, by keyboard, and with axe-core.
//
//   BROWSER_MODULES=…/node_modules node look.mjs '{"chromium": "/usr/bin/chromium", "walks": [[{"open": "http://…"}, {"look": "a name"}]]}'
//
// A walk is the steps of one person, in a browser of their own: `open` a URL, `type` a text into the field of a name,
// `press` what has this text (a button, a link), `forge` what the next callback's query is to hold instead, `reload`,
// `look` at the page. Option beside: `pictures`, a folder. Prints one JSON object: for each look its name, URL,
// status, text, and every fault.

import { mkdirSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const modules = process.env.BROWSER_MODULES;
const { default: puppeteer } = await import(pathToFileURL(`${modules}/puppeteer-core/lib/puppeteer/puppeteer-core.js`));
const axe = readFileSync(`${modules}/axe-core/axe.min.js`, 'utf8');
const options = JSON.parse(process.argv[2]);
const WIDTHS = [320, 1280];
const SCHEMES = ['light', 'dark'];
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const FOCUSABLE = 'a[href], button, input:not([type=hidden]), summary';

const browser = await puppeteer.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  timeout: 60_000,
});
const seen = [];

// The whole of it runs within the page, where axe was put before.
function judge(tags) {
  return globalThis.axe.run(document, {
    runOnly: { type: 'tag', values: tags },
    rules: { 'target-size': { enabled: true } },
    preload: false,
    resultTypes: ['violations', 'incomplete'],
  });
}

async function examine(page, faults, where) {
  const found = await page.evaluate(judge, TAGS);
  for (const [kind, results] of [['violation', found.violations], ['unsure', found.incomplete]]) {
    for (const result of results) {
      faults.push(`${where}: ${kind} of ${result.id}: ${result.nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`);
    }
  }
  const wide = await page.evaluate(() => {
    const root = document.documentElement;
    const out = [...document.querySelectorAll('body *')].filter((it) => it.getBoundingClientRect().right > root.clientWidth + 0.5);
    return root.scrollWidth > root.clientWidth || out.length ? [root.scrollWidth, root.clientWidth, ...out.map((it) => it.outerHTML.slice(0, 120))] : [];
  });
  if (wide.length) faults.push(`${where}: scrolls sideways: ${wide.join(' ')}`);
}

// Everything that can be used is reached by Tab, in the order of the page, and shows that it is.
async function byKeyboard(page, faults) {
  const all = await page.$$eval(FOCUSABLE, (them) => {
    const shown = them.filter((it) => it.checkVisibility());
    shown.forEach((it, number) => { it.dataset.tab = String(number); });
    // From the top, wherever the page puts the focus itself.
    document.body.tabIndex = -1;
    document.body.focus();
    return shown.length;
  });
  const reached = [];
  for (let press = 0; press < all; press += 1) {
    await page.keyboard.press('Tab');
    const [tab, shows] = await page.evaluate(() => {
      const it = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(it);
      return [it.dataset.tab, outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2];
    });
    reached.push(tab);
    if (!shows) faults.push(`keyboard: number ${press} does not show its focus`);
  }
  const expected = [...Array(all).keys()].map(String);
  if (reached.join() !== expected.join()) faults.push(`keyboard: reached ${reached} of ${all}`);
  await page.evaluate(() => document.activeElement?.blur());
}

async function look(page, name, status) {
  const faults = [];
  await page.evaluate(axe);
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) {
      await page.setViewport({ width, height: 800 });
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
      await examine(page, faults, `${width} ${scheme}`);
      if (options.pictures) {
        mkdirSync(options.pictures, { recursive: true });
        await page.screenshot({ path: `${options.pictures}/${name.replace(/\W+/g, '-')}-${width}-${scheme}.png`, fullPage: true });
      }
    }
  }
  await byKeyboard(page, faults);
  seen.push({
    name,
    status,
    faults,
    url: page.url(),
    title: await page.title(),
    text: await page.$eval('body', (body) => body.textContent.replace(/\s+/g, ' ').trim()),
  });
}

async function press(page, text) {
  const handles = await page.$$('button, a, summary, input[type=submit]');
  for (const handle of handles) {
    const own = await handle.evaluate((it) => it.textContent.trim());
    if (own.startsWith(text)) {
      const [response] = await Promise.all([page.waitForNavigation({ waitUntil: 'load', timeout: 60_000 }), handle.click()]);
      return response;
    }
  }
  throw new Error(`nothing to press with “${text}” at ${page.url()}: ${await page.content()}`);
}

async function walk(steps) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  let status = 0;
  let forged = null;
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (forged && request.isNavigationRequest() && url.pathname.startsWith('/oauth/callback')) {
      for (const [key, value] of Object.entries(forged)) url.searchParams.set(key, value);
      forged = null;
      return request.respond({ status: 302, headers: { location: url.href } });
    }
    return request.continue();
  });
  for (const step of steps) {
    const [[verb, what]] = Object.entries(step);
    if (verb === 'open') status = (await page.goto(what, { waitUntil: 'load' })).status();
    else if (verb === 'reload') status = (await page.reload({ waitUntil: 'load' })).status();
    else if (verb === 'forge') forged = what;
    else if (verb === 'press') status = (await press(page, what)).status();
    else if (verb === 'look') await look(page, what, status);
    else if (verb === 'type') for (const [field, text] of Object.entries(what)) await (await page.waitForSelector(`input[name=${field}]`)).type(text);
    else throw new Error(`what is ${verb}?`);
  }
  await context.close();
}

try {
  for (const steps of options.walks) await walk(steps);
} finally {
  await browser.close();
}
console.log(JSON.stringify({ seen }));

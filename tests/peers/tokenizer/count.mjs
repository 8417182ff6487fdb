// Counts tokens of o200k_base: a line of JSON in, a list of texts; a line of JSON out, the tokens of each.
//
//   PLEIADES_TOKENIZER=…/node_modules node count.mjs

import readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const encoding = `${process.env.PLEIADES_TOKENIZER}/gpt-tokenizer/esm/encoding/o200k_base.js`;
const { countTokens } = await import(pathToFileURL(encoding));

// A text may hold what looks like a special token: here it is text like any other.
const plainly = { allowedSpecial: new Set(), disallowedSpecial: new Set() };

for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  console.log(JSON.stringify(JSON.parse(line).map((text) => countTokens(text, plainly))));
}

// The command line that every client shares, and the round they all make.
//
//   CLIENT URL [--header 'K: V']... [--call TOOL --args JSON]
//   CLIENT --stdio COMMAND ARGUMENT...   (after the other flags)
//
// Prints one JSON object {client, protocol, server, tools, resources, templates, prompts, result}
// and exits with 1 on any failure.

function parse(words) {
  const wanted = { headers: {}, call: null, args: {}, url: null, command: null };
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === '--header') {
      const [name, ...value] = words[++i].split(':');
      wanted.headers[name] = value.join(':').trim();
    } else if (word === '--call') wanted.call = words[++i];
    else if (word === '--args') wanted.args = JSON.parse(words[++i]);
    else if (word === '--stdio') {
      wanted.command = words.slice(i + 1);
      break;
    } else wanted.url = word;
  }
  return wanted;
}

async function every(page, key) {
  const items = [];
  let cursor;
  do {
    const result = await page(cursor === undefined ? undefined : { cursor });
    items.push(...result[key]);
    cursor = result.nextCursor;
  } while (cursor !== undefined);
  return items;
}

async function round(client, wanted) {
  const can = client.getServerCapabilities() ?? {};
  const seen = { server: client.getServerVersion()?.name };
  seen.tools = (await every((p) => client.listTools(p), 'tools')).map((tool) => tool.name);
  if (can.resources) {
    seen.resources = (await every((p) => client.listResources(p), 'resources')).map((r) => r.uri);
    seen.templates = (
      await every((p) => client.listResourceTemplates(p), 'resourceTemplates')
    ).map((t) => t.uriTemplate);
    if (seen.resources.length) {
      const read = await client.readResource({ uri: seen.resources[0] });
      seen.read = read.contents.length;
    }
  }
  if (can.prompts) {
    seen.prompts = (await every((p) => client.listPrompts(p), 'prompts')).map((p) => p.name);
  }
  if (wanted.call) {
    seen.result = await client.callTool({ name: wanted.call, arguments: wanted.args });
  }
  return seen;
}

function main(name, connect) {
  const wanted = parse(process.argv.slice(2));
  (async () => {
    const { client, protocol } = await connect(wanted);
    const seen = await round(client, wanted);
    console.log(JSON.stringify({ client: name, protocol: protocol(), ...seen }));
    await client.close();
  })().then(
    () => process.exit(0),
    (fault) => {
      console.error(fault);
      process.exit(1);
    },
  );
}

module.exports = { main };

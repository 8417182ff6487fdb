// The TypeScript SDK, generation 1.
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
const { main } = require('./common.cjs');

main('ts1', async (wanted) => {
  const client = new Client({ name: 'ts1', version: '1.0.0' });
  const transport = wanted.command
    ? new StdioClientTransport({ command: wanted.command[0], args: wanted.command.slice(1) })
    : new StreamableHTTPClientTransport(new URL(wanted.url), {
        requestInit: { headers: wanted.headers },
      });
  let version;
  transport.setProtocolVersion = ((set) => (value) => {
    version = value;
    set?.call(transport, value);
  })(transport.setProtocolVersion);
  await client.connect(transport);
  return { client, protocol: () => version };
});

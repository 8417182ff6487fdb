// The TypeScript SDK, generation 2: asks for the newest revision and falls back.
const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');
const { main } = require('./common.cjs');

main('ts2', async (wanted) => {
  const client = new Client(
    { name: 'ts2', version: '1.0.0' },
    { versionNegotiation: { mode: 'auto' } },
  );
  const transport = wanted.command
    ? new StdioClientTransport({ command: wanted.command[0], args: wanted.command.slice(1) })
    : new StreamableHTTPClientTransport(new URL(wanted.url), {
        requestInit: { headers: wanted.headers },
      });
  await client.connect(transport);
  return { client, protocol: () => client.getNegotiatedProtocolVersion() };
});

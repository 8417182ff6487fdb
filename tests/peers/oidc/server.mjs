// A real authorization server (oidc-provider) and a protected resource in front of an MCP server.
//
//   OIDC_MODULES=…/node_modules node server.mjs '{"port": 9000, "upstream": "http://127.0.0.1:9001/mcp"}'
//
// Options beside: `ttl` seconds of access tokens (3600), `rotate` (true), `clients` (registered beforehand),
// `registration` (true), `revocation` (true), `scopes`, `challenge` (scopes named by the 401).
//
// The issuer is http://127.0.0.1:PORT. `/mcp` lets through what bears a token that this server gave for it.
// `/-/facts` tells what was counted, `/-/set` takes `{"deny": […], "fail": status, "delay": ms}` for the token
// endpoint. `/-/values` tells every secret that was ever issued or received. People log in with any name in a form; the name is the account.

import http from 'node:http';
import { pathToFileURL } from 'node:url';

const modules = process.env.OIDC_MODULES;
const { Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

const options = {
  ttl: 3600, rotate: true, clients: [], registration: true, revocation: true,
  scopes: ['mcp:read', 'mcp:write'], challenge: ['mcp:read'], ...JSON.parse(process.argv[2]),
};
const issuer = `http://127.0.0.1:${options.port}`;
const resource = `${issuer}/mcp`;
const all = ['openid', 'email', 'profile', 'offline_access', ...options.scopes];
const facts = { redeemed: {}, last: {}, refused: 0, issued: 0, revoked: 0, registered: 0, calls: {}, tokens: [] };
const faults = { fail: 0, delay: 0, drop: 0 };

// Keeps everything: what comes with the library forgets the oldest of a thousand entries.
const kept = new Map();
class Adapter {
  constructor(model) { this.model = model; }

  at(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) { kept.set(this.at(id), payload); }

  async find(id) {
    const found = kept.get(this.at(id));
    return found && (!found.exp || found.exp * 1000 > Date.now()) ? found : undefined;
  }

  async findByUid(uid) {
    return [...kept].find(([at, it]) => at.startsWith(`${this.model}:`) && it.uid === uid)?.[1];
  }

  async findByUserCode() { return undefined; }

  async consume(id) { kept.get(this.at(id)).consumed = Math.floor(Date.now() / 1000); }

  async destroy(id) { kept.delete(this.at(id)); }

  async revokeByGrantId(grantId) {
    for (const [at, it] of kept) if (it.grantId === grantId) kept.delete(at);
  }
}

const provider = new Provider(issuer, {
  adapter: Adapter,
  clients: options.clients,
  scopes: all,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: `sub-${id}`, email: `${id}@example.com`, email_verified: true, name: `The ${id}`, preferred_username: id,
    }),
  }),
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  rotateRefreshToken: options.rotate,
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: options.ttl, ClientCredentials: options.ttl, RefreshToken: 86400, Grant: 86400, Session: 86400, Interaction: 600, IdToken: 3600, AuthorizationCode: 60 },
  interactions: { url: (_, interaction) => `/-/interaction/${interaction.uid}` },
  cookies: { keys: ['a key of the tests'] },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: options.registration },
    revocation: { enabled: options.revocation },
    introspection: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: options.scopes.join(' '), accessTokenFormat: 'opaque', accessTokenTTL: options.ttl }),
    },
  },
});
provider.on('registration_create.success', () => { facts.registered += 1; });
provider.on('access_token.issued', () => { facts.issued += 1; });
provider.on('access_token.saved', (token) => { facts.issued += 1; facts.tokens.push(token.jti); });
provider.on('grant.revoked', () => { facts.revoked += 1; });
provider.on('revocation.error', () => {});
provider.on('grant.error', () => { facts.refused += 1; });
provider.on('refresh_token.consumed', (token) => {
  facts.redeemed[token.jti] = (facts.redeemed[token.jti] ?? 0) + 1;
  facts.last[token.accountId] = Date.now();
});

function read(request) {
  return new Promise((done) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => done(Buffer.concat(parts)));
  });
}

// Every secret that goes in or out, as it stands on the wire.
const values = new Set();
const SECRET = ['access_token', 'refresh_token', 'id_token', 'code', 'state', 'nonce', 'code_verifier', 'client_secret',
  'client_assertion', 'registration_access_token', 'token', 'jti'];

function note(pairs) {
  for (const [name, value] of pairs) if (SECRET.includes(name) && typeof value === 'string' && value) values.add(value);
}

function noteText(text) {
  if (text.startsWith('{')) {
    try { note(Object.entries(JSON.parse(text))); } catch { /* cut, or none of ours */ }
  } else note(new URLSearchParams(text));
}

function noteCredentials(header) {
  const [scheme, said] = String(header ?? '').split(' ');
  if (/^bearer$/i.test(scheme) && said) values.add(said);
  if (/^basic$/i.test(scheme) && said) {
    values.add(said);
    values.add(decodeURIComponent(Buffer.from(said, 'base64').toString().split(':').slice(1).join(':')));
  }
}

// Looks at an exchange without taking part in it.
function witness(request, response) {
  const parts = [];
  const { emit } = request;
  request.emit = function emitted(name, ...rest) {
    if (name === 'data') parts.push(rest[0]);
    if (name === 'end') noteText(Buffer.concat(parts).toString());
    return emit.call(this, name, ...rest);
  };
  note(new URL(request.url, issuer).searchParams);
  noteCredentials(request.headers.authorization);
  const { end } = response;
  response.end = function ended(body, ...rest) {
    if (typeof body === 'string' || Buffer.isBuffer(body)) noteText(body.toString());
    const location = response.getHeader('location');
    if (location) note(new URL(location, issuer).searchParams);
    return end.call(this, body, ...rest);
  };
}

function say(response, status, body, headers = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  response.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/html' : 'application/json', ...headers });
  response.end(text);
}

async function interaction(request, response) {
  const { uid, prompt, params, session } = await provider.interactionDetails(request, response);
  if (request.method === 'GET' && prompt.name === 'login') {
    return say(response, 200, `<!doctype html><title>Log in</title><h1>Log in</h1>
      <form method="post" action="/-/interaction/${uid}"><label>Who are you? <input name="account" autofocus></label>
      <button name="go" value="yes">Log in</button> <button name="go" value="no">Cancel</button></form>`);
  }
  const form = new URLSearchParams((await read(request)).toString());
  if (form.get('go') === 'no') {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'the person refused' });
  }
  const account = form.get('account') || session?.accountId;
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: account } }, { mergeWithLastSubmission: false });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(String(params.scope ?? '').split(' ').filter((one) => all.includes(one)).join(' '));
  const asked = prompt.details.missingResourceScopes ?? {};
  for (const [indicator, scopes] of Object.entries(asked)) grant.addResourceScope(indicator, scopes.join(' '));
  const grantId = await grant.save();
  return provider.interactionFinished(request, response, { consent: { grantId } }, { mergeWithLastSubmission: true });
}

// A token answer for an account, as if somebody had connected it: for tests that need many.
async function mint(account, clientId, lifetime) {
  const client = await provider.Client.find(clientId);
  const scope = 'openid offline_access';
  const grant = new provider.Grant({ accountId: account, clientId });
  grant.addOIDCScope(scope);
  grant.addResourceScope(resource, options.scopes.join(' '));
  const grantId = await grant.save();
  const common = { accountId: account, client, grantId, gty: 'authorization_code', claims: {} };
  const access = new provider.AccessToken({ ...common, scope: options.scopes.join(' '), aud: resource });
  access.expiresIn = lifetime;
  const refresh = new provider.RefreshToken({ ...common, scope: `${scope} ${options.scopes.join(' ')}`, resource, authTime: 1, rotations: 0 });
  return { access_token: await access.save(), refresh_token: await refresh.save(), token_type: 'Bearer', expires_in: lifetime };
}

function challenge(response, status, error, scopes) {
  const parts = [`resource_metadata="${issuer}/.well-known/oauth-protected-resource/mcp"`];
  if (error) parts.push(`error="${error}"`);
  if (scopes?.length) parts.push(`scope="${scopes.join(' ')}"`);
  say(response, status, { error: error ?? 'unauthorized' }, { 'www-authenticate': `Bearer ${parts.join(', ')}` });
}

async function guarded(request, response) {
  const body = await read(request);
  const text = /^bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const token = text && (await provider.AccessToken.find(text) ?? await provider.ClientCredentials.find(text));
  if (!token || token.isExpired) return challenge(response, 401, text ? 'invalid_token' : undefined, options.challenge);
  const aud = [token.aud ?? []].flat();
  if (aud.length && !aud.includes(resource)) return challenge(response, 401, 'invalid_token', options.challenge);
  const owner = token.accountId ?? token.clientId;
  facts.calls[owner] = (facts.calls[owner] ?? 0) + 1;
  const writes = body.includes('"tools/call"') && options.write && body.includes(`"${options.write}"`);
  if (writes && !(token.scope ?? '').split(' ').includes('mcp:write')) return challenge(response, 403, 'insufficient_scope', ['mcp:write']);
  const target = new URL(options.upstream);
  const headers = { ...request.headers, host: target.host };
  delete headers.authorization;
  const onward = http.request(target, { method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  onward.end(body);
}

const answer = provider.callback();
const server = http.createServer(async (request, response) => {
  try {
    const path = new URL(request.url, issuer).pathname;
    if (path === '/-/values') return say(response, 200, [...values]);
    if (path !== '/-/set') witness(request, response);
    if (path === '/mcp') return await guarded(request, response);
    if (path.startsWith('/.well-known/oauth-protected-resource')) {
      return say(response, 200, { resource, authorization_servers: [issuer], scopes_supported: options.scopes, bearer_methods_supported: ['header'] });
    }
    if (path === '/.well-known/oauth-authorization-server') request.url = '/.well-known/openid-configuration';
    if (path.startsWith('/-/interaction/')) return await interaction(request, response);
    if (path === '/-/mint') {
      const { account, client, lifetime } = JSON.parse(await read(request));
      return say(response, 200, await mint(account, client, lifetime));
    }
    if (path === '/-/facts') return say(response, 200, facts);
    if (path === '/-/set') { Object.assign(faults, JSON.parse(await read(request))); return say(response, 200, faults); }
    if (path === '/token') {
      if (faults.delay) await new Promise((done) => { setTimeout(done, faults.delay); });
      if (faults.fail) return say(response, faults.fail, { error: 'server_error' });
      if (faults.drop) {
        // Redeemed, and the answer is lost: what a connection that breaks does.
        response.writeHead = () => response;
        response.end = () => { response.destroy(); return response; };
      }
    }
    return answer(request, response);
  } catch (error) {
    console.error(error);
    if (!response.headersSent) say(response, 400, `<p>${error.name}`);
    return undefined;
  }
});
server.listen(options.port, '127.0.0.1', () => console.log(`listening on ${issuer}`));

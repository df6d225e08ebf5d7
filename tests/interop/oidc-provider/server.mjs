// An OAuth2 server that nobody here wrote: npm's `oidc-provider`, for tests/it/interop_oidc_provider.rs and tests/it/xrootd.rs.
//
// The library's own: discovery and JWKS; client authentication; client credentials; device codes and the pages on which a user
// approves them; refresh with rotation and reuse detection; making and signing JWT access tokens; every refusal.
//
// Set up here: which clients, scopes and resources there are; the claim `wlcg.ver`; memory instead of a database; and, because
// the library has none, the grant of RFC 8693 (exchange.mjs), whose refusals are ours and whose tokens are the library's.
//
// Usage: node server.mjs FOLDER, where FOLDER holds node_modules. The first line of standard input is a JSON object {tls: {cert,
// key}, clients, scopes, loopback, lives}, so that no secret is in the arguments (scopes: more than those below; loopback: whether
// every server of 127.0.0.1 is a resource too; lives: seconds that a client's tokens live, by its id); the first line of standard
// output is {"issuer": URL}. It ends when standard input does, and so with the process that started it.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

import { exchange } from './exchange.mjs';
import { Memory } from './memory.mjs';

// Standard output is ours: the library's notices go to standard error.
console.info = console.error;

const { resolve } = createRequire(join(process.argv[2], 'package.json'));
const load = (name) => import(pathToFileURL(resolve(name)));
const { Provider, errors } = await load('oidc-provider');
const jose = await load('jose');

const lines = createInterface({ input: process.stdin });
lines.once('close', () => process.exit(0));
const { tls, clients, scopes = [], loopback = false, lives = {} } = JSON.parse(await new Promise((line) => lines.once('line', line)));

// Resources and the algorithm of their tokens. The library compares scopes as words and knows nothing of paths.
const RESOURCES = {
  'https://fts.example:8446': 'RS256',
  'https://se-rsa.example': 'RS256',
  'https://se-ec.example': 'ES256',
};
const SCOPES = [
  'fts',
  'storage.read:/data', 'storage.read:/data/a',
  'storage.create:/data', 'storage.modify:/data', 'storage.modify:/data/a',
  'storage.stage:/data',
  ...scopes,
];
const TOKEN_LIFE_S = 600;

function algorithm(resource) {
  if (loopback && new URL(resource).hostname === '127.0.0.1') return 'ES256';
  if (!Object.hasOwn(RESOURCES, resource)) throw new errors.InvalidTarget(`unknown resource: ${resource}`);
  return RESOURCES[resource];
}

function resourceServer(resource, client) {
  const alg = algorithm(resource);
  return {
    scope: SCOPES.join(' '),
    audience: resource,
    accessTokenTTL: lives[client?.clientId] ?? TOKEN_LIFE_S,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg } },
  };
}

function signingKey(kid, alg, type, options) {
  return { ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

const keys = [
  signingKey('rsa', 'RS256', 'rsa', { modulusLength: 2048 }),
  signingKey('ec', 'ES256', 'ec', { namedCurve: 'P-256' }),
];

const server = createServer({ cert: tls.cert, key: tls.key });
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `https://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  adapter: Memory,
  clients,
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none', 'private_key_jwt'],
  jwks: { keys },
  scopes: ['openid', 'offline_access', ...SCOPES],
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo: (_ctx, resource, client) => resourceServer(resource, client) },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  // XRootD with SciTokens refuses a token without `nbf` (observed).
  extraTokenClaims: (_ctx, token) => (token.resourceServer ? { 'wlcg.ver': '1.0', nbf: Math.floor(Date.now() / 1000) } : undefined),
  // Always, where the library by default rotates only what is near its end.
  rotateRefreshToken: true,
  ttl: {
    AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? TOKEN_LIFE_S,
    ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? TOKEN_LIFE_S,
    // A client whose device codes nobody can approve in time.
    DeviceCode: (_ctx, _code, client) => (client.clientId === 'hasty' ? 2 : 60),
    Grant: 3600,
    IdToken: TOKEN_LIFE_S,
    Interaction: 60,
    RefreshToken: 3600,
    Session: 3600,
  },
  cookies: { keys: [randomBytes(32).toString('hex')] },
});
exchange(provider, { errors, jose, keys, resourceServer });
provider.on('server_error', (_ctx, error) => console.error(error));

server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));

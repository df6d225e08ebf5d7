// The grant of RFC 8693, which oidc-provider does not have. Its rules are ours; its tokens and the records behind them are the
// library's own classes, so that what comes back, and what a refresh makes of it, is the library's.
const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const PARAMETERS = ['audience', 'requested_token_type', 'resource', 'scope', 'subject_token', 'subject_token_type'];

// Whether a scope of the subject token covers `wanted`: the same word, or a storage path above it.
function covers(held, wanted) {
  return held === wanted || (held.startsWith('storage.') && wanted.startsWith(`${held}/`));
}

/** Registers the grant at `provider`; `keys` are its signing keys, private halves and all. */
export function exchange(provider, { errors, jose, keys, resourceServer }) {
  const trusted = jose.createLocalJWKSet({ keys: keys.map(({ kty, kid, alg, use, n, e, crv, x, y }) =>
    ({ kty, kid, alg, use, n, e, crv, x, y })) });

  async function subject({ subject_token: token, subject_token_type: type }) {
    if (!token || type !== ACCESS_TOKEN) throw new errors.InvalidRequest('an access token as subject_token is required');
    try {
      const { payload } = await jose.jwtVerify(token, trusted, { issuer: provider.issuer, algorithms: ['RS256', 'ES256'] });
      return payload;
    } catch (cause) {
      throw new errors.InvalidGrant('subject token is not valid', undefined, { cause });
    }
  }

  async function handle(ctx) {
    const { client, params } = ctx.oidc;
    const claims = await subject(params);
    if (typeof params.resource !== 'string') throw new errors.InvalidTarget('exactly one resource is required');
    const server = new provider.ResourceServer(params.resource, resourceServer(params.resource, client));

    const wanted = (params.scope ?? '').split(' ').filter((scope) => scope && scope !== 'offline_access');
    if (!wanted.length) throw new errors.InvalidRequest('a scope is required');
    const allowed = new Set(client.scope.split(' '));
    const held = claims.scope.split(' ');
    for (const scope of wanted) {
      if (!allowed.has(scope) || !held.some((one) => covers(one, scope))) {
        throw new errors.InvalidScope('not for this client, or beyond the subject token', scope);
      }
    }
    const scope = wanted.filter((one) => server.scopes.has(one)).join(' ');
    const offline = params.scope.split(' ').includes('offline_access');
    if (offline && !client.grantTypeAllowed('refresh_token')) throw new errors.AccessDenied('no refresh tokens for this client');

    const grant = new provider.Grant({ accountId: claims.sub, clientId: client.clientId });
    grant.addResourceScope(params.resource, scope);
    const of = { accountId: claims.sub, client, gty: 'token_exchange', grantId: await grant.save() };
    const token = new provider.AccessToken({ ...of, resourceServer: server, scope });
    ctx.body = {
      access_token: await token.save(),
      issued_token_type: ACCESS_TOKEN,
      token_type: token.tokenType,
      expires_in: token.expiration,
      scope,
    };
    if (offline) {
      const refresh = new provider.RefreshToken({ ...of, rotations: 0, resource: params.resource, scope: params.scope });
      ctx.body.refresh_token = await refresh.save();
    }
  }

  provider.registerGrantType(GRANT, handle, PARAMETERS, ['audience', 'resource']);
}

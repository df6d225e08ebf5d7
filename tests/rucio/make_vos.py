"""Make a Rucio database of several VOs with Rucio's own code: RSEs of the same names in each, one dataset and one rule a VO whose
requests wait in state QUEUED.

usage: RUCIO_CONFIG=rucio.cfg make_vos.py TOPOLOGY      rucio.cfg has multi_vo = True in [common]

TOPOLOGY is a JSON file: {"fts": URL, "files": number, "vos": {VO: {RSE: {"port": number, RSE attribute: value, ...}}}}. The first RSE of
a VO holds the files, the second is where they are to go. Every file's content is the bytes of its name and a newline, repeated and cut
to its length.
"""
import hashlib
import json
import sys
import zlib

from rucio.common.types import InternalAccount, InternalScope
from rucio.db.sqla.constants import AccountType, DatabaseOperationType, DIDType, RSEType
from rucio.db.sqla.models import register_models
from rucio.db.sqla.session import db_session, get_engine
from rucio.db.sqla.util import create_base_vo, create_root_account

# Rucio's core reads the table of VOs while it is imported.
register_models(get_engine())
create_base_vo()
create_root_account()

from rucio.core import account as account_core, account_limit, did as did_core, distance as distance_core  # noqa: E402
from rucio.core import replica as replica_core, rse as rse_core, rule as rule_core, scope as scope_core, vo as vo_core  # noqa: E402

DOMAINS = {'wan': {'read': 1, 'write': 1, 'delete': 1, 'third_party_copy_read': 1, 'third_party_copy_write': 1},
           'lan': {'read': 1, 'write': 1, 'delete': 1}}


def content(name: str, size: int) -> bytes:
    line = (name + '\n').encode()
    return (line * (size // len(line) + 1))[:size]


def fill(session, vo: str, rses: dict, fts: str, count: int) -> None:
    owner, scope = InternalAccount('prod', vo=vo), InternalScope('data', vo=vo)
    account_core.add_account(owner, AccountType.SERVICE, 'prod@localhost', session=session)
    scope_core.add_scope(scope, owner, session=session)
    ids = {}
    for name, attributes in rses.items():
        rse = ids[name] = rse_core.add_rse(name, vo=vo, deterministic=True, rse_type=RSEType.DISK, session=session)
        rse_core.add_protocol(rse, {'hostname': '127.0.0.1', 'scheme': 'davs', 'port': attributes.pop('port'), 'prefix': '/vo/rucio',
                                    'impl': 'rucio.rse.protocols.gfal.Default', 'domains': DOMAINS}, session=session)
        for key, value in {'fts': fts, 'oidc_support': True, 'oidc_base_path': '/vo', **attributes}.items():
            rse_core.add_rse_attribute(rse, key, value, session=session)
        for who in (owner, InternalAccount('root', vo=vo)):
            account_limit.set_local_account_limit(who, rse, -1, session=session)
    source, destination = list(ids)[:2]
    distance_core.add_distance(ids[source], ids[destination], distance=1, session=session)
    files = []
    for i in range(count):
        name, size = f'{vo}.set.{i:06d}', 4096 + (i * 7919) % 126976
        body = content(name, size)
        files.append({'scope': scope, 'name': name, 'bytes': size, 'md5': hashlib.md5(body).hexdigest(),
                      'adler32': f'{zlib.adler32(body) & 0xffffffff:08x}'})
    replica_core.add_replicas(ids[source], [dict(f) for f in files], owner, session=session)
    did_core.add_did(scope, f'{vo}.set', DIDType.DATASET, owner, session=session)
    did_core.attach_dids(scope, f'{vo}.set', [dict(f) for f in files], owner, session=session)
    did_core.set_status(scope, f'{vo}.set', open=False, session=session)
    rule_core.add_rule(dids=[{'scope': scope, 'name': f'{vo}.set'}], account=owner, copies=1, rse_expression=destination,
                       grouping='DATASET', weight=None, lifetime=None, locked=False, subscription_id=None, session=session)


def main() -> None:
    with open(sys.argv[1]) as file:
        wanted = json.load(file)
    with db_session(DatabaseOperationType.WRITE) as session:
        for vo in wanted['vos']:
            vo_core.add_vo(vo, description=vo, email='vo@localhost', session=session)
    with db_session(DatabaseOperationType.WRITE) as session:
        for vo, rses in wanted['vos'].items():
            fill(session, vo, rses, wanted['fts'], wanted['files'])


main()

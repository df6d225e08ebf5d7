"""Make a Rucio database in which almost every rule of source choice, paths and job parameters matters for some request.

The schema, the topology, the datasets and the rules are made by Rucio's own code; what no rule can make by itself (a request that
was tried before, one without attributes, an RSE that was closed after the rule) is changed in the rows afterwards, as operators and
Rucio's daemons do. `submit_choices.py` then lets Rucio's own submitter work on a copy.

Needs the PyPI package `rucio` (seen with 41.5.1) and RUCIO_CONFIG naming a rucio.cfg without `multi_vo` whose [database] default
is the target, an empty SQLite file.

usage: make_choices.py [--files N]        N files in each dataset (default 3)
"""
import argparse
import hashlib
import json
import uuid
import zlib
from datetime import datetime, timedelta

from rucio.common.types import InternalAccount, InternalScope
from rucio.core import account as account_core, account_limit, did as did_core, distance as distance_core
from rucio.core import replica as replica_core, rse as rse_core, rule as rule_core, scope as scope_core, vo as vo_core
from rucio.db.sqla import models
from rucio.db.sqla.constants import AccountType, DatabaseOperationType, DIDType, RequestState, RSEType
from rucio.db.sqla.session import db_session, get_engine
from rucio.db.sqla.util import create_base_vo, create_root_account
from sqlalchemy import delete, insert, select, text, update

FTS = 'https://fts.example:8446'
TOKENS = {'fts': FTS, 'oidc_support': True}
GFAL, WEBDAV, XROOTD = (f'rucio.rse.protocols.{name}' for name in ('gfal.Default', 'webdav.Default', 'xrootd.Default'))


def davs(name, read=1, write=1, impl=GFAL, prefix='/vo/rucio', port=443, **more):
    return dict(scheme='davs', hostname=f'{name}.storage.example', port=port, prefix=prefix, impl=impl, read=read, write=write, **more)


def root(name, read=1, write=1):
    return dict(scheme='root', hostname=f'{name}.storage.example', port=1094, prefix='//vo', impl=XROOTD, read=read, write=write)


def rse(name, *protocols, kind=RSEType.DISK, deterministic=True, **attributes):
    return dict(name=name, kind=kind, deterministic=deterministic, protocols=protocols or (davs(name.lower()),),
                attributes={**TOKENS, **attributes})


TAPE = RSEType.TAPE
RSES = [
    rse('A'), rse('B'), rse('C'), rse('D'), rse('E'),
    rse('M1'), rse('M2'), rse('M3'), rse('M4'), rse('M5'), rse('M6'), rse('M7'),
    # tape
    rse('TAPE', kind=TAPE), rse('TAPE-ARCHIVE', kind=TAPE, archive_timeout='86400'),
    rse('TAPE-BUFFER', kind=TAPE, overwrite_when_only_on_disk=True, overwrite=True, archive_timeout='soon'),
    rse('TAPE-OVERWRITE', kind=TAPE, overwrite=True), rse('STAGED', staging_required=True),
    rse('TAPE-ND', kind=TAPE, deterministic=False),
    # paths
    rse('ND', deterministic=False), rse('ND-NAMED', deterministic=False, naming_convention='nobody-knows-it'),
    rse('IDENTITY', lfn2pfn_algorithm='identity'), rse('DEFAULT', lfn2pfn_algorithm='default'),
    rse('WEBDAV', davs('webdav', impl=WEBDAV, port=0, prefix='vo')), rse('SERVICE', davs(
        'service', prefix='/vo', extended={'web_service_path': '/dav?SFN='})),
    rse('XROOTD', davs('xrootd', impl=XROOTD, prefix='//vo')), rse('PORTLESS', davs('portless', port=0, prefix='//vo//')),
    # protocols
    rse('MIXED', root('mixed', 1, 2), davs('mixed', 2, 1)), rse('ROOT', root('root')),
    rse('ONLY-READ', davs('only-read', write=None)), rse('ONLY-WRITE', davs('only-write', read=None)),
    rse('TWO-PORTS', davs('two', read=2, write=2, port=443), davs('two', read=1, write=1, port=8443)),
    rse('HTTPS', dict(davs('https'), scheme='https'), davs('https', read=2, write=2)),
    # job parameters
    rse('NO-SUMS', supported_checksums='none'), rse('MD5', supported_checksums='md5'), rse('ODD-SUMS', supported_checksums='sha1, crc32'),
    rse('UNVERIFIED', verify_checksum=False), rse('BOTH-SUMS', supported_checksums='md5,adler32'),
    rse('IPV4', use_ipv4=True), rse('STRICT', strict_copy=True), rse('HOST-STYLE', s3_url_style='host'),
    rse('SIGNED', sign_url='s3'), rse('SIGNED-SOURCE', sign_url='gcs', fts='https://other.example:8446,https://third.example:8446'),
    rse('TWO-FTS', fts='https://second.example:8446,https://fts.example:8446'),
    # rights and availability
    rse('SECRET-SOURCE'), rse('SECRET'), rse('CLOSED-SOURCE'), rse('CLOSED'), rse('ISLAND'), rse('NO-FTS', fts=None),
    rse('X509', oidc_support=False), rse('GROUPED', tier='2', cloud='north'), rse('GROUPED-2', tier='2', cloud='south'),
    # by way of others
    rse('HOP', available_for_multihop=True), rse('HOP-CHEAP', available_for_multihop=True, hop_penalty='2', multihop_tombstone_delay='60'),
    rse('HOP-SUMS', available_for_multihop=True, supported_checksums='md5'), rse('FAR'), rse('FAR-TAPE', kind=TAPE), rse('FAR-ND', deterministic=False),
    rse('FARTHER'), rse('NEAR-FAR'), rse('ROOT-HOP', root('root-hop'), davs('root-hop', read=None), available_for_multihop=True), rse('VIA-ROOT'),
    rse('HOP-CLOSED', available_for_multihop=True), rse('VIA-CLOSED'), rse('HOP-TAPE', kind=TAPE, available_for_multihop=True), rse('VIA-TAPE'),
    rse('HOP-X509', available_for_multihop=True, oidc_support=False), rse('VIA-X509'), rse('HOP-NO-FTS', available_for_multihop=True, fts=None), rse('VIA-NO-FTS'),
]
DIRECT = [r['name'] for r in RSES if not r['name'].startswith(('HOP', 'FAR', 'VIA', 'ROOT-HOP', 'ISLAND', 'NEAR-FAR'))]
# (source, destination): distance; None is no link. What a dataset goes between is linked too, with 1, from C with 2 and from E with 3.
DISTANCES = {
    ('M3', 'D'): 7, ('M4', 'D'): 3, ('M5', 'D'): 0, ('M6', 'D'): -4, ('M7', 'D'): 12, ('M7', 'B'): None,
    ('A', 'HOP'): 1, ('B', 'HOP'): 4, ('C', 'HOP'): 1, ('E', 'HOP'): 1, ('HOP', 'FAR'): 2, ('HOP', 'FAR-TAPE'): 2, ('HOP', 'FAR-ND'): 2, ('TAPE', 'HOP'): 1,
    ('A', 'HOP-CHEAP'): 1, ('HOP-CHEAP', 'FARTHER'): 1, ('HOP', 'HOP-CHEAP'): 1, ('D', 'HOP'): 1,
    ('A', 'NEAR-FAR'): 30, ('HOP-CHEAP', 'NEAR-FAR'): 3, ('B', 'NEAR-FAR'): 5, ('A', 'B'): 1,
    ('A', 'HOP-SUMS'): 1, ('HOP-SUMS', 'HOP'): 9, ('M1', 'HOP-SUMS'): 1,
    ('A', 'ROOT-HOP'): 1, ('ROOT-HOP', 'VIA-ROOT'): 1, ('A', 'HOP-CLOSED'): 1, ('HOP-CLOSED', 'VIA-CLOSED'): 1,
    ('A', 'HOP-TAPE'): 1, ('HOP-TAPE', 'VIA-TAPE'): 1, ('A', 'HOP-X509'): 1, ('HOP-X509', 'VIA-X509'): 1,
    ('A', 'HOP-NO-FTS'): 1, ('HOP-NO-FTS', 'VIA-NO-FTS'): 1, ('M2', 'FAR'): 3, ('A', 'FAR'): None,
}
# dataset, sources, destination, options
DATASETS = [
    ('direct.plain', ['A'], 'B'), ('direct.nearest', ['C', 'A', 'E'], 'B'), ('direct.tie', ['A', 'D'], 'B'), ('user.jo.mine', ['A'], 'B', dict(scope='user.jo')),
    ('multi.seven', ['M1', 'M2', 'M3', 'M4', 'M5', 'M6', 'M7'], 'D'), ('multi.unlinked', ['M1', 'M7'], 'B'), ('multi.ranked', ['M1', 'M3', 'M4'], 'D', dict(rank={'M1': -2, 'M4': 1})),
    ('multi.tape_aside', ['A', 'TAPE'], 'B'), ('multi.mixed', ['A', 'ROOT', 'MIXED'], 'B'), ('multi.named', ['A', 'C', 'M1'], 'B', dict(expression='C')),
    ('tape.source', ['TAPE'], 'B'), ('tape.ranked_one', ['A', 'TAPE'], 'B', dict(rank={'TAPE': 1})), ('tape.ranked_two', ['A', 'TAPE'], 'B', dict(rank={'TAPE': 2})),
    ('tape.staged', ['STAGED', 'C'], 'B'), ('tape.staged_only', ['STAGED'], 'B'), ('tape.forbidden', ['TAPE'], 'B', dict(attributes={'allow_tape_source': False})),
    ('tape.forbidden_half', ['TAPE', 'C'], 'B', dict(attributes={'allow_tape_source': False})), ('tape.to', ['A'], 'TAPE'), ('tape.to_archive', ['A', 'C'], 'TAPE-ARCHIVE'),
    ('tape.to_buffer', ['A'], 'TAPE-BUFFER'), ('tape.to_overwrite', ['A'], 'TAPE-OVERWRITE'), ('tape.to_staged', ['A'], 'STAGED'), ('tape.to_tape', ['TAPE'], 'TAPE-ARCHIVE'),
    ('tape.corrupted', ['A'], 'TAPE', dict(attributes={'overwrite': True})),
    ('data18.number.phys.merge.AOD.f1_m2_tid0042', ['A'], 'ND'), ('data18.number.phys.merge.AOD', ['A'], 'ND'), ('mc23.short.three', ['A'], 'ND'),
    ('mc23.two_dis0042', ['A'], 'ND'), ('single_sub1', ['A'], 'ND'), ('user.jo.a.b.c.d_frag7', ['A'], 'ND', dict(scope='user.jo')), ('used.looks.like.a.user', ['A'], 'ND'),
    ('nd.no_dataset', ['A'], 'ND', dict(attributes={'ds_name': None})), ('nd.named', ['A'], 'ND-NAMED'), ('nd.tape', ['A'], 'TAPE-ND'),
    ('nd.tape_again', ['A'], 'TAPE-ND', dict(retry=dict(source='A', count=1))), ('nd.tape_recovery', ['A'], 'TAPE-ND', dict(activity='Recovery')),
    ('nd.source', ['ND'], 'B', dict(paths=True)), ('nd.explicit', ['IDENTITY'], 'B', dict(paths=True)),
    ('path.identity', ['IDENTITY'], 'DEFAULT'), ('path.to_identity', ['A'], 'IDENTITY'), ('path.user_identity', ['A'], 'IDENTITY', dict(scope='user.jo')), ('path.webdav', ['WEBDAV'], 'SERVICE'), ('path.to_webdav', ['SERVICE'], 'WEBDAV'),
    ('path.xrootd', ['XROOTD'], 'PORTLESS'), ('path.portless', ['PORTLESS'], 'XROOTD'),
    ('scheme.mixed', ['MIXED'], 'B'), ('scheme.to_mixed', ['A'], 'MIXED'), ('scheme.root', ['ROOT'], 'MIXED'), ('scheme.mismatch', ['A'], 'ROOT'),
    ('scheme.only_read', ['A'], 'ONLY-READ'), ('scheme.only_write', ['ONLY-WRITE'], 'A'), ('scheme.half', ['ONLY-WRITE', 'C'], 'A'), ('scheme.ports', ['TWO-PORTS'], 'B'),
    ('scheme.to_ports', ['A'], 'TWO-PORTS'), ('scheme.https', ['HTTPS'], 'B'), ('scheme.to_https', ['A'], 'HTTPS'), ('scheme.tape_and_mismatch', ['TAPE', 'ONLY-WRITE'], 'A', dict(attributes={'allow_tape_source': False})),
    ('sums.none', ['NO-SUMS'], 'B'), ('sums.to_none', ['A'], 'NO-SUMS'), ('sums.neither', ['NO-SUMS'], 'UNVERIFIED'), ('sums.md5', ['MD5'], 'B'), ('sums.odd', ['ODD-SUMS'], 'MD5'), ('sums.to_odd', ['A'], 'ODD-SUMS'),
    ('sums.unverified', ['UNVERIFIED'], 'MD5'), ('sums.both', ['BOTH-SUMS'], 'A'),
    ('job.ipv4', ['A', 'IPV4'], 'B'), ('job.to_ipv4', ['A'], 'IPV4'), ('job.strict', ['A'], 'STRICT'), ('job.host_style', ['HOST-STYLE'], 'B'), ('job.signed', ['SIGNED-SOURCE'], 'B'), ('job.to_signed', ['A'], 'SIGNED'),
    ('job.two_fts', ['A'], 'TWO-FTS'), ('job.priority', ['A'], 'B', dict(columns={'priority': 5})), ('job.no_priority', ['A'], 'B', dict(columns={'priority': None})),
    ('job.lifetime', ['A'], 'B', dict(attributes={'lifetime': 3600})), ('job.no_lifetime', ['A'], 'B', dict(without='lifetime')), ('job.no_attributes', ['A'], 'B', dict(columns={'attributes': None})),
    ('job.empty_attributes', ['A'], 'B', dict(columns={'attributes': '{}'})), ('job.activity', ['A'], 'B', dict(activity='Data Consolidation')), ('job.no_sums', ['A'], 'B', dict(columns={'md5': None, 'adler32': None})),
    ('right.read', ['SECRET-SOURCE'], 'B'), ('right.read_half', ['SECRET-SOURCE', 'C'], 'B'), ('right.read_admin', ['SECRET-SOURCE'], 'B', dict(account='boss')),
    ('right.write', ['A'], 'SECRET'), ('right.write_admin', ['A'], 'SECRET', dict(account='boss')), ('right.closed_source', ['CLOSED-SOURCE'], 'B'), ('right.closed_half', ['CLOSED-SOURCE', 'C'], 'B'),
    ('right.closed', ['A'], 'CLOSED'), ('right.island', ['A'], 'ISLAND'), ('right.no_fts', ['A'], 'NO-FTS'), ('right.from_no_fts', ['NO-FTS'], 'B'), ('right.from_no_fts_half', ['NO-FTS', 'E'], 'B'),
    ('right.x509', ['X509'], 'B'), ('right.x509_extra', ['A', 'X509'], 'B'), ('right.expired', ['A'], 'B', dict(expired=True)), ('right.lost', ['A'], 'B', dict(lost=True)),
    ('expr.name', ['A', 'C'], 'B', dict(attributes={'source_replica_expression': 'A'})), ('expr.or', ['C', 'E', 'D'], 'B', dict(attributes={'source_replica_expression': 'C|E'})),
    ('expr.and', ['GROUPED', 'GROUPED-2', 'A'], 'B', dict(attributes={'source_replica_expression': 'tier=2&cloud=south'})), ('expr.not', ['GROUPED', 'GROUPED-2'], 'B', dict(attributes={'source_replica_expression': 'tier=2\\GROUPED'})),
    ('expr.none', ['A'], 'B', dict(attributes={'source_replica_expression': 'C'})), ('expr.wrong', ['A'], 'B', dict(attributes={'source_replica_expression': 'tier='})),
    ('again.same', ['A', 'C'], 'B', dict(retry=dict(source='A', count=1, rank=-1))), ('again.third', ['A', 'C'], 'B', dict(retry=dict(source='C', count=3, rank=-3))), ('again.blocked', ['CLOSED-SOURCE', 'C'], 'B', dict(retry=dict(source='CLOSED-SOURCE', count=1))),
    ('prepared.young', ['A', 'C'], 'B', dict(prepared='C', young=True)), ('prepared.old', ['A', 'C'], 'B', dict(prepared='C', young=False)), ('prepared.gone', ['A', 'C'], 'B', dict(prepared='E', young=True)),
    ('hop.one', ['A'], 'FAR'), ('hop.nearest', ['B', 'C'], 'FAR'), ('hop.tie', ['C', 'E'], 'FAR'), ('hop.tape', ['A'], 'FAR-TAPE'), ('hop.nd', ['A'], 'FAR-ND'), ('hop.from_tape', ['TAPE'], 'FAR'), ('hop.two', ['D'], 'FARTHER'), ('hop.cheap', ['A'], 'FARTHER'), ('hop.beats_direct', ['A'], 'NEAR-FAR'),
    ('hop.through_source', ['A', 'B'], 'NEAR-FAR'), ('hop.direct_and_not', ['M2', 'C'], 'FAR'), ('hop.ranked', ['M2', 'C'], 'FAR', dict(rank={'M2': -1})), ('hop.sums', ['M1'], 'FAR'), ('hop.named', ['A', 'B'], 'FAR', dict(attributes={'source_replica_expression': 'B'})),
    ('hop.mismatch', ['A'], 'VIA-ROOT'), ('hop.closed', ['A'], 'VIA-CLOSED'), ('hop.over_tape', ['A'], 'VIA-TAPE'), ('hop.x509', ['A'], 'VIA-X509'), ('hop.no_fts', ['A'], 'VIA-NO-FTS'), ('hop.shared', ['A'], ['FAR', 'FAR-TAPE']),
    ('hop.again', ['C', 'E'], 'FAR', dict(retry=dict(source='E', count=1, rank=-1))), ('hop.lifetime', ['A'], 'FAR-TAPE', dict(attributes={'lifetime': 3600, 'overwrite': True}, columns={'priority': 4})),
    ('other.plain', ['P'], 'Q', dict(vo='two')), ('other.multi', ['P', 'R'], 'Q', dict(vo='two')), ('other.nd', ['P'], 'S', dict(vo='two')), ('other.tape', ['P'], 'T', dict(vo='two')),
]
OTHER = [rse('P'), rse('Q'), rse('R'), rse('S', deterministic=False), rse('T', kind=TAPE)]


def content(name: str, size: int) -> bytes:
    line = (name + '\n').encode()
    return (line * (size // len(line) + 1))[:size]


def schema() -> None:
    models.register_models(get_engine())
    create_base_vo()
    create_root_account()
    with db_session(DatabaseOperationType.WRITE) as session:
        session.execute(insert(models.VO), [{'vo': 'two', 'description': 'another', 'email': 'N/A'}])


def add_rse(session, vo, made, ids) -> None:
    made_id = ids[vo, made['name']] = rse_core.add_rse(made['name'], vo=vo, deterministic=made['deterministic'], rse_type=made['kind'], session=session)
    for p in made['protocols']:
        domains = {'lan': {'read': 1, 'write': 1, 'delete': 1},
                   'wan': {'read': 1, 'write': 1, 'delete': 1, 'third_party_copy_read': p['read'], 'third_party_copy_write': p['write']}}
        parameter = {k: p[k] for k in ('hostname', 'scheme', 'port', 'prefix', 'impl')}
        rse_core.add_protocol(made_id, {**parameter, 'domains': domains, 'extended_attributes': p.get('extended')}, session=session)
        # `None` switches off, which add_protocol does not take.
        off = {f'third_party_copy_{way}': None for way in ('read', 'write') if p[way] is None}
        if off:
            session.execute(update(models.RSEProtocol).where(models.RSEProtocol.rse_id == made_id, models.RSEProtocol.scheme == p['scheme']).values(off))
    for key, value in made['attributes'].items():
        if value is not None:
            rse_core.add_rse_attribute(made_id, key, value, session=session)


def topology(session) -> dict:
    ids = {}
    for vo, made in (('def', RSES), ('two', OTHER)):
        for name in ('conveyor', 'boss'):
            account_core.add_account(InternalAccount(name, vo=vo), AccountType.SERVICE, f'{name}@localhost', session=session)
        for scope in ('test', 'user.jo'):
            scope_core.add_scope(InternalScope(scope, vo=vo), InternalAccount('conveyor', vo=vo), session=session)
        for one in made:
            add_rse(session, vo, one, ids)
            for name in ('conveyor', 'boss'):
                account_limit.set_local_account_limit(InternalAccount(name, vo=vo), ids[vo, one['name']], -1, session=session)
    account_core.add_account_attribute(InternalAccount('boss'), 'admin', True, session=session)
    between = {(source, destination) for _, sources, destinations, *_ in DATASETS for source in sources
               for destination in ([destinations] if isinstance(destinations, str) else destinations)}
    direct = {(s, d): {'C': 2, 'E': 3}.get(s, 1) for s, d in between if s in DIRECT and d in DIRECT}
    for (source, destination), distance in {**dict(sorted(direct.items())), **DISTANCES}.items():
        if distance is not None:
            distance_core.add_distance(ids['def', source], ids['def', destination], distance=distance, session=session)
    names = [made['name'] for made in OTHER]
    for source in names:
        for destination in names:
            if source != destination:
                distance_core.add_distance(ids['two', source], ids['two', destination], distance=1, session=session)
    return ids


def dataset(session, ids, count, name, sources, destination, options) -> None:
    vo = options.get('vo', 'def')
    owner, scope = InternalAccount(options.get('account', 'conveyor'), vo=vo), InternalScope(options.get('scope', 'test'), vo=vo)
    files = []
    for i in range(count):
        file, size = f'{name}.{i:06d}', 4096 + (i * 7919) % 126976
        body = content(file, size)
        files.append({'scope': scope, 'name': file, 'bytes': size, 'md5': hashlib.md5(body).hexdigest(), 'adler32': f'{zlib.adler32(body) & 0xffffffff:08x}'})
    for source in sources:
        there = [dict(f) for f in files]
        if options.get('paths'):
            # A path that follows from no rule.
            host = next(r for r in RSES if r['name'] == source)['protocols'][0]['hostname']
            for f in there:
                f['pfn'] = f"davs://{host}:443/vo/rucio/kept/{f['name']}"
        if options.get('paths') and source == 'IDENTITY':
            for f in there:
                del f['pfn']
        replica_core.add_replicas(ids[vo, source], there, owner, session=session)
    if options.get('paths') and sources == ['IDENTITY']:
        session.execute(update(models.RSEFileAssociation).where(models.RSEFileAssociation.name.like(name + '.%')).values(path='/kept elsewhere/file'))
    did_core.add_did(scope, name, DIDType.DATASET, owner, session=session)
    did_core.attach_dids(scope, name, [dict(f) for f in files], owner, session=session)
    did_core.set_status(scope, name, open=False, session=session)
    for destination in [destination] if isinstance(destination, str) else destination:
        rule_core.add_rule(dids=[{'scope': scope, 'name': name}], account=owner, copies=1, rse_expression=destination, grouping='DATASET', weight=None, lifetime=None, locked=False,
                           subscription_id=None, source_replica_expression=options.get('expression'), activity=options.get('activity', 'Functional Test'), session=session)


def change(session, ids, name, options) -> None:
    """What no rule makes."""
    vo = options.get('vo', 'def')
    requests = session.execute(select(models.Request).where(models.Request.name.like(name.replace('_', '\\_') + '.______', escape='\\'))).scalars().all()
    for request in requests:
        values = dict(options.get('columns', {}))
        if 'attributes' in options or 'without' in options:
            attributes = json.loads(request.attributes)
            attributes.update(options.get('attributes', {}))
            attributes.pop(options.get('without'), None)
            values['attributes'] = json.dumps(attributes)
        ranks = dict(options.get('rank', {}))
        if again := options.get('retry'):
            values.update(previous_attempt_id=uuid.uuid4().hex, retry_count=again['count'], source_rse_id=ids[vo, again['source']], transfertool='fts3')
            ranks[again['source']] = again.get('rank', 0)
        if prepared := options.get('prepared'):
            # Less than six hours ago is young, and stays so: the database is kept.
            values.update(source_rse_id=ids[vo, prepared], transfertool='fts3', requested_at=datetime(2100 if options['young'] else 2020, 1, 1))
        for source, ranking in ranks.items():
            session.execute(insert(models.Source), [dict(request_id=request.id, scope=request.scope, name=request.name, rse_id=ids[vo, source], dest_rse_id=request.dest_rse_id,
                                                         url=f'davs://old.example/{request.name}', bytes=request.bytes, ranking=ranking, is_using=False)])
        if options.get('expired'):
            session.execute(update(models.ReplicationRule).where(models.ReplicationRule.id == request.rule_id).values(expires_at=datetime.utcnow() - timedelta(days=400)))
        if options.get('lost'):
            session.execute(update(models.RSEFileAssociation).where(models.RSEFileAssociation.name == request.name, models.RSEFileAssociation.state == 'A').values(state='U'))
        if values:
            session.execute(update(models.Request).where(models.Request.id == request.id).values(values))


def close(session, ids) -> None:
    """What was closed after the rules."""
    rse_core.update_rse(ids['def', 'CLOSED-SOURCE'], {'availability_read': False}, session=session)
    rse_core.update_rse(ids['def', 'CLOSED'], {'availability_write': False}, session=session)
    rse_core.update_rse(ids['def', 'HOP-CLOSED'], {'availability_write': False}, session=session)
    rse_core.add_rse_attribute(ids['def', 'SECRET-SOURCE'], 'restricted_read', True, session=session)
    rse_core.add_rse_attribute(ids['def', 'SECRET'], 'restricted_write', True, session=session)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=3)
    count = parser.parse_args().files
    schema()
    with db_session(DatabaseOperationType.WRITE) as session:
        ids = topology(session)
    cases = [(*case, {})[:4] for case in DATASETS]
    for name, sources, destination, options in cases:
        with db_session(DatabaseOperationType.WRITE) as session:
            dataset(session, ids, count, name, sources, destination, options)
    with db_session(DatabaseOperationType.WRITE) as session:
        # One after the other, so that oldest first is the same for everybody.
        for at, request in enumerate(session.execute(select(models.Request).order_by(models.Request.name, models.Request.dest_rse_id)).scalars().all()):
            request.created_at = datetime(2026, 1, 1) + timedelta(seconds=at)
        session.flush()
        for name, _, _, options in cases:
            change(session, ids, name, options)
        close(session, ids)
        # What Hermes and Abacus have taken meanwhile.
        for table in (models.Message, models.UpdatedRSECounter, models.UpdatedAccountCounter, models.UpdatedDID, models.UpdatedCollectionReplica):
            session.execute(delete(table))
    with get_engine().connect().execution_options(isolation_level='AUTOCOMMIT') as connection:
        # Most tables are empty, and each has a page at least.
        connection.execute(text('PRAGMA page_size = 512'))
        connection.execute(text('VACUUM'))
    with db_session(DatabaseOperationType.READ) as session:
        rows = session.execute(select(models.Request.state)).all()
    print(f'{len(rows)} requests of {len(cases)} datasets, {sum(r[0] == RequestState.QUEUED for r in rows)} queued')


main()

"""Let Rucio's own submitter work on a database, and write down what it did: the golden file that ours is compared with.

Its code runs as it is, in this process; only FTS and the issuer are not there: every job that it posts is recorded and gets an id, and every
token it asks for is the text `token`. The database is changed: give a copy.

usage: RUCIO_CONFIG=rucio.cfg submit_choices.py GOLDEN.json [GROUP-BULK]

[database] of the rucio.cfg names the copy (SQLite), and its [common] multi_vo is true where there are several VOs. Needs the PyPI package
`rucio` (seen with 41.5.1).
"""
import json
import sqlite3
import sys
import uuid
from types import SimpleNamespace

import rucio.transfertool.fts3 as fts3
from rucio.common.config import config_get, config_get_bool
from rucio.daemons.conveyor.common import get_conveyor_rses
from rucio.daemons.conveyor.submitter import submitter

REQUEST = "q.scope || ':' || q.name || ' > ' || d.rse"
OF = 'requests q ON q.id = {} JOIN rses d ON d.id = q.dest_rse_id'
# What is compared of the tables, as text that both kinds of database give alike; ids that a submitter makes are not in it.
TABLES = {
    'requests': "SELECT q.scope || ':' || q.name || ' > ' || d.rse, q.state, coalesce(s.rse, ''), coalesce(q.dest_url, ''), q.retry_count, coalesce(q.activity, ''), "
                "q.bytes, coalesce(q.md5, ''), coalesce(q.adler32, ''), coalesce(q.account, ''), coalesce(q.priority, 0), coalesce(q.transfertool, ''), coalesce(q.attributes, '') "
                "FROM requests q JOIN rses d ON d.id = q.dest_rse_id LEFT JOIN rses s ON s.id = q.source_rse_id ORDER BY 1",
    'sources': f"SELECT {REQUEST}, s.rse, t.rse, x.url, x.bytes, coalesce(x.ranking, 0), CASE WHEN x.is_using THEN 'in use' ELSE 'unused' END FROM sources x JOIN {OF.format('x.request_id')} "
               "JOIN rses s ON s.id = x.rse_id JOIN rses t ON t.id = x.dest_rse_id ORDER BY 1, 2",
    'transfer_hops': "SELECT q.scope || ':' || q.name, a.rse, n.rse, i.rse FROM transfer_hops h JOIN requests q ON q.id = h.request_id JOIN requests r ON r.id = h.next_hop_request_id "
                     "JOIN requests f ON f.id = h.initial_request_id JOIN rses a ON a.id = q.dest_rse_id JOIN rses n ON n.id = r.dest_rse_id JOIN rses i ON i.id = f.dest_rse_id ORDER BY 1, 2, 3, 4",
    'replicas': "SELECT p.scope || ':' || p.name, r.rse, p.state, p.bytes, coalesce(p.md5, ''), coalesce(p.adler32, ''), coalesce(p.path, ''), p.lock_cnt, "
                "CASE WHEN p.tombstone IS NULL THEN 'kept' ELSE 'may go' END FROM replicas p JOIN rses r ON r.id = p.rse_id WHERE p.state <> 'A' ORDER BY 1, 2",
    'updated_rse_counters': 'SELECT r.rse, sum(u.files), sum(u.bytes) FROM updated_rse_counters u JOIN rses r ON r.id = u.rse_id GROUP BY r.rse ORDER BY 1',
    'messages': 'SELECT event_type, payload FROM messages',
}
# What `--group-policy` and `--archive-timeout-override` may be.
POLICIES = ('rule', 'dest', 'src_dest', 'rule_src_dest', 'activity_dest', 'activity_src_dest')
OVERRIDES = (0, 1234)
# What a message has of one run only.
OF_ONE_RUN = ('request-id', 'external-id', 'external-host', 'queued_at')


def tables(path: str) -> dict:
    with sqlite3.connect(path) as database:
        read = {name: {'sql': sql, 'rows': [['' if value is None else str(value) for value in row] for row in database.execute(sql)]} for name, sql in TABLES.items()}
    for row in read['messages']['rows']:
        payload = json.loads(row[1])
        row[1] = json.dumps({k: v for k, v in payload.items() if k not in OF_ONE_RUN}, sort_keys=True)
    read['messages']['rows'].sort()
    return read


def main() -> None:
    group_bulk = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    jobs, files = [], {}

    def post(url, data, **_):
        job = json.loads(data)
        by_token = True
        for file in job['files']:
            for tokens in ('source_tokens', 'destination_tokens'):
                by_token &= file.pop(tokens, None) is not None
            files[file['metadata']['request_id']] = {'job': len(jobs), 'file': file}
        jobs.append({'params': job['params'], 'files': len(job['files']), 'fts': url.removesuffix('/jobs'), 'token': by_token})
        return SimpleNamespace(status_code=200, json=lambda: {'job_id': str(uuid.uuid4())}, text='')

    groups, archive = {policy: [] for policy in POLICIES}, {override: {} for override in OVERRIDES}
    own = fts3.bulk_group_transfers

    def group(transfer_paths, policy, group_bulk, archive_timeout_override, **more):
        # Asked for each policy, before the work goes on with the one it was to be.
        paths = list(transfer_paths)
        for each in POLICIES:
            jobs_of = own(paths, policy=each, group_bulk=100000, archive_timeout_override=archive_timeout_override, **more)
            groups[each] += [[transfer.rws.request_id for transfer in job['transfers']] for job in jobs_of]
        for each in OVERRIDES:
            for job in own(paths, policy=policy, group_bulk=100000, archive_timeout_override=each, **more):
                for transfer in job['transfers']:
                    archive[each][transfer.rws.request_id] = [job['job_params'].get(key) for key in ('archive_timeout', 'dst_file_report')]
        return own(paths, policy=policy, group_bulk=group_bulk, archive_timeout_override=archive_timeout_override, **more)

    fts3.bulk_group_transfers = group
    fts3.requests = SimpleNamespace(post=post, get=None, exceptions=fts3.requests.exceptions)
    fts3.request_token = lambda audience, scope, **_: 'token'
    rses = get_conveyor_rses() if config_get_bool('common', 'multi_vo', raise_exception=False, default=False) else None
    submitter(once=True, rses=rses, bulk=100000, group_bulk=group_bulk, max_sources=5, partition_wait_time=0)

    path = config_get('database', 'default').split('sqlite:///')[1]
    with sqlite3.connect(path) as database:
        rows = database.execute('SELECT q.id, q.name, q.state, s.rse, q.dest_url, d.rse, q.scope FROM requests q JOIN rses d ON d.id = q.dest_rse_id '
                                'LEFT JOIN rses s ON s.id = q.source_rse_id ORDER BY q.name, q.id').fetchall()
    requests = []
    for id_, name, state, source, dest_url, destination, scope in rows:
        sent = files.get(id_, {})
        requests.append({'request_id': id_, 'scope': scope, 'name': name, 'state': state, 'source_rse': source, 'dest_rse': destination, 'dest_url': dest_url,
                         'job': sent.get('job'), 'file': sent.get('file')})
    about = ("What Rucio 41.5.1's own submitter made of the database in one run (bulk 100000, group bulk 100, 5 extra sources, policy rule): the state each request ended in, the file entry "
             'it posted (tokens left out), the parameters of each job, and the tables afterwards.')
    with open(sys.argv[1], 'w') as golden:
        json.dump({'about': about, 'counts': {'jobs': len(jobs), 'files': len(files)}, 'jobs': jobs, 'requests': requests, 'groups': groups, 'archive': archive, 'tables': tables(path)}, golden)
    states = {}
    for request in requests:
        states[request['state']] = states.get(request['state'], 0) + 1
    print(f'{len(requests)} requests, {len(files)} files in {len(jobs)} jobs, states {states}')


main()

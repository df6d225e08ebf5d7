"""Queued requests in bulk, as rule evaluation leaves them: all that a submitter reads (files, source replicas, rules, requests), made
from rows of each kind that Rucio's own code wrote."""
import uuid

FILES_PER_RULE = 1000


def seed(connection, count, fts):
    """Replaces the queue by `count` requests from DISK-A to DISK-B, a millisecond apart in age, and names the FTS."""
    run = connection.execute
    run("UPDATE rse_attr_map SET value = %s WHERE key = 'fts'", [fts])
    for table in ('transfer_hops', 'sources', 'messages', 'requests'):
        run(f'DELETE FROM {table}')
    source, destination = (run('SELECT id FROM rses WHERE rse = %s', [rse]).fetchone()[0] for rse in ('DISK-A', 'DISK-B'))
    run('CREATE TEMP TABLE load_rules AS SELECT n, gen_random_uuid() AS id FROM generate_series(0, %s) n', [count // FILES_PER_RULE])
    run(f"""CREATE TEMP TABLE load_files AS
        SELECT f.n, 'load.' || lpad(r.n::text, 5, '0') || '.file' || lpad(f.n::text, 7, '0') AS name, md5(f.n::text) AS md5,
            substr(md5(f.n::text), 1, 8) AS adler32, 1000 + f.n % 1000 AS bytes, r.n AS rule, r.id AS rule_id,
            now() AT TIME ZONE 'utc' - make_interval(secs => ({int(count)} - f.n) / 1000.0) AS at
        FROM generate_series(0, {int(count)} - 1) f(n) JOIN load_rules r ON r.n = f.n / {FILES_PER_RULE}""")

    def like(table, where, keys, per):
        """Rows like one that is there, with other values for some columns, for each of what `per` gives."""
        run(f"""INSERT INTO {table} SELECT made.* FROM (SELECT t AS model FROM {table} t WHERE {where} LIMIT 1) AS one, {per},
            LATERAL jsonb_populate_record(model, jsonb_build_object({keys})) AS made""", {'source': source, 'destination': destination})

    like('dids', "did_type = 'D'", "'scope', 'test', 'name', 'load.' || n", 'load_rules')
    like('rules', 'true', "'id', id, 'scope', 'test', 'name', 'load.' || n, 'state', 'R', 'expires_at', null, 'child_rule_id', null", 'load_rules')
    file = "'scope', 'test', 'name', name, 'bytes', bytes, 'md5', md5, 'adler32', adler32, 'created_at', at, 'updated_at', at"
    like('dids', "did_type = 'F'", file, 'load_files')
    like('replicas', "state = 'A'", f"{file}, 'rse_id', %(source)s::uuid, 'path', null, 'tombstone', null", 'load_files')
    # The model went with the others.
    run("""INSERT INTO requests (id, request_type, scope, name, did_type, dest_rse_id, attributes, state, retry_count, rule_id, activity,
            bytes, md5, adler32, account, priority, created_at, updated_at)
        SELECT gen_random_uuid(), 'T', 'test', name, 'F', %(destination)s, jsonb_build_object('activity', 'Functional Test',
            'source_replica_expression', null, 'lifetime', null, 'ds_scope', 'test', 'ds_name', 'load.' || rule, 'bytes', bytes,
            'md5', md5, 'adler32', adler32, 'priority', 3, 'allow_tape_source', true)::text, 'Q', 0, rule_id, 'Functional Test',
            bytes, md5, adler32, 'conveyor', 3, at, at FROM load_files ORDER BY n""", {'destination': destination})
    run('VACUUM ANALYZE')


def queue_one(connection):
    """Queues one more request for a file that is there; returns its id."""
    one = uuid.uuid4()
    connection.execute("""INSERT INTO requests (id, request_type, scope, name, did_type, dest_rse_id, attributes, state, retry_count,
            rule_id, activity, bytes, md5, adler32, account, priority, created_at, updated_at)
        SELECT %s, 'T', d.scope, d.name, 'F', (SELECT id FROM rses WHERE rse = 'DISK-B'), '{"lifetime": null}', 'Q', 0,
            (SELECT id FROM rules LIMIT 1), 'Functional Test', d.bytes, d.md5, d.adler32, 'conveyor', 3, clock_timestamp() AT TIME ZONE 'utc',
            clock_timestamp() AT TIME ZONE 'utc'
        FROM dids d JOIN replicas r ON r.scope = d.scope AND r.name = d.name WHERE d.name LIKE 'load.%%.file%%'
        ORDER BY random() LIMIT 1""", [one])
    return one.hex

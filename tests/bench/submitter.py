"""Rucio's own submitter and conveyor, in turn, on copies of one database, with the same FTS and issuer: see tests/bench/submitter."""
import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
from seed import queue_one, seed
from servers import HZ, ROOT, Postgres, Services, certificate, memcached, say, ticks

RUCIO = {'token': 'Rucio, token', 'memcached': 'Rucio, token+memcached', 'certificate': 'Rucio, certificate'}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--queued', type=int, default=10_000, help='requests queued for conveyor (default 10000)')
    parser.add_argument('--rucio-queued', type=int, default=3_000,
                        help='requests queued for Rucio, whose rate does not go by the number (default 3000); 0: not run')
    parser.add_argument('--modes', default=','.join(RUCIO), help='modes of Rucio, comma separated (default: all)')
    parser.add_argument('--runs', type=int, default=3, help='runs of conveyor, of which the median counts (default 3)')
    parser.add_argument('--delays', type=int, default=100, help='requests queued one by one on an idle system (default 100); 0: none')
    parser.add_argument('--limit', type=int, default=240, help='longest run of a submitter in seconds (default 240)')
    parser.add_argument('--json', action='store_true', help='print the measurements as JSON')
    return parser.parse_args()


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.services = Services(folder)
        self.postgres = Postgres(os.environ['RUCIO_POSTGRES'])
        self.base = self.postgres.database()
        (folder / 'secret').write_text(self.services.at['secret'])
        (folder / 'secret').chmod(0o600)
        (folder / 'user.pem').write_bytes(certificate())
        (folder / 'idpsecrets.json').write_text(json.dumps({'box': {
            'client_id': 'rucio-submitter', 'client_secret': self.services.at['secret'], 'issuer': self.services.at['issuer'],
            'redirect_uris': []}}))
        try:
            self.postgres.admin.execute('CREATE EXTENSION IF NOT EXISTS pg_stat_statements')
        except psycopg.Error as error:
            say(f'pg_stat_statements is not there, so statements are not counted: {error}'.strip())
        config = self.rucio_cfg(self.base)
        subprocess.run([sys.executable, ROOT / 'tests/rucio/copy_database.py', ROOT / 'tests/data/rucio-41.5.1.sqlite'],
                       env={**os.environ, 'RUCIO_CONFIG': config}, check=True)

    def rucio_cfg(self, database, memcached=None):
        path = self.folder / f'{database}.cfg'
        driver = self.postgres.at(database).replace('postgresql://', 'postgresql+psycopg://', 1)
        path.write_text(
            f'[common]\nloglevel = INFO\n[database]\ndefault = {driver}\n[conveyor]\ntransfertool = fts3\n'
            f'usercert = {self.folder}/user.pem\n'
            f'[oidc]\nidpsecrets = {self.folder}/idpsecrets.json\nadmin_issuer = box\n'
            f'[cache]\nurl = {memcached or "127.0.0.1:1"}\n[policy]\npermission = generic\nschema = generic\n')
        return path

    def conveyor_toml(self, database):
        path = self.folder / f'{database}.toml'
        at = self.services.at
        cache = self.folder / f'{database}-tokens'
        path.write_text(
            f'[rucio]\ndatabase = "{self.postgres.at(database)}"\n[issuer]\nurl = "{at["issuer"]}"\nclient_id = "rucio-conveyor"\n'
            f'client_secret_file = "{self.folder}/secret"\nca_file = "{at["ca_file"]}"\n[fts]\nca_file = "{at["ca_file"]}"\n'
            f'[cache]\npath = "{cache}"\nkey_file = "{cache}.key"\n')
        return path

    @contextmanager
    def seeded(self, count):
        name = self.postgres.database(self.base)
        start = time.monotonic()
        with self.postgres.connect(name) as connection:
            seed(connection, count, self.services.at['fts'])
        say(f'{count} requests queued in {time.monotonic() - start:.0f} s')
        try:
            yield name
        finally:
            self.postgres.drop(name)

    @contextmanager
    def copy(self, seeded):
        name = self.postgres.database(seeded)
        try:
            yield name
        finally:
            self.postgres.drop(name)

    def measured(self, database, count, run):
        """Runs a submitter and looks at what it took; `run` tells its own CPU, peak memory and time."""
        self.services.ask('reset')
        self.postgres.admin.execute('CHECKPOINT')
        before, calls = self.postgres.cpu(), self.postgres.statements(database)
        own = run()
        after = self.postgres.cpu()
        seen = self.services.ask('counts')
        with self.postgres.connect(database) as connection:
            done, = connection.execute("SELECT count(*) FROM requests WHERE state = 'S'").fetchone()
        if (done, seen['requests'], seen['files']) != (count, count, count):
            say(f'NOT WHOLE: {done} submitted of {count}; FTS has {seen}')
        thousands = max(done, 1) / 1000
        return {
            'requests': done, 'wall_s': own['wall'], 'per_s': done / own['wall'],
            'cpu_s': own['cpu'] / thousands, 'rss_mib': own['rss'] / 1024,
            'postgres_cpu_s': None if before is None else (after - before) / thousands,
            'statements': None if calls is None else (self.postgres.statements(database) - calls) / thousands,
            'token_calls': seen['token_calls'], 'jobs': seen['jobs'],
        }

    def rucio(self, seeded, count, mode, memcached=None):
        with self.copy(seeded) as database:
            if mode == 'certificate':
                with self.postgres.connect(database) as connection:
                    connection.execute("DELETE FROM rse_attr_map WHERE key = 'oidc_support'")
            log = open(self.folder / f'rucio-{mode}.log', 'w')

            def run():
                done = subprocess.run(
                    [sys.executable, Path(__file__).with_name('rucio_submitter.py'), str(count)], stdout=subprocess.PIPE, stderr=log,
                    env={**os.environ, 'RUCIO_CONFIG': self.rucio_cfg(database, memcached),
                         'REQUESTS_CA_BUNDLE': self.services.at['ca_file'], 'PYTHONWARNINGS': 'ignore'},
                    check=True, timeout=self.args.limit * 2)
                own = json.loads(done.stdout.splitlines()[-1])
                with self.postgres.connect(database) as connection:
                    last, = connection.execute("SELECT extract(epoch FROM max(updated_at)) FROM requests WHERE state = 'S'").fetchone()
                # Without the wait for its threads at the end.
                own['wall'] = float(last or own['end']) - own['start']
                return own
            return self.measured(database, count, run)

    def conveyor(self, seeded, count):
        with self.copy(seeded) as database:
            def run():
                took = self.folder / 'took.json'
                done = subprocess.run(
                    [sys.executable, '-I', '-S', ROOT / 'tests/bench/child.py', took, ROOT / 'target/release/conveyor',
                     '--config', self.conveyor_toml(database), '--run-once', '--json'],
                    stdout=subprocess.DEVNULL, stderr=open(self.folder / 'conveyor.log', 'w'))
                if done.returncode:
                    say(f'conveyor failed: {(self.folder / "conveyor.log").read_text().splitlines()[-1:]}')
                return json.loads(took.read_text())
            return self.measured(database, count, run)

    def delays(self, seeded):
        """Requests that come one by one into an idle system: how long until FTS has each; and what idling costs the database."""
        with self.copy(seeded) as database, self.postgres.connect(database) as connection:
            connection.execute("DELETE FROM requests")
            self.services.ask('reset')
            process = subprocess.Popen([ROOT / 'target/release/conveyor', '--config', self.conveyor_toml(database)],
                                       stderr=open(self.folder / 'conveyor-idle.log', 'w'))
            try:
                queued = {queue_one(connection): time.time()}
                while not self.services.ask('arrivals'):
                    time.sleep(0.1)
                time.sleep(3)
                start, cpu, own, calls = time.monotonic(), self.postgres.cpu(), sum(ticks(process.pid, 2)), self.postgres.statements(database)
                time.sleep(10)
                idle = time.monotonic() - start
                idle = {
                    'statements_per_s': None if calls is None else (self.postgres.statements(database) - calls) / idle,
                    'postgres_cpu_percent': None if cpu is None else 100 * (self.postgres.cpu() - cpu) / idle,
                    'conveyor_cpu_percent': 100 * (sum(ticks(process.pid, 2)) - own) / HZ / idle,
                }
                queued.clear()
                for _ in range(self.args.delays):
                    queued[queue_one(connection)] = time.time()
                    time.sleep(random.uniform(0, 0.6))
                end = time.monotonic() + 30
                while time.monotonic() < end and not queued.keys() <= (arrived := self.services.ask('arrivals')).keys():
                    time.sleep(0.2)
                late = sorted(arrived[one] - at for one, at in queued.items() if one in arrived)
            finally:
                process.terminate()
                process.wait(15)
        return {
            'requests': len(queued), 'arrived': len(late), 'p50_s': statistics.median(late),
            'p99_s': late[max(0, round(0.99 * len(late)) - 1)], 'max_s': late[-1], 'idle': idle,
        }


def table(rows):
    columns = [('requests', 'requests', '{:.0f}'), ('per_s', 'requests/s', '{:.1f}'), ('cpu_s', 'CPU s/1000', '{:.3f}'),
               ('postgres_cpu_s', 'PostgreSQL CPU s/1000', '{:.3f}'), ('rss_mib', 'peak RSS MiB', '{:.1f}'),
               ('token_calls', 'issuer calls', '{:.0f}'), ('statements', 'SQL/1000', '{:.1f}'), ('jobs', 'FTS jobs', '{:.0f}')]
    lines = [['', *(title for _, title, _ in columns)]]
    for name, row in rows.items():
        if row is None:
            lines.append([name, 'not run', *[''] * (len(columns) - 1)])
        else:
            lines.append([name, *('?' if row[key] is None else form.format(row[key]) for key, _, form in columns)])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        print('  '.join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths))).rstrip())


def ratios(rucio, conveyor):
    both = [None if row['postgres_cpu_s'] is None else row['cpu_s'] + row['postgres_cpu_s'] for row in (rucio, conveyor)]
    return {
        'requests_per_s': conveyor['per_s'] / rucio['per_s'],
        'cpu': rucio['cpu_s'] / conveyor['cpu_s'],
        'cpu_with_postgres': None if None in both else both[0] / both[1],
        'memory': rucio['rss_mib'] / conveyor['rss_mib'],
    }


def main():
    args = arguments()
    rows, outcome = {}, {}
    with tempfile.TemporaryDirectory(prefix='bench') as folder:
        bench = Bench(args, Path(folder))
        try:
            with bench.seeded(args.queued) as seeded:
                runs = []
                for at in range(args.runs):
                    say(f'conveyor, run {at + 1} of {args.runs}')
                    runs.append(bench.conveyor(seeded, args.queued))
                    say(f'  {runs[-1]["per_s"]:.0f} requests/s')
                rows['conveyor'] = sorted(runs, key=lambda run: run['per_s'])[len(runs) // 2]
            with bench.seeded(max(args.rucio_queued, 10)) as seeded:
                if args.delays:
                    say('conveyor on an idle system')
                    outcome['delay'] = bench.delays(seeded)
                for mode in [mode for mode in args.modes.split(',') if args.rucio_queued]:
                    say(RUCIO[mode])
                    if mode == 'memcached':
                        with memcached() as at:
                            rows[RUCIO[mode]] = bench.rucio(seeded, args.rucio_queued, mode, at) if at else None
                    else:
                        rows[RUCIO[mode]] = bench.rucio(seeded, args.rucio_queued, mode)
        finally:
            bench.services.stop()
            bench.postgres.stop()
    outcome.update(rows=rows, load=os.getloadavg()[0])
    outcome['ratios'] = {name: ratios(row, rows['conveyor']) for name, row in rows.items() if row and name != 'conveyor'}
    if args.json:
        print(json.dumps(outcome, indent=1))
        return
    table(rows)
    print()
    for name, ratio in outcome['ratios'].items():
        both = '' if ratio['cpu_with_postgres'] is None else f', 1/{ratio["cpu_with_postgres"]:.0f} with PostgreSQL\'s'
        print(f'conveyor to {name}: {ratio["requests_per_s"]:.0f} x requests/s, 1/{ratio["cpu"]:.0f} of the CPU a request{both}, '
              f'1/{ratio["memory"]:.1f} of the peak memory')
    if delay := outcome.get('delay'):
        idle = delay['idle']
        shown = {key: '?' if value is None else f'{value:.2f}' for key, value in idle.items()}
        print(f'idle system: {delay["arrived"]} of {delay["requests"]} requests arrived; delay p50 {delay["p50_s"]:.2f} s, '
              f'p99 {delay["p99_s"]:.2f} s, longest {delay["max_s"]:.2f} s; idling takes {shown["statements_per_s"]} statements/s, '
              f'{shown["postgres_cpu_percent"]} % of a core in PostgreSQL and {shown["conveyor_cpu_percent"]} % in conveyor')
    print(f'load of the machine at the end: {outcome["load"]:.1f} on {os.cpu_count()} cores; what else runs slows both, ratios hold better')


if __name__ == '__main__':
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

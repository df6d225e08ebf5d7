"""What a comparison of submitters talks to: PostgreSQL, the issuer and the FTS, and a memcached."""
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
HZ = os.sysconf('SC_CLK_TCK')


def say(words):
    print(words, file=sys.stderr, flush=True)


def certificate():
    """A user's certificate and key, for Rucio's certificate mode: the FTS looks at neither."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'submitter')])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Services:
    """The issuer and the FTS, in a process of their own."""

    def __init__(self, folder):
        program = ROOT / 'target/release/examples/bench-services'
        self.process = subprocess.Popen([program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = json.loads(self.process.stdout.readline())

    def ask(self, words):
        self.process.stdin.write(words + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Postgres:
    """The server, and databases on it."""

    def __init__(self, url):
        self.url = url
        self.made = []
        self.admin = psycopg.connect(url, autocommit=True)
        self.postmaster = self.pid()

    def pid(self):
        """The server's process id, if it runs here and we may look."""
        try:
            pid = int(self.admin.execute("SELECT pg_read_file('postmaster.pid')").fetchone()[0].split()[0])
            return pid if Path(f'/proc/{pid}/comm').read_text().startswith('postgres') else None
        except (psycopg.Error, OSError):
            return None

    def database(self, template=None):
        name = 'conveyor_bench_' + uuid.uuid4().hex
        self.admin.execute(f'CREATE DATABASE {name}' + (f' TEMPLATE {template}' if template else ''))
        self.made.append(name)
        return name

    def drop(self, name):
        self.admin.execute(f'DROP DATABASE IF EXISTS {name} WITH (FORCE)')
        self.made.remove(name)

    def at(self, name):
        return self.url.rsplit('/', 1)[0] + '/' + name

    def connect(self, name):
        return psycopg.connect(self.at(name), autocommit=True)

    def cpu(self):
        """Seconds of all the server's processes: those that are, and those that were."""
        if self.postmaster is None:
            return None
        total = sum(ticks(self.postmaster, 4))
        children = Path(f'/proc/{self.postmaster}/task/{self.postmaster}/children').read_text().split()
        for child in children:
            try:
                total += sum(ticks(child, 2))
            except OSError:
                pass
        return total / HZ

    def statements(self, name):
        try:
            row = self.admin.execute('SELECT sum(calls) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid '
                                     'WHERE d.datname = %s', [name]).fetchone()
            return int(row[0] or 0)
        except psycopg.Error:
            return None

    def stop(self):
        for name in list(self.made):
            self.drop(name)


def ticks(pid, fields):
    """utime, stime, cutime, cstime of a process."""
    return [int(field) for field in Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[11:11 + fields]]


@contextmanager
def memcached():
    """A memcached of our own, or none."""
    if not shutil.which('memcached') and os.geteuid() == 0 and shutil.which('apt-get'):
        say('installing memcached')
        subprocess.run('apt-get update -qq && apt-get install -y -qq --no-install-recommends memcached', shell=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, 'RUNLEVEL': '1'})
    if not shutil.which('memcached'):
        yield None
        return
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    user = ['-u', 'nobody'] if os.geteuid() == 0 else []
    process = subprocess.Popen(['memcached', '-l', '127.0.0.1', '-p', str(port), *user])
    time.sleep(0.5)
    try:
        yield f'127.0.0.1:{port}'
    finally:
        process.terminate()
        process.wait(10)

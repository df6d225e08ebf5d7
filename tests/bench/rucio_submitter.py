"""Rucio's own submitter over so many requests at once; prints what it took. RUCIO_CONFIG names its rucio.cfg."""
import json
import resource
import sys
import time

from rucio.daemons.conveyor.submitter import submitter


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# What it takes to load the program does not count, nor the ten seconds that its command line waits at first.
start, before = time.time(), cpu()
submitter(once=True, bulk=int(sys.argv[1]), group_bulk=100, max_sources=5, partition_wait_time=0)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({'start': start, 'end': time.time(), 'cpu': cpu() - before, 'rss': rss}))

"""Runs a command and writes what it took, as JSON, to the file that is named first. A process of its own, and a small one: Linux counts
the memory of the process that starts a command as the command's (wait4, ru_maxrss)."""
import json
import os
import sys
import time

start = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
took = {'wall': time.monotonic() - start, 'cpu': used.ru_utime + used.ru_stime, 'rss': used.ru_maxrss}
with open(sys.argv[1], 'w') as file:
    json.dump(took, file)
sys.exit(os.waitstatus_to_exitcode(status))

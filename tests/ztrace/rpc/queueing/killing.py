"""Programs of producers and workers, which tests kill at any moment.

The journal gets one line for each run of a job, in one call of the kernel.
"""

PRODUCER = """
import sys
from ztrace import rpc
endpoint, spool, jobs = sys.argv[1:]
queue = rpc.Queue(endpoint, spool=spool)
put = queue.options
handles = [put(key=f"job-{number}", max_attempts=100).put("note", number) for number in range(int(jobs))]
print("put", flush=True)
assert [handle.result(timeout_s=60) for handle in handles] == list(range(int(jobs)))
queue.close()
"""

WORKER = """
import os, sys, time
from ztrace import rpc
endpoint, journal, pause_s = sys.argv[1:]
descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)
def note(number):
    time.sleep(float(pause_s))
    os.write(descriptor, b"%d\\n" % number)
    return number
print("ready", flush=True)
rpc.Worker({"note": note}, endpoint, credits=2).run()
"""

SHARED_WORKER = """
import sys
from ztrace import rpc
done = []
def note(number):
    done.append(number)
    return number
print("ready", flush=True)
rpc.Worker({"note": note}, *sys.argv[1:]).run()
print(len(done))
"""

"""`python -I -S measured.py LIMIT_BYTES OUT.json COMMAND…`: run a command under a limit of its address space.

Writes its exit code and its peak memory. A process of its own, because a child's peak includes what its parent had in
memory when it forked, and a test runner has Paddle there.
"""

import json
import os
import resource
import sys

limit, out, *command = sys.argv[1:]
child = os.fork()
if child == 0:
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    os.execv(command[0], command)
_, status, usage = os.wait4(child, 0)
with open(out, "w") as file:  # noqa: PTH123 (pathlib would be most of this process)
    json.dump({"code": os.waitstatus_to_exitcode(status), "peak_bytes": usage.ru_maxrss * 1024}, file)

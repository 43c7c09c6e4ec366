"""`python measured.py LIMIT_BYTES`: runs `cyclemlp`, each time in a process of its own with little address space.

Each line on stdin is a JSON list of words. The answer is a line of JSON: the exit code, what was printed, and the peak
memory. The processes are forked from this one, which has imported the command and nothing else: a child's peak includes
what its parent had in memory, and a test runner has Paddle there.
"""

import json
import os
import resource
import sys
import tempfile
import traceback

from cyclemlp.cli.main import main

limit = int(sys.argv[1])
for line in sys.stdin:
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            code = 70
            try:
                code = main(json.loads(line))
            except BaseException:  # as the interpreter would
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status, usage = os.wait4(child, 0)
        printed.seek(0)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "printed": printed.read().decode(errors="replace"),
            "peak_bytes": usage.ru_maxrss * 1024,
        }
    print(json.dumps(answer), flush=True)

"""beside_server.py FILE: starts the server that a JSON file names, runs what comes before the tests and the tests, and
stops the server."""

import json
import subprocess
import sys
import time
import urllib.request

plan = json.load(open(sys.argv[1], encoding="utf-8"))
with open(sys.argv[1] + ".log", "wb") as log:
    server = subprocess.Popen(plan["server"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
deadline = time.monotonic() + 90
while True:
    try:
        with urllib.request.urlopen("http://127.0.0.1:2379/health", timeout=10) as answer:
            if json.load(answer)["health"] == "true":
                break
    except OSError:
        pass
    if server.poll() is not None or time.monotonic() > deadline:
        server.kill()
        sys.exit("the server does not become ready: " + open(sys.argv[1] + ".log", encoding="utf-8").read()[-3000:])
    time.sleep(0.05)
for command in plan["before"]:
    subprocess.run(command, check=True)
failed = [program[0] for program in plan["tests"] if subprocess.run(program, check=False).returncode != 0]
server.terminate()
server.wait(60)
sys.exit(f"failed: {failed}" if failed else 0)

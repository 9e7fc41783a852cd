"""Checks a broker's API against its OpenAPI document: starts the built broker and hosts that only pretend, and has schemathesis
ask all that the document allows and much that it does not, as a user, as nobody, and as an administrator.

Usage: run.py LUCARNE DOCUMENT [SCHEMATHESIS-ARGUMENT...], with the interpreter of the environment that has schemathesis.
"""

import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
# Generous: a machine that builds beside it is slow.
LIMIT = 60
EXAMPLES = 12
PASSWORD = "correct horse battery"
# Users at whose passwords each caller guesses, in turn: a name is slowed down after each failure.
GUESSED = 16


def until(what, condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"{what}: not within {LIMIT} s")


class Broker:
    """A broker with three hosts that only pretend, in a folder of its own."""

    def __init__(self, program, folder):
        self.program, self.folder, self.processes = program, folder, []
        self.said = folder / "said"
        self.cert = folder / "broker/tls/cert.pem"

    def __enter__(self):
        try:
            listen = ["--listen", "127.0.0.1:0", "--vnc-listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"]
            with self.said.open("wb") as said:
                broker = self.run(["broker", "--announce", "--vnc-security", "x509plain,vncauth", *listen], said)
            announced = until("a broker serves", lambda: broker.poll() is not None or self.announced())
            if announced is True:
                sys.exit(f"the broker ended with {broker.returncode}; see {self.folder}/log of a run with --keep")
            self.url = f"https://{announced['address']}"
            self.run(["host", "run", "--sim", "3"], subprocess.DEVNULL)
            until("three hosts are there", lambda: self.call("GET", "/health")["hosts_online"] == 3)
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, words, stdout):
        log = (self.folder / "log.txt").open("ab")
        command = [self.program, *words, "--data-dir", str(self.folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log)
        self.processes.append(process)
        return process

    def announced(self):
        try:
            return json.loads(self.said.read_text().splitlines()[0])
        except (IndexError, ValueError):
            return None

    def call(self, method, path, body=None, token=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + "/api/v1" + path, method=method, data=data, headers=headers)
        context = ssl.create_default_context(cafile=self.cert)
        with urllib.request.urlopen(request, context=context) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    def sign_in(self, name, password=PASSWORD):
        return self.call("POST", "/auth/token", {"name": name, "password": password})["token"]


def populate(broker):
    """Users, a pool and sessions; gives the tokens of an administrator and a user, and the user's session."""
    password = (broker.folder / "broker/initial-admin-password").read_text().strip()
    admin = broker.sign_in("admin", password)
    for name in ["ada", "bob", "leaver"]:
        broker.call("POST", "/users", {"name": name, "password": PASSWORD, "groups": ["staff"]}, admin)
    pool = {"name": "office", "image": "simulated", "entitled_groups": ["everyone"], "max_desktops": 50}
    broker.call("POST", "/pools", pool, admin)
    ada = broker.sign_in("ada")
    connected = lambda token: broker.call("POST", "/sessions", {"pool": "office"}, token)
    for token in (admin, ada):
        until("a desktop is ready", lambda: connected(token)["ticket"])
    return admin, ada, connected(ada)["session"]["id"]


def check(broker, document, caller, token, session, admin, arguments):
    names = [f"{caller.split()[-1]}-{n}" for n in range(GUESSED)]
    for name in names:
        broker.call("POST", "/users", {"name": name, "password": PASSWORD}, admin)
    guessed = [broker.sign_in(name) for name in names]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "LUCARNE_URL": broker.url,
        "LUCARNE_CERT": str(broker.cert),
        "LUCARNE_TOKEN": token,
        "LUCARNE_GUESSED": json.dumps(guessed),
        "LUCARNE_CALLER": caller,
        "LUCARNE_SESSION": session,
        "LUCARNE_LEAVER": json.dumps({"name": "leaver", "password": PASSWORD}),
    }
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis",
        "--config-file",
        HERE / "schemathesis.toml",
        "run",
        document,
        "--url",
        broker.url,
        "--tls-verify",
        broker.cert,
        "--max-examples",
        str(EXAMPLES),
        "--phases",
        "coverage,fuzzing",
        *arguments,
    ]
    print(f"== As {caller}", flush=True)
    # What it remembers goes with the broker's folder.
    return subprocess.run(command, cwd=broker.folder, env=environment, check=False).returncode


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, document = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix="lucarne-contract-") as folder:
        with Broker(program, pathlib.Path(folder)) as broker:
            admin, ada, session = populate(broker)
            # The administrator last, because they may take everything away.
            callers = {"a user": ada, "nobody": "unknown", "an administrator": admin}
            ask = lambda caller: check(broker, document, caller, callers[caller], session, admin, sys.argv[3:])
            failed = [caller for caller in callers if ask(caller) != 0]
            if failed:
                print((broker.folder / "log.txt").read_text())
                sys.exit(f"The API is not what its document says; asked as: {', '.join(failed)}")


if __name__ == "__main__":
    main()

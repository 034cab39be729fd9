"""With auth on: passwords guessed by the thousand, and tokens that nobody was given."""

import contextlib
import random
import string
import time

import rpc
from arena import Together, attack

AUTHENTICATE, RANGE = "/etcdserverpb.Auth/Authenticate", "/etcdserverpb.KV/Range"
WRONG = "etcdserver: authentication failed, invalid user ID or password"
TOO_MANY = "etcdserver: too many requests"
GUESSES = 100  # of a connection, all at once
FORGED = 10_000  # of a connection
HONEST_SECONDS_MAX = 60.0


@contextlib.contextmanager
def with_auth(target):
    """Users root and honest, the token of honest, and bystanders who have it. Auth is off again afterwards."""
    root = target.client()
    root.user_add("root", "rootpw")
    root.role_add("root")
    root.user_grant("root", "root")
    root.role_add("all")
    root.role_grant("all", 2, b"\0", b"\0")
    root.user_add("honest", "honestpw")
    root.user_grant("honest", "all")
    root.auth_enable()
    root.login("root", "rootpw")
    try:
        token = target.client().login("honest", "honestpw").metadata[0][1]
        with target.bystanders(token=token):
            yield token
    finally:
        root.call("Auth", "AuthDisable")


@attack(f"30 connections with {GUESSES} wrong passwords each, at once; one honest client authenticates meanwhile")
def password_flood(target):
    outcomes = {}

    def guess():
        with rpc.Client(target.port, timeout=240) as client:
            for answer in client.pipeline([(AUTHENTICATE, rpc.enc((1, "honest"), (2, "wrong")))] * GUESSES, GUESSES):
                text = answer.message if isinstance(answer, rpc.GrpcError) else "let in"
                outcomes[text] = outcomes.get(text, 0) + 1

    with with_auth(target):
        together = Together()
        for _ in range(30):
            together.run(guess)
        time.sleep(0.5)
        began = time.monotonic()
        target.client(timeout=240).authenticate("honest", "honestpw")
        took = time.monotonic() - began
        target.check(took < HONEST_SECONDS_MAX, f"the honest client waits {took:.0f} s")
        target.note(f"the honest client waited {took:.1f} s")
        together.join(300)
    target.check(set(outcomes) <= {WRONG, TOO_MANY}, f"guesses end with {outcomes}")
    target.note(f"{outcomes.get(WRONG, 0)} guesses looked at")


@attack(f"10 connections with {FORGED} requests each, all with tokens that nobody was given")
def forged_tokens(target):
    let_in = []

    def forge(token, seed):
        chance = random.Random(seed)
        letters, index = token.split(".")
        with rpc.Client(target.port, timeout=120) as client:
            for first in range(0, FORGED, 100):
                streams = []
                for number in range(first, first + 100):
                    made = "".join(chance.choice(string.ascii_letters) for _ in letters)
                    forged = [f"{made}.{index}", f"{letters[:-1]}.{index}", f"{made}.{number}", made * 500][number % 4]
                    streams.append(client.connection.start(RANGE, rpc.enc((1, b"a")), metadata=(("token", forged),)))
                for stream in streams:
                    try:
                        client.connection.finish(stream)
                        let_in.append(stream)
                    except rpc.GrpcError as error:
                        if error.message != "etcdserver: invalid auth token":
                            raise

    with with_auth(target) as token:
        together = Together()
        for seed in range(10):
            together.run(forge, token, seed)
        together.join(240)
    target.check(not let_in, f"{len(let_in)} were let in")

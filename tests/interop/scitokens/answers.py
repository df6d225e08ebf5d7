#!/usr/bin/env python3
"""What two other libraries say to tokens: Debian's libscitokens (C++) and PyPI's scitokens.

Standard input: {"authorities": FILE, "cache": FOLDER, "issuers": {NAME: JWKS},
"cases": [{"id", "issuer", "audiences", "token", "authz", "path"}]}.
Standard output: {LIBRARY: {"version", "answers": {id: [ANSWER, WHY]}} or null if it is not there}. LIBRARY is "scitokens-cpp",
"scitokens", or "scitokens-bare": the same without the validators that a caller has to add for WLCG tokens. ANSWER is "accepts",
"refuses" or "dies".
"""

import ctypes
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from functools import partial
from importlib.metadata import PackageNotFoundError, version

try:
    import scitokens
except ImportError:
    scitokens = None

try:
    LIBRARY = ctypes.CDLL("libSciTokens.so.0")
except OSError:
    LIBRARY = None

WLCG_1_0 = 3  # SciTokenProfile in scitokens.h
SLOWEST_S = 20


class Acl(ctypes.Structure):
    _fields_ = [("authz", ctypes.c_char_p), ("resource", ctypes.c_char_p)]


def cpp(question):
    """libscitokens by its C interface. The profile is named, so that it does not turn WLCG scopes into its own."""
    LIBRARY.enforcer_create.restype = ctypes.c_void_p
    said = ctypes.c_char_p()

    def words(*texts):
        return (ctypes.c_char_p * (len(texts) + 1))(*[text.encode() for text in texts], None)

    def refused():
        return "refuses", (said.value or b"").decode(errors="replace")

    token = ctypes.c_void_p()
    trusted = words(question["issuer"])
    if LIBRARY.scitoken_deserialize(question["token"].encode(), ctypes.byref(token), trusted, ctypes.byref(said)):
        return refused()
    audiences = words(*question["audiences"])
    enforcer = LIBRARY.enforcer_create(question["issuer"].encode(), audiences, ctypes.byref(said))
    enforcer = ctypes.c_void_p(enforcer)
    LIBRARY.enforcer_set_validate_profile(enforcer, WLCG_1_0)
    acl = Acl(question["authz"].encode(), question["path"].encode())
    if LIBRARY.enforcer_test(enforcer, token, ctypes.byref(acl), ctypes.byref(said)):
        return refused()
    return "accepts", ""


def python(question, bare=False):
    """scitokens. `bare`: without a validator for each claim that it does not know, which it refuses."""
    try:
        token = scitokens.SciToken.deserialize(question["token"])
        enforcer = scitokens.Enforcer(question["issuer"], audience=question["audiences"])
        for claim in () if bare else ("wlcg.ver", "wlcg.groups"):
            enforcer.add_validator(claim, lambda value: True)
        if enforcer.test(token, question["authz"], question["path"]):
            return "accepts", ""
        return "refuses", str(enforcer.last_failure)
    except Exception as error:  # whatever it raises is its way to refuse
        return "refuses", f"{type(error).__name__}: {error}"


def apart(ask, question):
    """Asks in a process of its own: one library ends its process over some tokens."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(ask(question)).encode())
            os._exit(0)
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    deadline = time.monotonic() + SLOWEST_S
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"{question['id']}: no answer in {SLOWEST_S} s")
        time.sleep(0.001)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    if os.WIFSIGNALED(status):
        return "dies", f"signal {os.WTERMSIG(status)}"
    if not text:
        raise RuntimeError(f"{question['id']}: could not be asked")
    return json.loads(text)


def hold_keys(cache, issuers):
    """Puts the issuers' keys where libscitokens 0.7.3 keeps what it has fetched: it can't be told of a certificate authority."""
    folder = os.path.join(cache, "scitokens")
    os.makedirs(folder, exist_ok=True)
    later = int(time.time()) + 24 * 3600
    with sqlite3.connect(os.path.join(folder, "scitokens_cpp.sqllite")) as database:
        database.execute("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
        for issuer, jwks in issuers.items():
            keys = json.dumps({"expires": later, "next_update": later, "jwks": jwks})
            database.execute("INSERT INTO keycache VALUES (?, ?)", (issuer, keys))
    database.close()


def cpp_version():
    """What Debian's package says: the library itself does not tell."""
    if LIBRARY is None:
        return None
    asked = ["dpkg-query", "--show", "--showformat=${Version}", "libscitokens0"]
    try:
        said = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=SLOWEST_S)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.split("-")[0]


def python_version():
    try:
        return version("scitokens") if scitokens else None
    except PackageNotFoundError:
        return "unknown"


def main():
    asked = json.load(sys.stdin)
    os.environ["SSL_CERT_FILE"] = asked["authorities"]
    os.environ["XDG_CACHE_HOME"] = asked["cache"]
    hold_keys(asked["cache"], asked["issuers"])
    libraries = {
        "scitokens-cpp": (cpp_version(), cpp),
        "scitokens": (python_version(), python),
        "scitokens-bare": (python_version(), partial(python, bare=True)),
    }
    said = {}
    for name, (of, ask) in libraries.items():
        answers = {question["id"]: apart(ask, question) for question in asked["cases"]} if of else {}
        said[name] = {"version": of, "answers": answers} if of else None
    json.dump(said, sys.stdout)


main()

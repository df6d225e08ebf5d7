"""Verifies tokens with PyPI scitokens and with libscitokens (scitokens-cpp), for the benchmark to compare with.

The first line of standard input says what there is: issuer, audience, jwks, tokens by algorithm. XDG_CACHE_HOME is a folder for the
libraries' key caches. The answer says which library is there, or why it is not. Then each line "LIBRARY ALGORITHM COUNT" is answered by the seconds
that so many verifications took.
"""
import ctypes
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

setup = json.loads(sys.stdin.readline())


def python():
    """Signature and times by SciToken.deserialize, with the key given: no look into its key cache. The rest by its Enforcer, which
    refuses claims that it does not know unless it is told to let them pass."""
    import scitokens
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from jwt import PyJWK
    from importlib.metadata import version

    keys = {}
    for key in setup["jwks"]["keys"]:
        keys[key["alg"]] = PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    enforcer = scitokens.Enforcer(setup["issuer"], audience=setup["audience"])
    for claim in ("wlcg.ver", "wlcg.groups", "client_id"):
        enforcer.add_validator(claim, lambda _: True)

    def verify(algorithm, token):
        read = scitokens.SciToken.deserialize(token, public_key=keys[algorithm])
        if not enforcer.generate_acls(read):
            raise ValueError(str(enforcer.last_failure))

    return "scitokens " + version("scitokens"), verify


def library():
    """Signature and times by scitoken_deserialize, with the issuer's keys in its own cache; audience and scope by an enforcer."""
    lib = ctypes.CDLL("libSciTokens.so.0")
    lib.enforcer_create.restype = ctypes.c_void_p
    lib.scitoken_destroy.argtypes = [ctypes.c_void_p]
    lib.enforcer_set_validate_profile.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.enforcer_generate_acls.argtypes = [ctypes.c_void_p] * 4
    lib.enforcer_acl_free.argtypes = [ctypes.c_void_p]

    where = os.path.join(os.environ["XDG_CACHE_HOME"], "scitokens")
    os.makedirs(where, mode=0o700, exist_ok=True)
    later = int(time.time()) + 86400
    kept = json.dumps({"expires": later, "next_update": later, "jwks": setup["jwks"]})
    cache = sqlite3.connect(os.path.join(where, "scitokens_cpp.sqllite"))
    cache.execute("CREATE TABLE IF NOT EXISTS keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
    cache.execute("INSERT INTO keycache VALUES (?, ?)", (setup["issuer"], kept))
    cache.commit()
    cache.close()

    error = ctypes.c_char_p()
    issuers = (ctypes.c_char_p * 2)(setup["issuer"].encode(), None)
    audiences = (ctypes.c_char_p * 2)(setup["audience"].encode(), None)
    enforcer = lib.enforcer_create(setup["issuer"].encode(), audiences, ctypes.byref(error))
    lib.enforcer_set_validate_profile(enforcer, 3)  # WLCG_1_0

    def verify(_, token):
        read, acls = ctypes.c_void_p(), ctypes.c_void_p()
        if lib.scitoken_deserialize(token.encode(), ctypes.byref(read), issuers, ctypes.byref(error)):
            raise ValueError(error.value.decode())
        failed = lib.enforcer_generate_acls(enforcer, read, ctypes.byref(acls), ctypes.byref(error))
        lib.scitoken_destroy(read)
        if failed:
            raise ValueError(error.value.decode())
        lib.enforcer_acl_free(acls)

    return "libscitokens" + packaged("libscitokens0"), verify


def packaged(package):
    """A blank and the version of a Debian package; nothing where there is none to ask for."""
    if shutil.which("dpkg-query") is None:
        return ""
    told = subprocess.run(["dpkg-query", "-W", "-f", " ${Version}", package], capture_output=True, text=True)
    return told.stdout


def started(start):
    """What `start` gives, after it has verified each token once, or why it can't."""
    try:
        name, verify = start()
        for algorithm, token in setup["tokens"].items():
            verify(algorithm, token)
        return {"name": name}, verify
    except Exception as why:
        return {"missing": f"{type(why).__name__}: {why}"}, None


libraries = {"python": started(python), "library": started(library)}
print(json.dumps({kind: told for kind, (told, _) in libraries.items()}), flush=True)
for line in sys.stdin:
    kind, algorithm, count = line.split()
    verify, token = libraries[kind][1], setup["tokens"][algorithm]
    start = time.perf_counter()
    for _ in range(int(count)):
        verify(algorithm, token)
    print(time.perf_counter() - start, flush=True)

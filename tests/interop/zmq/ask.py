#!/usr/bin/env python3
"""Asks for tokens as fts_url_copy does: ZeroMQ's own library (pyzmq), and protobuf messages by Google's (FTS 3.14.4, fts3.events, proto2).

Arguments: the socket's path, a token's id, how often to ask in a row, and how many clients do so at once. Each question has a socket of
its own, as each fts_url_copy has. Standard output: a JSON list of [SECONDS, TYPE, TOKEN, EXPIRY, MESSAGE], where TOKEN is the first 16 hex
digits of the token's SHA-1.
"""

import hashlib
import json
import os
import socket
import sys
import threading
import time

import zmq
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

WITHIN_MS = 60_000

FIELD = descriptor_pb2.FieldDescriptorProto


def messages():
    """The two messages."""
    file = descriptor_pb2.FileDescriptorProto(name="refresh.proto", package="fts3.events", syntax="proto2")
    request = file.message_type.add(name="TokenRefreshRequest")
    for number, (name, kind) in enumerate(
        [
            ("token_id", FIELD.TYPE_STRING),
            ("job_id", FIELD.TYPE_STRING),
            ("file_id", FIELD.TYPE_UINT64),
            ("hostname", FIELD.TYPE_STRING),
            ("process_id", FIELD.TYPE_INT32),
        ],
        1,
    ):
        request.field.add(name=name, number=number, type=kind, label=FIELD.LABEL_REQUIRED)
    response = file.message_type.add(name="TokenRefreshResponse")
    kinds = response.enum_type.add(name="TokenRefreshResponseType")
    kinds.value.add(name="TYPE_ACCESS_TOKEN", number=0)
    kinds.value.add(name="TYPE_REFRESH_FAILURE", number=1)
    for number, (name, kind, label) in enumerate(
        [
            ("token_id", FIELD.TYPE_STRING, FIELD.LABEL_REQUIRED),
            ("response_type", FIELD.TYPE_ENUM, FIELD.LABEL_REQUIRED),
            ("access_token", FIELD.TYPE_STRING, FIELD.LABEL_OPTIONAL),
            ("expiry_timestamp", FIELD.TYPE_UINT64, FIELD.LABEL_OPTIONAL),
            ("refresh_message", FIELD.TYPE_STRING, FIELD.LABEL_OPTIONAL),
            ("refresh_timestamp", FIELD.TYPE_UINT64, FIELD.LABEL_OPTIONAL),
        ],
        1,
    ):
        field = response.field.add(name=name, number=number, type=kind, label=label)
        if kind == FIELD.TYPE_ENUM:
            field.type_name = ".fts3.events.TokenRefreshResponse.TokenRefreshResponseType"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [pool.FindMessageTypeByName(f"fts3.events.{name}") for name in ("TokenRefreshRequest", "TokenRefreshResponse")]
    return [message_factory.GetMessageClass(descriptor) for descriptor in found]


def ask(context, path, token_id, request_of, response_of):
    """One question and its answer."""
    asking = context.socket(zmq.REQ)
    asking.setsockopt(zmq.LINGER, 0)
    asking.setsockopt(zmq.RCVTIMEO, WITHIN_MS)
    asking.connect(f"ipc://{path}")
    request = request_of(token_id=token_id, job_id="j", file_id=1, hostname=socket.gethostname(), process_id=os.getpid())
    began = time.monotonic()
    asking.send(request.SerializeToString())
    response = response_of.FromString(asking.recv())
    took = time.monotonic() - began
    asking.close()
    assert response.token_id == token_id, "the answer is about another token"
    kind = response_of.TokenRefreshResponseType.Name(response.response_type)
    token = hashlib.sha1(response.access_token.encode()).hexdigest()[:16] if response.access_token else None
    return [took, kind, token, response.expiry_timestamp, response.refresh_message]


def main():
    path, token_id, in_a_row, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    context, (request_of, response_of), answers = zmq.Context(), messages(), []

    def client():
        for _ in range(in_a_row):
            answers.append(ask(context, path, token_id, request_of, response_of))

    clients = [threading.Thread(target=client) for _ in range(at_once)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert len(answers) == in_a_row * at_once, "a client got no answer"
    json.dump(answers, sys.stdout)


main()

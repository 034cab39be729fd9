"""Users, roles and what they may do. The etcd3 package only authenticates: the rest goes through its stubs."""

import queue

import etcd3
import etcd3.etcdrpc as rpc

READ, WRITE, READWRITE = (rpc.auth_pb2.Permission.READ, rpc.auth_pb2.Permission.WRITE, rpc.auth_pb2.Permission.READWRITE)


def permission(kind, key, end=b""):
    return rpc.auth_pb2.Permission(permType=kind, key=key, range_end=end)


def enable(etcd):
    """Root is the one user."""
    auth = rpc.AuthStub(etcd.channel)
    auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="pw"))
    auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    auth.AuthEnable(rpc.AuthEnableRequest())


def run(etcd, connect, say, failure):
    auth = rpc.AuthStub(etcd.channel)

    def call(method, request, metadata=None):
        """The answer without its header, or the error."""
        answer = failure(getattr(auth, method), request, metadata=metadata)
        return answer if isinstance(answer, str) else {field.name: value for field, value in answer.ListFields()
                                                       if field.name not in ("header", "token")}

    say("without users", call("AuthEnable", rpc.AuthEnableRequest()), call("AuthDisable", rpc.AuthDisableRequest()),
        call("Authenticate", rpc.AuthenticateRequest(name="root", password="pw")))
    for name, password in (("root", "pw"), ("ann", "a"), ("ann", "b"), ("bob", "b"), ("", "x")):
        say("user", name, call("UserAdd", rpc.AuthUserAddRequest(name=name, password=password)))
    for role in ("root", "some", "some", ""):
        say("role", role, call("RoleAdd", rpc.AuthRoleAddRequest(name=role)))
    for granted in (permission(READ, b"r/", b"r0"), permission(WRITE, b"w"), permission(READWRITE, b"b/", b"b0")):
        say("grant", call("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="some", perm=granted)))
    say("role", len(auth.RoleGet(rpc.AuthRoleGetRequest(role="some")).perm), call("RoleGet", rpc.AuthRoleGetRequest(role="none")))
    for user, role in (("root", "root"), ("ann", "some"), ("ann", "none"), ("none", "some")):
        say("grant", user, role, call("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role)))
    say("users", list(auth.UserList(rpc.AuthUserListRequest()).users), list(auth.RoleList(rpc.AuthRoleListRequest()).roles),
        list(auth.UserGet(rpc.AuthUserGetRequest(name="ann")).roles))
    etcd.put("r/1", "readable")
    etcd.put("secret", "x")
    say("enable", call("AuthEnable", rpc.AuthEnableRequest()))

    say("nobody", failure(etcd.get, "r/1"), failure(etcd.put, "w", "x"), failure(etcd.compact, 1), failure(etcd.status) is not None)
    say("wrong", failure(connect, user="ann", password="b"), failure(connect, user="none", password="b"))
    tokens = {}
    for user, password in (("root", "pw"), ("ann", "a"), ("bob", "b")):
        tokens[user] = (("token", auth.Authenticate(rpc.AuthenticateRequest(name=user, password=password)).token),)

    kv = rpc.KVStub(etcd.channel)
    requests = {
        "get r/1": (kv.Range, rpc.RangeRequest(key=b"r/1")),
        "get r/": (kv.Range, rpc.RangeRequest(key=b"r/", range_end=b"r0")),
        "get all": (kv.Range, rpc.RangeRequest(key=b"\0", range_end=b"\0")),
        "get secret": (kv.Range, rpc.RangeRequest(key=b"secret")),
        "put w": (kv.Put, rpc.PutRequest(key=b"w", value=b"1")),
        "put w with the old one": (kv.Put, rpc.PutRequest(key=b"w", value=b"2", prev_kv=True)),
        "put r/1": (kv.Put, rpc.PutRequest(key=b"r/1", value=b"1")),
        "put b/1": (kv.Put, rpc.PutRequest(key=b"b/1", value=b"1", prev_kv=True)),
        "delete b/": (kv.DeleteRange, rpc.DeleteRangeRequest(key=b"b/", range_end=b"b0")),
        "transaction": (kv.Txn, rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"b/2", value=b"1")),
                                                        rpc.RequestOp(request_range=rpc.RangeRequest(key=b"secret"))])),
        "compact": (kv.Compact, rpc.CompactionRequest(revision=1)),
        "defragment": (etcd.maintenancestub.Defragment, rpc.DefragmentRequest()),
        "hash": (etcd.maintenancestub.HashKV, rpc.HashKVRequest()),
        "members": (etcd.clusterstub.MemberList, rpc.MemberListRequest()),
        "users": (auth.UserList, rpc.AuthUserListRequest()),
        "her roles": (auth.UserGet, rpc.AuthUserGetRequest(name="ann")),
        "disable": (auth.AuthDisable, rpc.AuthDisableRequest()),
    }
    for name, (method, request) in requests.items():
        for user in ("bob", "ann"):
            answer = failure(method, request, metadata=tokens[user])
            say(user, name, answer if isinstance(answer, str) else "done")

    if etcd.uses_secure_channel:  # in clear grpcio refuses to send what the package calls credentials
        as_ann(connect, say, failure, lambda value: kv.Put(rpc.PutRequest(key=b"b/1", value=value), metadata=tokens["root"]))
    say("a token that is none", failure(kv.Range, rpc.RangeRequest(key=b"r/1"), metadata=(("token", "nonsense"),)))

    root = tokens["root"]
    say("password", call("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="ann", password="c"), root),
        call("Authenticate", rpc.AuthenticateRequest(name="ann", password="a")),
        call("Authenticate", rpc.AuthenticateRequest(name="ann", password="c")))
    root = (("token", auth.Authenticate(rpc.AuthenticateRequest(name="root", password="pw")).token),)
    say("revoke", call("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="some", key=b"w"), root),
        call("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="some", key=b"w"), root),
        call("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="ann", role="some"), root),
        call("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="ann", role="some"), root))
    say("delete", call("RoleDelete", rpc.AuthRoleDeleteRequest(role="some"), root),
        call("RoleDelete", rpc.AuthRoleDeleteRequest(role="some"), root),
        call("UserDelete", rpc.AuthUserDeleteRequest(name="bob"), root),
        call("UserDelete", rpc.AuthUserDeleteRequest(name="root"), root))
    say("disable", call("AuthDisable", rpc.AuthDisableRequest(), root), failure(etcd.get, "r/1")[0])
    say("afterwards", call("UserDelete", rpc.AuthUserDeleteRequest(name="root")), call("RoleDelete", rpc.AuthRoleDeleteRequest(role="root")),
        call("UserDelete", rpc.AuthUserDeleteRequest(name="ann")), list(auth.UserList(rpc.AuthUserListRequest()).users))


def as_ann(connect, say, failure, put):
    with connect(user="ann", password="a") as ann:
        say("as ann", failure(ann.put, "b/1", "2") is not None, failure(ann.get, "secret"), failure(ann.put, "r/1", "x"),
            failure(ann.get, "b/1")[0])
        told = queue.Queue()
        ann.add_watch_callback("b/1", told.put)
        put(b"3")
        say("told", [event.value for event in told.get(timeout=60).events])
        say("watch what she may not read", failure(ann.add_watch_callback, "secret", told.put))
        lease = ann.lease(60)
        ann.put("b/leased", "x", lease=lease)
        say("lease", lease.keys, failure(lease.revoke))
